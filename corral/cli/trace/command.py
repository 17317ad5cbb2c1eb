"""The command ``corral trace``: what a run did, from its journal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import open_records, wait
from corral.cli.options import taking
from corral.cli.output import console, emit_all, note
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.cli.trace.data import Trace
    from corral.cli.trace.filters import Filter

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or its beginning, or `last`.")
]


@dataclass(frozen=True)
class Options:
    """The options of ``corral trace``."""

    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="K", help="Only model, tool, approval, agent, … (repeatable)."),
    ] = None
    tool: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Only these tools: 'files__*' (repeatable)."),
    ] = None
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="S", help="Only finished, failed, error, waiting, … (repeatable)."),
    ] = None
    full: Annotated[bool, typer.Option("--full", help="Whole requests and results.")] = False
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch a run go on.")] = False
    step: Annotated[bool, typer.Option("--step", help="Walk it effect by effect.")] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False


@taking(Options)
def trace(run: RunArgument, options: Options) -> int:
    """Show what a run did, step by step, from its journal.

    A mark stands before the effects on the critical path: those that the run's time went to.
    --step walks through the run, forward and back, with the conversation as it was at each point.
    """
    from corral.cli.trace.filters import make_filter

    only = make_filter(options.kind or (), options.tool or (), options.status or ())
    if options.step:
        return _walk(run, alone=not (only or options.full or options.follow or options.json))
    if options.follow:
        from corral.cli.trace.follow import follow_run

        return follow_run(run, only, full=options.full, json=options.json)
    found = wait(_load(run))
    matching = [effect for effect in found.effects if only.shows(effect)]
    if only and not matching:
        from corral.cli.trace.filters import nothing_matches

        note(nothing_matches(found.effects))
    elif options.json:
        emit_all(matching)
    else:
        _draw(found, only, full=options.full)
    return 0


async def _load(run: str) -> Trace:
    from corral.cli.trace.data import load

    async with open_records() as records:
        return await load(records, run)


def _draw(found: Trace, only: Filter, *, full: bool) -> None:
    from corral.cli.trace.tree import Look, show

    show(found, Look(only, full), console())


def _walk(run: str, *, alone: bool) -> int:
    if not alone:
        raise UsageError(
            "--step shows everything of a run, and stands alone.",
            hint="Leave the other options out; search with / in there.",
        )
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "--step needs a terminal: it is read and steered from the keyboard.",
            hint="Without one: `corral trace RUN --full` for the whole text, --json for programs.",
        )
    from corral.cli.trace.step import walk

    return walk(run)
