"""How models were used: ``corral models usage``. No graph and no model is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.budget import parse_since
from corral.cli.context import open_records, wait
from corral.cli.output import clean, console, emit, note

if TYPE_CHECKING:
    from rich.table import Table

    from corral.runtime.budgets.usage import By, ModelUsage

ByOption = Annotated[Literal["model", "agent", "day"], typer.Option(help="Add it up by this.")]


def usage(
    by: ByOption = "model",
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From this date on, or an age: 7d, 12h.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the tokens, the money and the speed of model calls."""
    found = wait(_found(by, since))
    if json:
        for line in found:
            emit(line.to_json())
    elif found:
        console().print(_table(found))
    else:
        note("No model was asked yet.")


async def _found(by: By, since: str | None) -> list[ModelUsage]:
    from corral.runtime.budgets.usage import usage as used

    begin = None if since is None else parse_since(since)
    async with open_records() as records:
        return await used(records.database, by, begin)


def _table(lines: list[ModelUsage]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(lines[0].by)
    for name in (
        *("calls", "errors", "cache hits", "in", "cached", "out", "reasoning"),
        *("cost", "first token", "p95", "tokens/s"),
    ):
        table.add_column(name, justify="right")
    for line in lines:
        counts = (
            *(line.calls, line.errors, line.cache_hits, line.input_tokens),
            *(line.cached_tokens, line.output_tokens, line.reasoning_tokens),
        )
        table.add_row(
            clean(line.key),
            *(f"{count:,}" for count in counts),
            f"${line.cost_usd:.4f}",
            _ms(line.first_token_ms_median),
            _ms(line.first_token_ms_p95),
            "" if line.tokens_per_second is None else f"{line.tokens_per_second:,.1f}",
        )
    return table


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.0f} ms"
