"""Edits in the text of a JSON file that leave everything else as it is: comments, order, spaces.

The text is read by the JSON decoder of the standard library, value by value along a path, so that
the place of each member is known. Comments and commas before a closing bracket, which some clients
allow, are first blanked out, which moves nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from corral.errors import ConfigError
from corral.jsontypes import Json, JsonObject

# Closing is optional, so that each match begins where the one before ended, whatever the text.
_STRING = r'"(?:[^"\\\n]|\\[^\n])*"?'
_COMMENTS = re.compile(rf"({_STRING})|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_LAST_COMMAS = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_INDENT = re.compile(r"\n([ \t]+)\S")
_NOT_BREAK = re.compile(r"[^\n]")
_DECODER = json.JSONDecoder()
_DEFAULT_INDENT = "  "


class BrokenJsonError(ConfigError):
    """The text is no JSON; the message says where."""


@dataclass(frozen=True)
class _Member:
    """Where one member stands: its key (or value, in an array), its value, and behind it."""

    start: int
    value: int
    end: int


@dataclass(frozen=True)
class _Container:
    """An object or array from its opening bracket to its closing one."""

    start: int
    end: int
    members: dict[str, _Member]


@dataclass(frozen=True)
class JsonText:
    """A JSON document. ``comments``: whether the program that reads it allows them.

    ``plain`` is the text of the same length without comments and last commas.
    """

    text: str
    comments: bool
    plain: str
    value: JsonObject

    @classmethod
    def of(cls, text: str, *, comments: bool = False) -> JsonText:
        """Read a document; an empty one is an empty object. Raises ``BrokenJsonError``."""
        text = text if text.strip() else "{}\n"
        plain = _LAST_COMMAS.sub(_blanked, _without_comments(text)) if comments else text
        try:
            value = json.loads(plain)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise BrokenJsonError(f"{where}: {error.msg}") from None
        except (ValueError, RecursionError):
            raise BrokenJsonError("it holds a number or a nesting beyond all measure") from None
        if not isinstance(value, dict):
            raise BrokenJsonError("line 1: it holds no object")
        return cls(text, comments, plain, value)

    def put(self, path: tuple[str, ...], value: Json) -> JsonText:
        """The document with the member at ``path`` set; objects on the way are made.

        Raises ``BrokenJsonError`` where something else stands on the way.
        """
        container = self._container(0)
        for depth, key in enumerate(path):
            member = container.members.get(key)
            if member is None:
                whole: Json = value
                for name in reversed(path[depth + 1 :]):
                    whole = {name: whole}
                return self._inserted(container, json.dumps(key) + ": ", whole)
            if depth + 1 == len(path):
                return self._with(member.value, member.end, self._dumped(value, member.start))
            container = self._container_of(member, "{", path[: depth + 1])
        raise ValueError("an empty path")

    def append(self, path: tuple[str, ...], value: Json) -> JsonText:
        """The document with one more value at the end of the array at ``path``, made if need be."""
        found: Any = self.value
        for key in path:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        if not isinstance(found, list):
            return self.put(path, [value])
        member = self._member(path)
        assert member is not None
        return self._inserted(self._container_of(member, "[", path), "", value)

    def remove(self, path: tuple[str, ...]) -> JsonText:
        """The document without the member at ``path``; as it is when there is none."""
        member = self._member(path)
        if member is None:
            return self
        parent = self._member(path[:-1])
        container = self._container(parent.value if parent else 0)
        members = list(container.members.values())
        index = members.index(member)
        text, start, end = self.text, member.start, member.end
        if index + 1 < len(members):
            end = self.plain.index(",", end) + 1
        elif "," in (between := self._uncommented(end, container.end - 1)):
            end += between.index(",") + 1
        elif index:
            comma = self.plain.index(",", members[index - 1].end)
            text = text[:comma] + text[comma + 1 :]
            start, end = start - 1, end - 1
        return JsonText.of(_cut(text, start, end), comments=self.comments)

    # inside

    def _member(self, path: tuple[str, ...]) -> _Member | None:
        container, member = self._container(0), None
        for depth, key in enumerate(path):
            if member is not None:
                container = self._container_of(member, "{", path[:depth])
            member = container.members.get(key)
            if member is None:
                return None
        return member

    def _container_of(self, member: _Member, opening: str, path: tuple[str, ...]) -> _Container:
        if self.plain[member.value] != opening:
            wanted = "an object" if opening == "{" else "a list"
            line = self.text.count("\n", 0, member.value) + 1
            raise BrokenJsonError(f"line {line}: {'.'.join(path)} is not {wanted}")
        return self._container(member.value)

    def _container(self, start: int) -> _Container:
        """The object or array that begins at or after ``start``, with the places of its members."""
        plain, at = self.plain, self._space(start)
        start, named = at, self.plain[at] == "{"
        members: dict[str, _Member] = {}
        at = self._space(at + 1)
        while plain[at] not in "}]":
            begin, key = at, str(len(members))
            if named:
                key, at = _DECODER.raw_decode(plain, at)
                at = self._space(self._space(at) + 1)  # behind the colon
            _, end = _DECODER.raw_decode(plain, at)
            members[key] = _Member(begin, at, end)
            at = self._space(end)
            if plain[at] == ",":
                at = self._space(at + 1)
        return _Container(start, at + 1, members)

    def _space(self, at: int) -> int:
        match = _SPACE.match(self.plain, at)
        return match.end() if match else at

    def _inserted(self, container: _Container, key: str, value: Json) -> JsonText:
        """The document with one more member at the end of a container."""
        close = container.end - 1
        if not container.members:
            inside = self.text[container.start + 1 : close].rstrip()
            outer = self._indent_at(container.start)
            inner = outer + self._unit()
            body = key + _dump(value, inner, self._unit())
            return self._with(container.start + 1, close, f"{inside}\n{inner}{body}\n{outer}")
        last = list(container.members.values())[-1]
        comma = self._uncommented(last.end, close).find(",")
        behind = last.end if comma < 0 else last.end + comma + 1
        if self._line_start(last.start) == last.start:  # all on one line
            place, new = behind, f" {key}{json.dumps(value, ensure_ascii=False)}"
        else:
            inner = self._indent_at(last.start)
            place = self._after_comment(behind, close)
            new = f"\n{inner}{key}{_dump(value, inner, self._unit())}"
        separated = "," if comma < 0 else ""
        ended = "," if comma >= 0 else ""
        moved = self.text[behind:place]
        return self._with(behind, place, f"{separated}{moved}{new}{ended}")

    def _after_comment(self, at: int, limit: int) -> int:
        """The end of the line, so that a comment on it stays with what stands before it."""
        end = self.text.find("\n", at, limit)
        return at if end < 0 or "/*" in self.text[at:end] else end

    def _with(self, start: int, end: int, new: str) -> JsonText:
        return JsonText.of(self.text[:start] + new + self.text[end:], comments=self.comments)

    def _dumped(self, value: Json, at: int) -> str:
        return _dump(value, self._indent_at(at), self._unit())

    def _uncommented(self, start: int, end: int) -> str:
        """A stretch of the text without comments, but with the commas that ``plain`` lacks."""
        whole = _without_comments(self.text) if self.comments else self.text
        return whole[start:end]

    def _indent_at(self, at: int) -> str:
        """The white space that the line of ``at`` begins with."""
        begin = self.text.rfind("\n", 0, at) + 1
        line = self.text[begin:at]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _line_start(self, at: int) -> int:
        """Where the line of ``at`` begins, if there is only white space before it; else ``at``."""
        begin = self.text.rfind("\n", 0, at) + 1
        return begin if not self.text[begin:at].strip() else at

    def _unit(self) -> str:
        found = _INDENT.search(self.text)
        return found[1] if found else _DEFAULT_INDENT


def _dump(value: Json, indent: str, unit: str) -> str:
    lines = json.dumps(value, indent=unit, ensure_ascii=False).split("\n")
    return f"\n{indent}".join(lines)


def _cut(text: str, start: int, end: int) -> str:
    """``text`` without that stretch, and without its line when nothing else is on it."""
    begin = text.rfind("\n", 0, start) + 1
    behind = re.compile(r"[ \t]*(?:\r?\n)?").match(text, end)
    assert behind is not None
    if not text[begin:start].strip() and behind[0].endswith("\n"):
        return text[:begin] + text[behind.end() :]
    rest = text[end if behind[0].endswith("\n") else behind.end() :]
    return (text[:start].rstrip(" \t") if rest[:1] in ("}", "]") else text[:start]) + rest


def _without_comments(text: str) -> str:
    return _COMMENTS.sub(_blanked, text)


def _blanked(match: re.Match[str]) -> str:
    return match[1] or _NOT_BREAK.sub(" ", match[0])
