"""Several models on one set of prompts: ``corral models compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, quiet_logs, wait
from corral.cli.output import clean, console, emit, note, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from corral.evals.comparing import Answer, Comparison
    from corral.evals.prompts import Prompt

INTERRUPTED = 130


def compare(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Prompts: a YAML list, or JSONL.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="M", help="A model to compare; once for each of them."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="All that was found, as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with all answers.")
    ] = None,
) -> int:
    """Ask several models the same, and show how good, how fast and how dear they are.

    Quality is the share of the prompts' checks that held. Ctrl-C shows what there is by then.
    Progress goes to standard error. Exits 1 when a model had errors for every answer.
    """
    from corral.evals.prompts import load_prompts

    quiet_logs()
    prompts = load_prompts(file)
    found = wait(_compared(prompts, model))
    if html is not None:
        from corral.cli.models.compare_page import write_page

        write_page(html, found, prompts)
    if json:
        emit(found.to_json())
    else:
        _show(found)
    if found.interrupted:
        return INTERRUPTED
    return int(any(one.errors and not one.answers for one in found.standings()))


async def _compared(prompts: Sequence[Prompt], models: list[str] | None) -> Comparison:
    from corral.evals.comparing import compare as ask
    from corral.evals.runtime_runner import until_interrupted

    settings = current().settings()
    named = tuple(dict.fromkeys(models or [settings.model]))
    with until_interrupted() as stop:
        return await ask(prompts, named, settings, on_answer=_progress, stop=stop)


def _progress(answer: Answer, done: int, planned: int) -> None:
    if answer.error is not None:
        how = one_line(f"error: {answer.error}", 160)
    else:
        speed = answer.tokens_per_second
        how = f"{answer.output_tokens} tokens" + (f", {speed:.1f}/s" if speed else "")
        how += "" if answer.quality is None else f", {answer.quality:.0%} of its checks"
    note(f"[{done}/{planned}] {answer.model}  {answer.prompt}  {how}")


def _show(found: Comparison) -> None:
    from corral.cli.models.compare_plot import plots

    shown = console()
    shown.print(_table(found))
    for plot in plots(found.standings(), shown.width):
        shown.print()
        shown.print(clean(plot), end="")
    if found.interrupted:
        note(f"interrupted: {len(found.answers)} of {found.planned} answers")


def _table(found: Comparison) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in (
        *("quality", "first token", "tokens/s"),
        *("in", "cached", "out", "cost", "answers", "errors"),
    ):
        table.add_column(name, justify="right")
    for one in found.standings():
        table.add_row(
            clean(one.model),
            "" if one.quality is None else f"{one.quality:.0%}",
            "" if one.first_token_ms is None else f"{one.first_token_ms:,.0f} ms",
            "" if one.tokens_per_second is None else f"{one.tokens_per_second:,.1f}",
            *(f"{count:,}" for count in (one.input_tokens, one.cached_tokens, one.output_tokens)),
            f"${one.cost_usd:.4f}",
            *(str(count) for count in (one.answers, one.errors)),
        )
    return table
