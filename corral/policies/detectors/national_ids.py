"""Numbers that a state gives a person, checked by python-stdnum.

One that has a shape of its own is found anywhere; one that is digits only, where its name stands
before it: every tenth number of eleven digits would pass some country's check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module

from corral.policies.detectors.spans import Span

_KIND = "national-id"

_SHAPED = {
    "us.ssn": r"[0-9]{3}-[0-9]{2}-[0-9]{4}",
    "br.cpf": r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
    "cl.rut": r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9Kk]",
    "it.codicefiscale": r"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]",
    "es.dni": r"[0-9]{8}-?[A-HJ-NP-TV-Z]",
    "es.nie": r"[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]",
    "fr.nir": r"[12] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
    "ch.ssn": r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}",
    "be.nn": r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}",
    "fi.hetu": r"[0-9]{6}[-+A][0-9]{3}[0-9A-Y]",
    "se.personnummer": r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}",
    "kr.rrn": r"[0-9]{6}-[0-9]{7}",
    "mx.curp": r"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[A-Z0-9][0-9]",
    "cn.ric": r"[1-9][0-9]{16}[0-9X]",
}
_PATTERNS = {module: re.compile(rf"{shape}(?!\w|[.-][0-9])") for module, shape in _SHAPED.items()}
_ANY_SHAPE = re.compile("|".join(f"(?:{shape})" for shape in _SHAPED.values()))

_BEGINNING_WITH_LETTERS = re.compile(r"[A-Z](?:-?[0-9]{7}|[A-Z]{3}(?:[0-9]{6}|[A-Z]{2}[0-9]{2}))")
_GROUP = re.compile(r"[0-9A-Z]+")

_NAMED = {
    "us.ssn": "ssn|social security",
    "ca.sin": "social insurance",
    "br.cpf": "cpf",
    "pl.pesel": "pesel",
    "nl.bsn": "bsn|burgerservicenummer",
    "de.idnr": "steuer-id|steuerid|steueridentifikationsnummer|steuerliche identifikationsnummer",
    "in_.aadhaar": "aadhaar",
    "dk.cpr": "cpr",
    "no.fodselsnummer": "fødselsnummer|fodselsnummer",
    "se.personnummer": "personnummer",
    "tr.tckimlik": "kimlik|tckn",
    "gb.nhs": "nhs",
    "fr.nir": "sécurité sociale|numéro de sécu|securite sociale",
    "cz.rc": "rodné číslo|rodne cislo",
    "bg.egn": "egn",
    "ro.cnp": "cnp",
    "hr.oib": "oib",
    "gr.amka": "amka",
    "be.nn": "rijksregister|registre national|numéro national",
    "za.idnr": "sa id|south african id",
    "au.tfn": "tfn|tax file number",
    "il.idnr": "teudat zehut",
}
_NAMES = tuple((name, module) for module, names in _NAMED.items() for name in names.split("|"))
_NUMBER = re.compile(r"[0-9](?:[ .\-/]?[0-9]){7,14}+(?!\w)")
_SEPARATOR = re.compile(r"[ ./-]")
_NEAR = 40
"""Characters before a number in which its name may stand."""


def find_national_ids(text: str, runs: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """All pieces of ``text`` that are such numbers; they may overlap.

    ``runs`` are the bounds of all pieces that begin with a digit and are mostly digits.
    """
    for start, end in runs:
        if _ANY_SHAPE.search(text, start, end):
            for group in _GROUP.finditer(text, start, end):
                yield from _shaped_at(text, group.start())
    for match in _BEGINNING_WITH_LETTERS.finditer(text):
        yield from _shaped_at(text, match.start())
    if runs:
        yield from _named(text, runs)


def _shaped_at(text: str, start: int) -> Iterator[Span]:
    if not _ANY_SHAPE.match(text, start):
        return
    before = text[max(0, start - 2) : start]
    if before[-1:] in ("_", ".") or (before[-1:].isalnum() and before != "\\n"):
        return
    for module, pattern in _PATTERNS.items():
        match = pattern.match(text, start)
        if match and _is_valid(module, match.group()):
            yield Span(*match.span(), _KIND)


def _named(text: str, runs: Sequence[tuple[int, int]]) -> Iterator[Span]:
    lower = text.lower()
    names = [(name, module) for name, module in _NAMES if name in lower]
    for run in runs if names else ():
        for start, end in (match.span() for match in _NUMBER.finditer(text, *run)):
            near = text[max(0, start - _NEAR) : start].lower()
            for name, module in names:
                if name in near and _is_valid(module, _SEPARATOR.sub("", text[start:end])):
                    yield Span(start, end, _KIND)


@lru_cache(maxsize=4096)
def _is_valid(module: str, number: str) -> bool:
    return bool(import_module(f"stdnum.{module}").is_valid(number))
