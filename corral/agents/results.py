"""Long results as tools: a model that was shown a part of one reads on, and searches in it.

What is read keeps the label of the stored result: paging launders nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corral.errors import NotFoundError
from corral.jsontypes import JsonObject
from corral.policies.provenance.labels import PUBLIC
from corral.runtime.context import current_run
from corral.runtime.database import Database
from corral.runtime.previews import READ, SERVER
from corral.runtime.stored_results import StoredResult, find_result
from corral.tools.contract import CallOptions, ToolResult, ToolSpec

_AROUND = 80  # characters shown on both sides of what was found
_NOTE = 160  # characters that the line before a page may take


@dataclass(frozen=True)
class ResultTools:
    """A ``ToolProvider`` over the results of the current conversation.

    ``page`` gives how many characters one answer may have.
    """

    database: Database
    page: Callable[[], int]
    name: str = SERVER

    async def list_tools(self) -> list[ToolSpec]:
        """None at first: an agent is offered them once it has something to read (``readers``)."""
        return []

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Read in a result of this conversation; one that is not there is an error."""
        del options
        run, handle = current_run.get().run, str(args["handle"])
        try:
            stored = await self.database.read(lambda c: find_result(c, run, handle))
        except NotFoundError as error:
            return ToolResult(
                f"{error.message} {error.hint}", is_error=True, label=PUBLIC.to_json()
            )
        room = self.page()
        if tool == READ.tool:
            wanted = int(args.get("limit", room))
            text, is_error = _read(stored.text, int(args["offset"]), min(wanted, room - _NOTE))
        else:
            text, is_error = _found(stored.text, str(args["text"]), room)
        return _labelled(text, stored, is_error=is_error)

    async def aclose(self) -> None:
        """Nothing to stop."""


def _labelled(text: str, stored: StoredResult, *, is_error: bool) -> ToolResult:
    return ToolResult(text, is_error=is_error, label=stored.label.to_json())


def _read(text: str, offset: int, limit: int) -> tuple[str, bool]:
    """A page of the text, after a line that says where it is; and whether it is beyond the end."""
    if offset >= len(text):
        return f"The result ends at {len(text)}: there is nothing at offset {offset}.", True
    end = min(len(text), offset + limit)
    rest = f"offset={end} reads on" if end < len(text) else "this is its end"
    return f"[Characters {offset} to {end} of {len(text)}; {rest}.]\n{text[offset:end]}", False


def _found(text: str, wanted: str, room: int) -> tuple[str, bool]:
    """Where a text stands, whatever its case, in lines of together at most ``room`` characters."""
    lines: list[str] = []
    room -= _NOTE
    for at in _places(text, wanted):
        begin, end = max(0, at - _AROUND), at + len(wanted) + _AROUND
        line = f"offset {at}: {' '.join(text[begin:end].split())}"
        room -= len(line) + 1
        if room < 0:
            last = f"[more after this; read on from offset {at}]"
            return "\n".join([*lines, last]), False
        lines.append(line)
    return ("\n".join(lines), False) if lines else (f"{wanted!r} does not stand in it.", False)


def _places(text: str, wanted: str) -> Iterator[int]:
    """Where ``wanted`` begins in the text, one after the other."""
    lower = text.lower()
    if len(lower) == len(text):  # else offsets would not be those of the text itself
        text, wanted = lower, wanted.lower()
    at = text.find(wanted)
    while at >= 0:
        yield at
        at = text.find(wanted, at + len(wanted))
