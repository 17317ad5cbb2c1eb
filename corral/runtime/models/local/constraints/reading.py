"""Reads calls while a model writes them."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.jsontypes import JsonObject
from corral.runtime.models.local.constraints.parameters import is_text
from corral.runtime.models.local.constraints.syntax import (
    ID,
    ID_LENGTH,
    CallSyntax,
    ParameterSyntax,
)

_More = Generator[None, None, None]


class NotACallError(Exception):
    """The text is not written as calls are."""


@dataclass(frozen=True)
class Piece:
    """More of a call: its number, its name in its first piece, more of its arguments' JSON."""

    index: int
    name: str = ""
    args: str = ""


@dataclass
class WrittenCall:
    """A call as far as it was written. ``args`` is the JSON text of its arguments."""

    name: str
    args: str = ""
    ended: bool = False


@dataclass
class CallReader:
    """Takes a text in pieces and finds the calls in it, in linear time.

    ``schemas`` are those of the tools by their names.
    """

    syntax: CallSyntax
    schemas: Mapping[str, JsonObject]
    calls: list[WrittenCall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._text = ""
        self._at = 0
        self._pieces: list[Piece] = []
        self._steps = self._read()
        self._ended = False
        next(self._steps)

    def push(self, text: str) -> list[Piece]:
        """Take more of the text; returns what is known now. Raises ``NotACallError``."""
        self._text = self._text[self._at :] + text
        self._at = 0
        if not self._ended:
            try:
                next(self._steps)
            except StopIteration:
                self._ended = True
        pieces, self._pieces = self._pieces, []
        return pieces

    def _read(self) -> _More:
        yield
        syntax = self.syntax
        yield from self._literal(syntax.prefix)
        while True:
            name = yield from self._name()
            self.calls.append(WrittenCall(name))
            self._tell(name=name)
            yield from self._literal(syntax.middle)
            if syntax.parameters is None:
                yield from self._json(self._tell_args)
            else:
                yield from self._parameters(syntax.parameters, self.schemas[name])
            yield from self._literal(syntax.close)
            self.calls[-1].ended = True
            if not syntax.between or not (yield from self._one_of(syntax.between)):
                return
            yield from self._literal(syntax.between)

    def _tell(self, *, name: str = "", args: str = "") -> None:
        self._pieces.append(Piece(len(self.calls) - 1, name, args))

    def _tell_args(self, text: str) -> None:
        self.calls[-1].args += text
        self._tell(args=text)

    def _literal(self, text: str) -> _More:
        first, *rest = text.split(ID)
        yield from self._exactly(first)
        for piece in rest:
            yield from self._wait(ID_LENGTH)
            self._at += ID_LENGTH
            yield from self._exactly(piece)

    def _exactly(self, text: str) -> _More:
        yield from self._wait(len(text))
        if not self._text.startswith(text, self._at):
            raise NotACallError
        self._at += len(text)

    def _wait(self, count: int) -> _More:
        while len(self._text) - self._at < count:
            yield

    def _one_of(self, text: str) -> Generator[None, None, bool]:
        """Whether a text comes next; what comes before the place of an id decides."""
        text = text.split(ID, maxsplit=1)[0]
        while True:
            rest = self._text[self._at : self._at + len(text)]
            if rest == text or not text.startswith(rest):
                return rest == text
            yield

    def _name(self) -> Generator[None, None, str]:
        """The tool that is named: the longest name, where one begins with another."""
        ends = sorted((f"{name}{self.syntax.middle[:1]}" for name in self.schemas), key=len)
        while True:
            rest = self._text[self._at : self._at + len(ends[-1])]
            for name in self.schemas:
                # The markup after a name tells it from longer ones.
                if rest.startswith(name + self.syntax.middle[:1]):
                    self._at += len(name)
                    return name
            if not any(end.startswith(rest) for end in ends):
                raise NotACallError
            yield

    def _json(self, tell: Any) -> _More:
        """One JSON value that is an object, a list or a text."""
        depth, quoted, escaped = 0, False, False
        while True:
            start = self._at
            for at in range(start, len(self._text)):
                letter = self._text[at]
                if quoted:
                    quoted = escaped or letter != '"'
                    escaped = letter == "\\" and not escaped
                elif letter == '"':
                    quoted = True
                elif letter in "{[":
                    depth += 1
                elif letter in "}]":
                    depth -= 1
                if depth == 0 and not quoted:
                    self._at = at + 1
                    tell(self._text[start : at + 1])
                    return
            self._at = len(self._text)
            if self._at > start:
                tell(self._text[start:])
            yield

    def _parameters(self, syntax: ParameterSyntax, schema: JsonObject) -> _More:
        close = self.syntax.close
        properties = schema.get("properties", {})
        if not syntax.first.startswith(syntax.none + close):
            nothing = yield from self._one_of(syntax.none + close)
            if nothing:
                self._at += len(syntax.none)
                self._tell_args("{}")
                return
        yield from self._literal(syntax.first)
        opening = "{"
        while True:
            key = yield from self._until(syntax.middle)
            value = yield from self._until(syntax.end)
            text = json.dumps(value, ensure_ascii=False) if is_text(properties.get(key)) else value
            self._tell_args(f"{opening}{json.dumps(key, ensure_ascii=False)}: {text}")
            opening = ", "
            if not (yield from self._one_of(syntax.more)):
                break
            self._at += len(syntax.more)
        yield from self._literal(syntax.last)
        self._tell_args("}")

    def _until(self, end: str) -> Generator[None, None, str]:
        searched = 0  # from here on, because what was read is dropped between two yields
        while (found := self._text.find(end, self._at + searched)) < 0:
            searched = max(0, len(self._text) - self._at - len(end) + 1)
            yield
        text = self._text[self._at : found]
        self._at = found + len(end)
        return text
