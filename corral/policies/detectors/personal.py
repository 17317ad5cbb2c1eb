"""Where a text holds personal data: what a checksum proves, and, if asked for, what only looks so.

``card`` (Luhn, and a number range of a card network), ``iban`` (ISO 13616) and ``national-id`` have
a checksum or a shape that nothing else has. ``vat``, ``email``, ``phone`` and ``ip`` are everyday
material of agents, so they are found only if they are asked for.

The checks are python-stdnum's and phonenumbers', which are loaded when a candidate is there. All
candidates are found in linear time, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from ipaddress import ip_address
from typing import Literal, get_args

from corral.policies.detectors.national_ids import find_national_ids
from corral.policies.detectors.spans import Span

PersonalKind = Literal["card", "iban", "national-id", "vat", "email", "phone", "ip"]
PERSONAL_KINDS: tuple[PersonalKind, ...] = get_args(PersonalKind)
CHECKED_KINDS: tuple[PersonalKind, ...] = ("card", "iban", "national-id")
"""The kinds that are told apart from everything else by a checksum or their shape."""


@dataclass(frozen=True)
class Personal:
    """What personal data is looked for. ``region`` (``DE``) is where numbers without a + are."""

    kinds: frozenset[PersonalKind] = frozenset()
    region: str | None = None

    def find(self, text: str) -> Iterator[Span]:
        """All pieces of ``text`` that are personal data of these kinds; they may overlap."""
        if "email" in self.kinds:
            yield from _emails(text)
        if "ip" in self.kinds:
            yield from _addresses(text)
        if "iban" in self.kinds:
            yield from _ibans(text)
        if "vat" in self.kinds:
            yield from _vat_numbers(text)
        runs = [match.span() for match in _NUMBERS.finditer(text)]
        if "national-id" in self.kinds:
            yield from find_national_ids(text, runs)
        for start, end in runs:
            if "card" in self.kinds and end - start >= _SHORTEST_CARD:
                yield from _cards(text, start, end)
        if "phone" in self.kinds:
            yield from _phones(text, self.region)


NOTHING_PERSONAL = Personal()

_NUMBERS = re.compile(r"[0-9](?:[ .+/-]?[0-9A-Z]){8,}+")

_DIGIT_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){12,}+")
_GROUP = re.compile(r"[0-9]+")
_SHORTEST_CARD, _LONGEST_CARD = 13, 19 + 4
_CARD_GROUPS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4))
_CARD_RANGES = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15})|5[1-5][0-9]{14}"
    r"|(?:222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|35(?:2[89]|[3-8][0-9])[0-9]{12}"
    r"|6(?:011|5[0-9]{2}|4[4-9][0-9])[0-9]{12}|62[0-9]{14}"
)


def _cards(text: str, begin: int, stop: int) -> Iterator[Span]:
    for run in _DIGIT_RUN.finditer(text, begin, stop):
        groups = [match.span() for match in _GROUP.finditer(text, *run.span())]
        for index, group in enumerate(groups):
            for start, end in (group, *_grouped(groups[index : index + 4])):
                if _is_card(text, start, end):
                    yield Span(start, end, "card")


def _grouped(groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The bounds of a number that begins with the first of these groups of digits."""
    for lengths in _CARD_GROUPS:
        window = groups[: len(lengths)]
        if tuple(end - start for start, end in window) == lengths:
            yield window[0][0], window[-1][1]


def _is_card(text: str, start: int, end: int) -> bool:
    if not _SHORTEST_CARD <= end - start <= _LONGEST_CARD or not _stands_alone(text, start, end):
        return False
    digits = text[start:end].replace(" ", "").replace("-", "")
    return _CARD_RANGES.fullmatch(digits) is not None and _is_valid("luhn", digits)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a number is a word of its own, and no part of a name or of a decimal number."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if before == "n" and start > 1 and text[start - 2] == "\\":
        before = ""  # of an escaped line break
    if before.isalnum() or before == "_" or after.isalnum() or after == "_":
        return False
    if before == "." and start > 1 and text[start - 2].isdigit():
        return False
    return not (after == "." and text[end + 1 : end + 2].isdigit())


_IBAN_HEAD = re.compile(r"[A-Z]{2}[0-9]{2}(?=[ -]?[A-Z0-9]{4})")
_IBAN_BODY = re.compile(r"(?:[ -]?[A-Z0-9]){11,30}")


def _ibans(text: str) -> Iterator[Span]:
    for head in _IBAN_HEAD.finditer(text):
        body = _IBAN_BODY.match(text, head.end())
        if body is None:
            continue
        ends = [body.end()]
        ends += [at for at in range(body.end() - 1, head.end() + 10, -1) if text[at] in " -"]
        for end in ends:  # what follows after a space may be the next word
            if _stands_alone(text, head.start(), end) and _is_valid(
                "iban", text[head.start() : end]
            ):
                yield Span(head.start(), end, "iban")
                break


_VAT = re.compile(r"(?<![A-Z0-9])[A-Z]{2}[ ]?[0-9A-Z][0-9A-Z.]{6,12}[0-9A-Z]")


def _vat_numbers(text: str) -> Iterator[Span]:
    for match in _VAT.finditer(text):
        if _stands_alone(text, *match.span()) and _is_valid("eu.vat", match.group()):
            yield Span(*match.span(), "vat")


_LOCAL_PART = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{0,63}\Z|[^\W\d_][\w.+-]{0,63}\Z"
)
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,63}(?![\w-])")


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        local = _LOCAL_PART.search(text[max(0, at - 64) : at]) if domain else None
        if domain and local:
            yield Span(at - len(local.group()), domain.end(), "email")
        at = text.find("@", at + 1)


_IP4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9])")
_IP6 = re.compile(r"[0-9A-Fa-f:]{3,39}+(?:%\w{1,15})?")


def _addresses(text: str) -> Iterator[Span]:
    for match in _IP4.finditer(text) if "." in text else ():
        if _stands_alone(text, *match.span()) and _is_of_a_machine(match.group()):
            yield Span(*match.span(), "ip")
    if re.search(r":[0-9A-Fa-f]{0,4}:", text):
        for match in _IP6.finditer(text):
            whole = match.group().partition("%")[0].strip(":") if match else ""
            if match.group().count(":") >= 2 and _is_of_a_machine(match.group()) and whole:
                yield Span(*match.span(), "ip")


def _is_of_a_machine(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


_PHONE = re.compile(r"[+(0-9](?:[ ().\-/]{0,2}[0-9]){6,17}+")


def _phones(text: str, region: str | None) -> Iterator[Span]:
    for match in _PHONE.finditer(text):
        if _stands_alone(text, *match.span()) and _is_phone(match.group(), region):
            yield Span(*match.span(), "phone")


@lru_cache(maxsize=4096)
def _is_phone(number: str, region: str | None) -> bool:
    phonenumbers = import_module("phonenumbers")
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_valid_number(parsed))


@lru_cache(maxsize=4096)
def _is_valid(module: str, number: str) -> bool:
    return bool(import_module(f"stdnum.{module}").is_valid(number))
