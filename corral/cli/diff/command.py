"""Two runs side by side: diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import open_records, wait
from corral.cli.output import console, emit

if TYPE_CHECKING:
    from corral.runtime.comparison import Comparison

WIDE = 100
"""Columns of a terminal from which on runs are shown side by side."""

DIFFERENT = 5
"""The exit code when two runs differ: that of a replay that diverged, and of no failure."""

JsonOption = Annotated[bool, typer.Option("--json", help="The comparison as one JSON object.")]


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's id, or its beginning.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another run's.")],
    full: Annotated[
        bool, typer.Option("--full", help="Show every effect and every line that differs.")
    ] = False,
    side_by_side: Annotated[
        bool | None,
        typer.Option(
            "--side-by-side/--unified",
            "-y/-u",
            help="Else side by side on a terminal of 100 columns or more.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Show from where two runs part, what each did, and what each used.

    Exits 0 when both did the same, 5 when they differ.
    """
    found = wait(_compare(a, b))
    if json:
        emit(found.to_json())
    else:
        _show(found, full, side_by_side)
    return 0 if found.identical else DIFFERENT


async def _compare(a: str, b: str) -> Comparison:
    from corral.runtime.comparison import compare

    async with open_records() as records:
        one, two = await records.run(a), await records.run(b)
        return compare(one, await records.trace(one.run), two, await records.trace(two.run))


def _show(found: Comparison, full: bool, side_by_side: bool | None) -> None:
    from corral.cli.diff.pairs import Layout, draw
    from corral.cli.diff.summary import summary, verdict

    out = console()
    if side_by_side is None:
        side_by_side = out.is_terminal and out.width >= WIDE
    out.print(summary(found))
    out.print()
    out.print(verdict(found), style="bold", soft_wrap=True)
    if found.pairs:
        out.print()
        draw(found, Layout(out, side_by_side, full))
