"""Long-term facts: what agents remember, and making them forget it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral.cli.context import open_records, wait
from corral.cli.output import clean, console, emit, note
from corral.cli.render import table, when

if TYPE_CHECKING:
    from corral.memory.store import MemoryStore

T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

app = typer.Typer(name="memory", help="List and forget long-term facts.", rich_markup_mode=None)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List all facts, newest first."""
    facts = wait(_with_memory(lambda memory: memory.all()))
    if json:
        for fact in facts:
            emit(fact.to_json())
        return
    if not facts:
        note("Nothing is remembered yet.")
        return
    drawn = table("id", "agent", "told (UTC)", "fact")
    for fact in facts:
        drawn.add_row(clean(fact.id), clean(fact.agent), when(fact.updated_at), clean(fact.text))
    console().print(drawn)


@app.command()
def forget(
    id: Annotated[str, typer.Argument(metavar="ID", help="A fact's id, or its beginning.")],
    json: JsonOption = False,
) -> None:
    """Delete a fact for good."""
    fact = wait(_with_memory(lambda memory: memory.forget(id)))
    if json:
        emit(fact.to_json())
    else:
        note(f"forgotten: {fact.text}")


async def _with_memory(work: Callable[[MemoryStore], Awaitable[T]]) -> T:
    from corral.memory.store import MemoryStore

    async with open_records() as records:
        return await work(MemoryStore(records.database))
