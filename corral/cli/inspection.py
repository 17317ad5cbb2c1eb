"""Reading what happened, and ending what waits: runs, threads, cancel.

They read the database only: no graph engine and no model library is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli import hosted
from corral.cli.context import open_records, wait
from corral.cli.output import clean, console, emit, emit_all, note
from corral.cli.render import runs_table, threads_table

if TYPE_CHECKING:
    from corral.runtime.views import RunView, ThreadView

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most this many.")]


def runs(
    thread: Annotated[str | None, typer.Option(metavar="T", help="Only this thread.")] = None,
    limit: LimitOption = 50,
    json: JsonOption = False,
) -> None:
    """List the runs, newest first."""
    found = wait(_runs(thread, limit))
    if json:
        emit_all(found)
    elif found:
        console().print(runs_table(found))
    else:
        note('No runs yet. Start one: corral run "…"')


async def _runs(thread: str | None, limit: int) -> list[RunView]:
    async with open_records() as records:
        return await records.runs(thread=thread, limit=limit)


def threads(json: JsonOption = False, limit: LimitOption = 50) -> None:
    """List the conversations, the most recently used first."""
    found = wait(_threads(limit))
    if json:
        emit_all(found)
    elif found:
        console().print(threads_table(found))
    else:
        note("No threads yet. Start one: corral chat")


async def _threads(limit: int) -> list[ThreadView]:
    async with open_records() as records:
        return await records.threads(limit=limit)


def cancel(run: RunArgument, json: JsonOption = False) -> None:
    """End a run that waits, was cut off, or is at work in the run host: it is stopped."""
    view = wait(_cancel(run))
    if json:
        emit(view.to_json())
    else:
        note(f"run {clean(view.run)} is {view.status}")


async def _cancel(run: str) -> RunView:
    async with open_records() as records:
        return await hosted.cancel(records, run)
