"""Reading an export: every line as a checked record, and the file as a whole.

    for line in ExportReader(source, "run.jsonl"):
        match line: …

Reading stops with a ``ConfigError`` that names the line and what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from pydantic import ValidationError

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.runtime.export import forms
from corral.runtime.export.contents import wrong_content
from corral.runtime.export.lines import LineReader

_NEEDED = ("header", "run", "end")
_ONCE = ("header", "past", "run", "end")


class ExportReader:
    """The lines of one export. After all were read, ``sum`` identifies its content."""

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._lines = LineReader(source, name)
        self._name = name
        self._seen: list[str] = []
        self._order = -1
        self._header: forms.Header | None = None
        self._journal = _Journal()

    @property
    def sum(self) -> str:
        """The sum of the newest line."""
        return self._lines.last

    def __iter__(self) -> Iterator[forms.Line]:
        for record in self._lines:
            line = self._formed(record)
            try:
                self._place(line)
                self._journal.add(line)
            except ValueError as error:
                raise self.problem(str(error)) from None
            yield line
        if "end" not in self._seen:
            if not self._seen:
                raise ConfigError(f"{self._name} is empty.", hint="Name a file with an export.")
            raise self.problem("the file is cut off after this line.")

    def problem(self, text: str) -> ConfigError:
        """An error about the newest line."""
        error = self._lines.problem(text)
        if self._header is not None and _is_newer(self._header.corral):
            error.hint = _upgrade(self._header.corral)
        return error

    def _formed(self, record: JsonObject) -> forms.Line:
        kind = record.get("type")
        form = forms.FORMS.get(kind) if isinstance(kind, str) else None
        if self._header is None:
            self._require_format(record)
        if form is None:
            raise self.problem(f"there is no such type of line: {str(kind)[:40]!r}.")
        try:
            line = form.model_validate(record)
        except ValidationError as error:
            raise self.problem(f"{kind}: {_in_words(error)}.") from None
        if isinstance(line, forms.Header):
            self._header = line
        return line

    def _require_format(self, record: JsonObject) -> None:
        if record.get("format") != forms.FORMAT or record.get("type") != "header":
            raise self._lines.problem(
                "this is not the beginning of a Corral export.",
                "An export is made with `corral export RUN --jsonl`.",
            )
        version = record.get("version")
        if version != forms.VERSION:
            made_by = str(record.get("corral"))[:40]
            raise self._lines.problem(
                f"the file is of version {str(version)[:40]} of the format, and this Corral "
                f"({forms.CORRAL}) reads version {forms.VERSION}.",
                _upgrade(made_by),
            )

    def _place(self, line: forms.Line) -> None:
        """Raise ``ValueError`` for a line that does not belong where it stands."""
        before = self._seen[-1] if self._seen else "nothing"
        if line.order < self._order or (line.type in _ONCE and line.type in self._seen):
            raise ValueError(f"{line.type} cannot follow {before}.")
        missing = [name for name in _NEEDED[: line.order] if name not in self._seen]
        if line.order > forms.Run.order and "run" in missing:
            raise ValueError(f"{line.type} stands before the run.")
        if isinstance(line, forms.Run) and (line.fork is None) == ("past" in self._seen):
            raise ValueError("a fork and its past must stand together.")
        if self._header is not None and self._header.scrubbed and not _is_bare(line):
            raise ValueError("the file is said to be scrubbed, and holds content.")
        self._order = line.order
        if before != line.type:
            self._seen.append(line.type)


@dataclass
class _Part:
    """The effects of one run: their places, their numbers, and which were model calls."""

    paths: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    last: int = 0

    def add(self, effect: forms.Effect) -> None:
        """Take the next effect. Raises ``ValueError`` when its place or number is not free."""
        if effect.seq <= self.last:
            raise ValueError(f"effect {effect.seq} cannot follow effect {self.last}.")
        if effect.path in self.paths:
            raise ValueError(f"a second effect stands at {effect.path}.")
        self.last = effect.seq
        self.paths.add(effect.path)
        self.numbers.add(effect.seq)
        if effect.kind == "model":
            self.asked.add(effect.seq)


@dataclass
class _Journal:
    """What the effects and approvals of a file must be among themselves."""

    fork: forms.Fork | None = None
    past: _Part = field(default_factory=_Part)
    own: _Part = field(default_factory=_Part)
    questions: set[str] = field(default_factory=set)

    def add(self, line: forms.Line) -> None:
        """Take one line. Raises ``ValueError`` when it contradicts those before."""
        match line:
            case forms.Run():
                self.fork = line.fork
            case forms.Effect():
                self._effect(line)
            case forms.Approval():
                if line.path not in self.own.paths:
                    raise ValueError(f"no effect stands at {line.path}, which is asked about.")
                if line.path in self.questions or line.id in self.questions:
                    raise ValueError(f"the approval {line.id} stands twice.")
                self.questions |= {line.path, line.id}
            case forms.End():
                self._end(line)
            case _:
                pass

    def _effect(self, effect: forms.Effect) -> None:
        if effect.past and (self.fork is None or self.own.paths):
            raise ValueError("an effect of the past stands where there is none.")
        if len(self.past.paths) + len(self.own.paths) >= forms.MAX_EFFECTS:
            raise ValueError(f"the file has more than {forms.MAX_EFFECTS:,} effects.")
        wrong = wrong_content(effect)
        if wrong is not None:
            raise ValueError(f"effect {effect.seq}: {wrong}.")
        after = effect.request.get("after") if effect.kind == "model" else None
        known = self.past.asked if effect.past else self.past.asked | self.own.asked
        if after is not None and (after >= effect.seq or after not in known):
            raise ValueError(f"effect {effect.seq} follows the effect {after}, which is no such.")
        (self.past if effect.past else self.own).add(effect)

    def _end(self, end: forms.End) -> None:
        count = len(self.past.paths) + len(self.own.paths)
        if (end.effects, end.approvals) != (count, len(self.questions) // 2):
            raise ValueError("there are other effects or approvals than the file says.")
        if self.fork is not None and self.fork.at not in self.past.numbers:
            raise ValueError(f"the past has no effect {self.fork.at}, where the fork parts.")


def _is_bare(line: forms.Line) -> bool:
    """Whether a line may stand in a file without content."""
    if isinstance(line, forms.Effect):
        return line.digest == ""
    return not isinstance(line, forms.State | forms.Message)


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def _is_newer(version: str) -> bool:
    return _numbers(version) > _numbers(forms.CORRAL)


def _numbers(version: str) -> list[int]:
    return [int(part[:9]) for part in re.findall(r"\d+", version)[:4]]


def _upgrade(version: str) -> str:
    return f"It was written by Corral {version}: upgrade this one ({forms.CORRAL}) to read it."
