"""What the arguments of a tool call say: a page further on, a wait, an edit, another wording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from corral.jsontypes import Json, JsonObject, digest
from corral.policies.loops.lexicon import lexicon

_CURSORS = lexicon(
    """
    after before begin continuation cursor date day end end_line from index limit line month next
    next_cursor next_page next_token number offset page page_number page_token position since skip
    start start_line to token until week year
    """
)
_TARGETS = ("path", "file_path", "file", "filename", "target", "key", "name", "id")
_EDITS = lexicon("apply edit overwrite patch put replace save set toggle update write")
_ADDS = lexicon("add append insert log post send")
_WAITS = lexicon("delay pause sleep wait")
_WAITING = re.compile(
    r"\A\s*(?:sleep|timeout|start-sleep)\s+[-\w.]{1,20}\s*\Z|\b(?:time|asyncio)\.sleep\s*\(",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[^\s\"'`,;()\[\]{}<>|=]{1,200}")
_DIGITS = re.compile(r"\d{1,20}")

_SHORT = 200
"""Characters of a command that is a wait and nothing else."""

_READ = 20_000
"""Characters of a text whose words are known."""

_KNOWN = 10_000
"""Words after which older ones are forgotten."""

_ENDINGS = ".:!?"


@dataclass(frozen=True)
class Call:
    """A tool call: the tool's name (``SERVER__TOOL``) and the arguments."""

    tool: str
    args: JsonObject

    @cached_property
    def key(self) -> str:
        """Tells calls apart."""
        return f"{self.tool} {digest(self.args)}"

    @cached_property
    def is_wait(self) -> bool:
        """Whether the call only lets time pass: a tool for it, or a command."""
        if not _WAITS.isdisjoint(_name_words(self.tool)):
            return True
        texts = list(_texts(self.args))
        return sum(map(len, texts)) <= _SHORT and any(_WAITING.search(text) for text in texts)


def edited(call: Call) -> str | None:
    """What a call sets to another content, if that is what it does; it may be set back again."""
    words = _name_words(call.tool)
    if _EDITS.isdisjoint(words) or not _ADDS.isdisjoint(words) or len(call.args) < 2:
        return None
    target = next((call.args[key] for key in _TARGETS if key in call.args), None)
    return f"{target}" if isinstance(target, str | int) else None


def is_further_on(before: JsonObject, args: JsonObject, *, by_number: bool) -> bool:
    """Whether a call is for the next page, or ``by_number`` for the next of a numbered series.

    Nothing differs but cursors, or numbers inside of texts and paths.
    """
    changed = [key for key in {*before, *args} if before.get(key) != args.get(key)]
    return bool(changed) and all(
        key.lower() in _CURSORS or (by_number and _is_next_number(before.get(key), args.get(key)))
        for key in changed
    )


def _is_next_number(before: Json, now: Json) -> bool:
    if isinstance(before, int) and isinstance(now, int):
        return True
    if not isinstance(before, str) or not isinstance(now, str) or len(now) > _SHORT:
        return False
    return _DIGITS.sub("0", before) == _DIGITS.sub("0", now)


def is_same_in_other_words(before: JsonObject, args: JsonObject) -> bool:
    """Whether a call asks the same with other plain words, as a search for a synonym does."""
    changed = [key for key in {*before, *args} if before.get(key) != args.get(key)]
    return bool(changed) and all(_is_reworded(before.get(key), args.get(key)) for key in changed)


def _is_reworded(before: Json, now: Json) -> bool:
    if not isinstance(before, str) or not isinstance(now, str) or len(now) > _SHORT:
        return False
    old, new = set(before.lower().split()), set(now.lower().split())
    return bool(old & new) and all(word.isalpha() for word in old ^ new)


@lru_cache(maxsize=1024)
def _name_words(tool: str) -> frozenset[str]:
    return frozenset(re.split(r"[_\W]+", tool.rpartition("__")[2].lower()))


def _texts(value: Json, depth: int = 3) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for inner in value[:50]:
            yield from _texts(inner, depth - 1)


class Known:
    """The words that an agent has been given, by the user and in results.

    Who works through a list that was given takes its arguments from there; who guesses does not.
    """

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._older: set[str] = set()

    def learn(self, text: str) -> None:
        """The agent has read this."""
        self._words.update([word.rstrip(_ENDINGS) for word in {*_WORDS.findall(text[:_READ])}])
        if len(self._words) > _KNOWN:
            self._older, self._words = self._words, set()

    def names(self, before: JsonObject, args: JsonObject) -> bool:
        """Whether all that is new in the arguments was given: words, or the last of a path."""
        new = [text for key in args if args[key] != before.get(key) for text in _texts(args[key])]
        return bool(new) and all(self._names(text) for text in new)

    def _names(self, text: str) -> bool:
        words = [word.rstrip(_ENDINGS) for word in _WORDS.findall(text[:_SHORT])]
        return bool(words) and all(
            self._has(word) or self._has(word.rpartition("/")[2]) for word in words
        )

    def _has(self, word: str) -> bool:
        return word in self._words or word in self._older
