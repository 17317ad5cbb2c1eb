"""Takes what a model writes under a constraint, shows it as it comes, and checks it at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import Chunk, JsonOutput, TextChunk, ToolCallChunk
from corral.runtime.models.local.constraints.checks import NotJsonError, parsed, violations
from corral.runtime.models.local.constraints.grammar import Constraint
from corral.runtime.models.local.constraints.reading import CallReader, NotACallError


@dataclass(frozen=True)
class Call:
    """A call that fits its tool's schema."""

    name: str
    args: JsonObject


class Writing:
    """One attempt. What may still be taken back (see ``Constraint.complete``) is shown at its end.

    ``calls`` and ``text`` can be read when ``problem`` has found nothing.
    """

    def __init__(self, constraint: Constraint, emit: Callable[[Chunk], None]) -> None:
        self._constraint = constraint
        self._emit = emit
        self._held: list[Chunk] = []
        self._undecided = ""
        self._reader = self._new_reader() if constraint.allowed.output is None else None
        self._is_text = not constraint.tools
        self._is_unreadable = False
        self.written = ""
        self.calls: list[Call] = []
        self.text = ""

    @property
    def is_call(self) -> bool:
        """Whether it is known to be a call."""
        return self._reader is not None

    def push(self, text: str) -> None:
        """Take more of what the model writes."""
        self.written += text
        if self._reader is None and not self._is_text:
            text = self._decided(text)
        if self._is_text and text:
            self._show(TextChunk(text))
        elif self._reader is not None and text:
            self._read(self._reader, text)

    def problem(self) -> str:
        """What is wrong with it, in words for the model; nothing: it is as it was asked for."""
        try:
            found = self._text_problem() if self._is_text else self._call_problem()
        except NotJsonError as error:
            return f"It cannot be read as JSON: {error}."
        if not found:
            for chunk in self._held:
                self._emit(chunk)
        return found

    def _new_reader(self) -> CallReader | None:
        syntax = self._constraint.allowed.syntax
        if syntax is None or not self._constraint.tools:
            return None
        schemas = {name: fitted.grammar for name, fitted in self._constraint.tools.items()}
        return CallReader(syntax, schemas)

    def _decided(self, text: str) -> str:
        """All of the text, once it is known whether it is a call or the output; until then none."""
        self._undecided += text
        syntax = self._constraint.allowed.syntax
        assert syntax is not None  # there are tools
        heads = syntax.triggers(tuple(self._constraint.tools))
        if any(self._undecided.startswith(head) for head in heads):
            self._reader = self._new_reader()
        elif any(head.startswith(self._undecided) for head in heads):
            return ""
        else:
            self._is_text = True
        return self._undecided

    def _read(self, reader: CallReader, text: str) -> None:
        if self._is_unreadable:
            return
        try:
            pieces = reader.push(text)
        except NotACallError:  # a tool's name may have a control token in it
            self._is_unreadable = True
            return
        for piece in pieces:
            self._show(ToolCallChunk(piece.index, piece.name, piece.args))

    def _show(self, chunk: Chunk) -> None:
        if self._constraint.complete:
            self._emit(chunk)
        else:
            self._held.append(chunk)

    def _text_problem(self) -> str:
        self.text = self.written
        output = self._constraint.output
        if not isinstance(self._constraint.allowed.output, JsonOutput) or output is None:
            return ""
        return "\n".join(violations(output.schema, parsed(self.written)))

    def _call_problem(self) -> str:
        reader = self._reader
        is_whole = reader is not None and reader.calls and reader.calls[-1].ended
        if reader is None or not is_whole or self._is_unreadable:
            raise NotACallError
        self.calls = []
        for call in reader.calls:
            args = parsed(call.args)
            wrong = violations(self._constraint.tools[call.name].schema, args)
            if wrong:
                return "\n".join([f"The arguments of {call.name} do not fit:", *wrong])
            self.calls.append(Call(call.name, args))
        return ""
