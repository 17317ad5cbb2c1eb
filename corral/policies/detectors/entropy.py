"""Secrets without a format: a value that looks random, in the place of something named a secret.

``password = "…"``, ``"api_key": "…"``, ``DB_PASSWORD=…``, ``--token …``, ``<secret>…</secret>`` and
"the password is …". A random value alone is no sign: hashes, ids, images and minified code look the
same. So there must be a name before it, and what is usually there in place of a secret is let be: a
variable, a call, a path, an address, a word, a UUID, a template, a masked value, a cursor.

How random a value is, is judged by detect-secrets (Shannon entropy over its alphabets), and so is
what it knows to be none. It takes a quarter of a second to import, and is loaded when a value has
got that far.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module

from corral.policies.detectors.spans import Span

KIND = "credential"

SHORTEST = 8
_LONGEST = 256
_LONGEST_NAME = 80
_RANDOM_WORD = 20
"""From this length on letters alone can be random enough."""

_TRIGGERS = (b"passw", b"passph", b"pwd", b"secret", b"token", b"credential", b"key")
_NAMES = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|token|credentials?|key)"
)
_KEYS = re.compile(
    r"(?:api|access|auth|private|secret|signing|encryption|client|account|master)[_ -]?\Z",
    re.IGNORECASE,
)
"""What a key must be for to be a secret."""

_NAME = re.compile(rf"{_NAMES}(?:[_-]?\d{{1,2}})?(?![A-Za-z0-9])", re.IGNORECASE)
_NO_SECRETS = re.compile(
    r"(?:next|page|paging|pagination|continuation|continue|sync|cursor|resume|start|end|stop|last"
    r"|first|max|min|prev|previous|skip|change|delta|progress|idempotency|eos|bos|pad|unk|sep|cls"
    r"|mask|special|input|output|cancell?ation|public)[_ .-]?\Z",
    re.IGNORECASE,
)
"""What comes before ``token`` where it is a place in a list, or a word of a language model."""

_ASSIGN = re.compile(r"\\?[\"'`]?\]?(?:[ \t]{0,3}(?:=>|:=|=|:)[ \t]{0,3}|[ ]is[ ]:?[ ]?|>)")
_OPTION = re.compile(r"[ \t]{1,3}")
_QUOTED = re.compile(r"(?P<quote>\\?[\"'`])(?P<value>(?:[^\n\\]|\\.){8,256}?)(?P=quote)")
_BARE = re.compile(r"(?P<value>(?:[^\s\"'`\\,;<>(){}\[\]&|]|&(?![\w.-]{1,40}=)){8,257}+)")
_OPTION_BEFORE = re.compile(r"--[A-Za-z0-9_-]*")

_PATH = re.compile(r"[~.]{0,2}/|[A-Za-z]:\\|.*\.[A-Za-z]{2,5}\Z|[\w.-]+://", re.DOTALL)
_TEMPLATE = re.compile(
    r"[$%@<{*]|.*(?:\$\{|\{\{|%\(|\*\*\*|xxxx|\.\.\.|redacted|…)", re.I | re.DOTALL
)
_NAME_IN_CODE = r"_{0,2}[A-Za-z]+(?:_[A-Za-z]+)*_?\d{0,3}"
_DOTTED = re.compile(rf"{_NAME_IN_CODE}(?:\.{_NAME_IN_CODE})+")
_IDENTIFIER = re.compile(_NAME_IN_CODE)
_WORDS = re.compile(r"[A-Za-z]+(?:[-_ .][A-Za-z]+)*")

_ALPHABET = string.printable
_LEAST = 2.2
_LEAST_OF_LETTERS = 3.8


def find_keyed(text: str) -> Iterator[Span]:
    """Values in ``text`` that look random and stand where something named a secret is expected."""
    mask = text.encode("ascii", "replace").lower()
    for trigger in _TRIGGERS:
        at = mask.find(trigger)
        while at >= 0:
            span = _value_after(text, at)
            if span is not None:
                yield span
            at = mask.find(trigger, at + len(trigger))


def may_name_secret(text: str) -> bool:
    """Whether anything in ``text`` can be such a name: cheap, and mostly the answer is no."""
    mask = text.encode("ascii", "replace").lower()
    return any(trigger in mask for trigger in _TRIGGERS)


def names_secret(name: str) -> bool:
    """Whether the value of a JSON object's member with this name is expected to be a secret."""
    return len(name) <= _LONGEST_NAME and _names_secret(name)


@lru_cache(maxsize=4096)
def _names_secret(name: str) -> bool:
    found = (match for match in _NAME.finditer(name) if match.end() == len(name))
    return any(_is_secret(match[0], name[: match.start()]) for match in found)


def looks_random(value: str, *, quoted: bool = True) -> bool:
    """Whether a value in the place of a secret is one. One that is not quoted may be code."""
    if not SHORTEST <= len(value) <= _LONGEST or any(map(str.isspace, value)):
        return False
    if _TEMPLATE.match(value) or _PATH.match(value) or _DOTTED.fullmatch(value):
        return False
    if _WORDS.fullmatch(value) and not _is_random_letters(value):
        return False
    if not quoted and _IDENTIFIER.fullmatch(value) and not _is_random_letters(value):
        return False
    return not value.isdigit() and _is_random(value)


def _value_after(text: str, at: int) -> Span | None:
    name = _NAME.match(text, at)
    if name is None or not _is_secret(name[0], text[max(0, at - 20) : at]):
        return None
    assign = _ASSIGN.match(text, name.end())
    if assign is None and _is_option(text[max(0, at - 64) : at]):
        assign = _OPTION.match(text, name.end())
    if assign is None:
        return None
    value = _QUOTED.match(text, assign.end())
    quoted = value is not None
    value = value or _BARE.match(text, assign.end())
    if value is None or (not quoted and text[value.end() : value.end() + 1] in ("(", "[", "{")):
        return None
    start, end = value.span("value")
    if not quoted:
        end = start + len(value["value"].rstrip(".:!?"))
    return Span(start, end, KIND) if looks_random(text[start:end], quoted=quoted) else None


def _is_option(before: str) -> bool:
    start = before.rfind("--")
    return start >= 0 and _OPTION_BEFORE.fullmatch(before, start) is not None


def _is_secret(name: str, before: str) -> bool:
    if name[:3].lower() == "key" and not _KEYS.search(before):
        return False
    return not _NO_SECRETS.search(before)


def _is_random_letters(value: str) -> bool:
    mixed = value != value.lower() and value != value.upper()
    return len(value) >= _RANDOM_WORD and mixed and _entropy(value) >= _LEAST_OF_LETTERS


def _is_random(value: str) -> bool:
    heuristic = import_module("detect_secrets.filters.heuristic")
    if heuristic.is_potential_uuid(value) or heuristic.is_sequential_string(value):
        return False
    if heuristic.is_templated_secret(value) or heuristic.is_not_alphanumeric_string(value):
        return False
    return _entropy(value) >= _LEAST


def _entropy(value: str) -> float:
    """In bits for each character."""
    plugins = import_module("detect_secrets.plugins.high_entropy_strings")
    plugin = plugins.Base64HighEntropyString()
    plugin.charset = _ALPHABET
    return float(plugin.calculate_shannon_entropy(value))
