"""Placeholders: what stands for a value that was redacted.

    [redacted:secret]        a secret of this process's own: nothing turns it back
    [redacted:card#k3x9qa]   a value found in what was read: the thread's vault knows which

The tag is made of the value with a key (``runtime/vault.py``), so that it is the same for the same
value in a thread, and nobody can write one down that they were not given. A number that counts
could be guessed by a web page, and would stand for something else in every other thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from corral.jsontypes import Json, JsonObject
from corral.policies.detectors import entropy
from corral.policies.detectors.personal import PERSONAL_KINDS
from corral.policies.detectors.secret_formats import KINDS as FORMATS
from corral.policies.texts import changed, texts_of

KNOWN = "secret"
"""The kind of secrets that this process knows."""

KINDS = frozenset({*FORMATS, *PERSONAL_KINDS, entropy.KIND, KNOWN})
TAG_LENGTH = 6

_KIND = "|".join(sorted(KINDS))
PLACEHOLDER = re.compile(rf"\[redacted:(?:{_KIND})(?:#[a-z2-7]{{{TAG_LENGTH}}})?\]")
_WITH_TAG = re.compile(rf"\[redacted:(?:{_KIND})#[a-z2-7]{{{TAG_LENGTH}}}\]")


class Keeper(Protocol):
    """Keeps the values that placeholders stand for."""

    def keep(self, kind: str, value: str) -> str:
        """The placeholder of a value, the same one every time."""
        ...

    @property
    def wanted(self) -> Sequence[tuple[str, str]]:
        """Values to look for wherever they stand, as (kind, value); it only grows."""
        ...


def placeholder(kind: str, tag: str = "") -> str:
    """What is written for a value of ``kind``."""
    return f"[redacted:{kind}#{tag}]" if tag else f"[redacted:{kind}]"


def tagged_in(value: Json) -> frozenset[str]:
    """All placeholders in a JSON value that may stand for a value of a vault."""
    return frozenset(found for text in texts_of(value) for found in _WITH_TAG.findall(text))


def revealed(args: JsonObject, resolve: Callable[[str], str | None]) -> JsonObject:
    """The arguments with the values in place of the placeholders that ``resolve`` knows."""

    def reveal(item: Any, _name: str) -> Json:
        if not isinstance(item, str):
            return cast("Json", item)
        return _WITH_TAG.sub(lambda match: resolve(match.group()) or match.group(), item)

    return cast("JsonObject", changed(args, reveal))
