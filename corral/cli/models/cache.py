"""What the response cache holds: ``corral models cache``. No graph and no model is imported."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import open_records, wait
from corral.cli.output import console, emit, note

if TYPE_CHECKING:
    from corral.runtime.caching.store import KeptTotals


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Keep none of them any more.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show which answers of models are kept to be given again.

    With --clear they are asked for anew; the runs that they are in stay as they are.
    """
    if clear:
        gone = wait(_cleared())
        note(f"Kept no more: {gone:,} answer{'' if gone == 1 else 's'}.")
        return
    found = wait(_found())
    if json:
        emit(asdict(found))
    else:
        _show(found)


async def _found() -> KeptTotals:
    from corral.runtime.caching import store

    async with open_records() as records:
        return await records.database.read(store.totals)


async def _cleared() -> int:
    from corral.runtime.caching import store

    async with open_records() as records:
        return await records.database.write(store.clear)


def _show(found: KeptTotals) -> None:
    shown = console()
    shown.print(f"answers  {found.answers:,}")
    for kind, count in sorted(found.by_kind.items()):
        shown.print(f"  {kind.replace('_', ' ')}  {count:,}")
    shown.print(f"given again  {found.hits:,}")
    shown.print(f"expired  {found.expired:,}")
