"""Front matter: the YAML between the two lines ``---`` at the top of a Markdown file.

It is read strictly and as JSON: no aliases, anchors or tags, no key twice, bounded in size and
depth. Of what is not quoted only ``true``, ``false``, ``null`` and plain numbers mean something
else than their text: ``no``, ``on``, ``1:30`` and dates are texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from corral.jsontypes import Json, JsonObject

MAX_CHARS = 16 * 1024
MAX_DEPTH = 16
MARK = "---"

Path = tuple[str | int, ...]
"""The keys and positions that lead to a value."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,3})?")
_WORDS: Mapping[str, Json] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class NotFrontMatterError(Exception):
    """It cannot be read: what is wrong, on which line of the file, and what to do."""

    def __init__(self, message: str, line: int, hint: str) -> None:
        super().__init__(message)
        self.message, self.line, self.hint = message, line, hint


@dataclass(frozen=True)
class Parts:
    """A Markdown file: its front matter as YAML, and what follows."""

    front: str
    body: str


@dataclass(frozen=True)
class FrontMatter:
    """What the front matter says, and on which line of the file each value begins."""

    data: JsonObject
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of a value, or of what it stands in."""
        ends = range(len(path), 0, -1)
        return next((self.lines[path[:end]] for end in ends if path[:end] in self.lines), None)


def split(text: str) -> Parts:
    """Part a Markdown file. Raises ``NotFrontMatterError``."""
    if not text.strip():
        raise NotFrontMatterError("the file is empty", 1, _HOW_TO_BEGIN)
    lines = text.splitlines()
    if lines[0].rstrip() != MARK:
        raise NotFrontMatterError("it does not begin with front matter", 1, _HOW_TO_BEGIN)
    end = next((at for at, line in enumerate(lines[1:], 1) if line.rstrip() == MARK), None)
    if end is None:
        raise NotFrontMatterError(
            "its front matter has no end", 1, f"Write a line {MARK} below the last key."
        )
    return Parts("\n".join(lines[1:end]), "\n".join(lines[end + 1 :]).strip())


_HOW_TO_BEGIN = (
    f"Begin with a line {MARK}, keys such as `description: …`, and another line {MARK}; the "
    "instructions follow. `corral agents new NAME` writes such a file."
)


def parse(front: str, is_text: Callable[[Path], bool]) -> FrontMatter:
    """Read front matter whose first line is the file's second.

    Where ``is_text`` holds, a number or a word such as ``true`` that is not quoted is a text, too.
    Raises ``NotFrontMatterError``.
    """
    if len(front) > MAX_CHARS:
        raise NotFrontMatterError(
            f"its front matter is longer than {MAX_CHARS} characters",
            1,
            f"Write the instructions below the second line {MARK}.",
        )
    try:
        return _Reading(yaml.parse(front, Loader=_LOADER), is_text).document()
    except yaml.YAMLError as error:
        raise _explained(error, front) from error


@dataclass
class _Reading:
    """Values made of the events of YAML, one after the other."""

    events: Iterator[Any]
    is_text: Callable[[Path], bool]
    lines: dict[Path, int] = field(default_factory=dict)

    def document(self) -> FrontMatter:
        next(self.events)  # the stream begins
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return FrontMatter({}, {})
        event = next(self.events)
        if not isinstance(event, yaml.MappingStartEvent):
            raise NotFrontMatterError(
                "its front matter has no keys",
                _line(event),
                "Write lines such as `name: reviewer`.",
            )
        data = self._value(event, ())
        assert isinstance(data, dict)
        next(self.events)  # the document ends
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise NotFrontMatterError(
                "its front matter is several documents", _line(after), "Keep one of them."
            )
        return FrontMatter(data, self.lines)

    def _value(self, event: Any, path: Path) -> Json:
        self._refuse(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        if event.implicit[0] and not (self.is_text(path) and event.value not in _NULLS):
            return _plain(event.value)
        return str(event.value)

    def _mapping(self, path: Path) -> JsonObject:
        found: JsonObject = {}
        for event in self._until(yaml.MappingEndEvent):
            self._refuse(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise NotFrontMatterError("a key is not a text", _line(event), "Write a word.")
            key = str(event.value)
            if key in found:
                before = self.lines[(*path, key)]
                raise NotFrontMatterError(
                    f"the key {key!r} is there twice, first in line {before}",
                    _line(event),
                    "Keep the one that you mean.",
                )
            self.lines[(*path, key)] = _line(event)
            found[key] = self._value(next(self.events), (*path, key))
        return found

    def _sequence(self, path: Path) -> list[Json]:
        found: list[Json] = []
        for event in self._until(yaml.SequenceEndEvent):
            inner = (*path, len(found))
            self.lines[inner] = _line(event)
            found.append(self._value(event, inner))
        return found

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def _refuse(self, event: Any, path: Path) -> None:
        """What JSON has not, and what nobody nests that deep."""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise NotFrontMatterError(
                "anchors (&) and aliases (*) are not read",
                _line(event),
                "Write the value out, or put the text into quotes.",
            )
        if event.tag is not None:
            raise NotFrontMatterError(
                f"the tag {event.tag} is not read",
                _line(event),
                "Leave it out; put the text into quotes if it begins with an exclamation mark.",
            )
        if len(path) > MAX_DEPTH:
            raise NotFrontMatterError(
                "values are nested too deeply", _line(event), "Write it flatter."
            )


_NULLS = tuple(word for word, meaning in _WORDS.items() if meaning is None)


def _plain(text: str) -> Json:
    """What a text that is not quoted means, as in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    return float(text) if number[2] or number[3] else int(text)


def _line(event: Any) -> int:
    """The line of the file: its first one is the mark."""
    return int(event.start_mark.line) + 2


def _explained(error: yaml.YAMLError, front: str) -> NotFrontMatterError:
    mark = getattr(error, "problem_mark", None)
    last = front.count("\n")
    if mark is None:
        return NotFrontMatterError(
            "it holds a character that YAML does not allow", _line_of_control(front), "Remove it."
        )
    said = str(getattr(error, "problem", "")) or "it cannot be read"
    return NotFrontMatterError(
        f"this is not valid YAML: {said}", min(int(mark.line), last) + 2, _remedy(said)
    )


def _remedy(said: str) -> str:
    if said.startswith("mapping values are not allowed"):
        return (
            'A text with a colon in it stands in quotes, as in `description: "Use it when: …"`, or '
            "below `description: >-`, indented."
        )
    if said.startswith("found character"):
        return "Indent with spaces, and put texts that begin with a special character into quotes."
    return "Correct this line; texts with special characters stand in quotes."


def _line_of_control(front: str) -> int:
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", front)
    return front.count("\n", 0, found.start() if found else 0) + 2
