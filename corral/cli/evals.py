"""Evaluations: a set of cases through the real runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, quiet_logs, wait
from corral.cli.output import console, emit, note

if TYPE_CHECKING:
    from corral.evals.report import Trial

app = typer.Typer(name="eval", help="Run evaluation sets.", rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Run evaluation sets."""


@app.command()
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A YAML set of cases.")],
    json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report there, as JSON.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="M", help="Use this model in every case.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Run every case N times.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the runs' databases in a new folder.")
    ] = None,
) -> int:
    """Run a set. Exits 1 when fewer cases pass than its threshold asks for.

    Progress goes to standard error, the report to standard output.
    """
    from corral.evals.dataset import load_dataset
    from corral.evals.report import table, write_json
    from corral.evals.runtime_runner import EvalOptions, evaluate

    quiet_logs()
    dataset = load_dataset(file).override(model=model)
    options = EvalOptions(repeat=repeat, keep=keep, on_trial=_progress)
    report = wait(evaluate(dataset, current().settings(), options))
    if out is not None:
        write_json(report, out)
    if json:
        emit(report.to_json())
    else:
        console().print(table(report))
    return report.exit_code


def _progress(trial: Trial, done: int, planned: int) -> None:
    from corral.evals.report import progress_line

    note(progress_line(trial, done, planned))
