"""Runs executed again against their journals, offline: replay."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, open_runtime, wait
from corral.cli.output import clean, console, emit, note, one_line
from corral.cli.preview import duration
from corral.cli.render import status, table
from corral.errors import CorralError, NotFoundError, UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from corral.agents.app import Corral
    from corral.jsontypes import JsonObject
    from corral.runtime.views import ReplayReport, RunView

DIVERGED = 5
"""The exit code of a replay that did not do what the journal says."""

_ALL = 1_000_000

RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's id, or its beginning, or `last`.")
]


@dataclass(frozen=True)
class Replayed:
    """One run's replay: its report, or why there is none, and how long it took."""

    run: str
    prompt: str
    report: ReplayReport | None
    error: CorralError | None
    milliseconds: float

    @property
    def word(self) -> str:
        """How it went: ``skipped`` is what cannot be replayed here, ``failed`` is damaged."""
        if self.report is not None:
            return self.report.status
        return "skipped" if isinstance(self.error, UsageError) else "failed"

    @property
    def speed(self) -> float:
        """Effects a second."""
        return self.report.effects / max(self.milliseconds, 0.001) * 1000 if self.report else 0.0

    def to_json(self) -> JsonObject:
        """The report with its time in milliseconds, or the error."""
        if self.report is not None:
            return {**self.report.to_json(), "duration_ms": round(self.milliseconds, 3)}
        message = self.error.message if self.error else ""
        return {"run": self.run, "status": self.word, "error": message}


def replay(
    run: RunArgument = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Every run: a table, and a line that sums up.")
    ] = False,
    thread: Annotated[
        str | None, typer.Option(metavar="T", help="With --all: only this thread's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Run the graph again against the journal, offline: no model and no tool is called.

    Exits 0 when it did the same, 5 when it did not. What has changed of the agent's code since
    is told in any case. With --all a run that cannot be read exits with 1; one whose code is not
    at hand is skipped.
    """
    if (run is None) == (not all_) or (thread is not None and not all_):
        raise UsageError(
            "Say which run, or --all, and --thread only with it.",
            hint=f"For the newest: {current().command('replay', 'last')}",
        )
    if run is not None:
        return wait(_one(run, json))
    return wait(_every(thread, json))


async def _one(run: str, json: bool) -> int:
    async with open_runtime() as corral:
        view = await corral.records.run(run)
        with _Progress(json) as progress:
            replayed = await _replay(corral, view, progress)
    if replayed.error is not None:
        raise replayed.error
    if json:
        emit(replayed.to_json())
    else:
        _show(replayed)
    return DIVERGED if replayed.word == "diverged" else 0


async def _every(thread: str | None, json: bool) -> int:
    done: list[Replayed] = []
    async with open_runtime() as corral:
        runs = await corral.records.runs(thread=thread, limit=_ALL)
        if thread is not None and not runs:
            raise NotFoundError(f"There is no run of a thread {thread!r}.", hint="See: corral runs")
        async for replayed in _replays(corral, runs, json):
            done.append(replayed)
            if json:
                emit(replayed.to_json())
    if not done:
        note('No runs yet. Start one: corral run "…"')
    elif not json:
        _show_all(done)
    words = Counter(replayed.word for replayed in done)
    return DIVERGED if words["diverged"] else 1 if words["failed"] else 0


async def _replays(corral: Corral, runs: list[RunView], json: bool) -> AsyncIterator[Replayed]:
    with _Progress(json) as progress:
        for number, view in enumerate(runs, start=1):
            progress.head = f"{number} of {len(runs)} runs, {view.run}: "
            replayed = await _replay(corral, view, progress)
            progress.pause()
            yield replayed


async def _replay(corral: Corral, view: RunView, progress: _Progress) -> Replayed:
    progress.begin()
    began = time.monotonic()
    report, problem = None, None
    try:
        report = await corral.replay(view.run, progress=progress.tell)
    except CorralError as error:
        problem = error
    took = (time.monotonic() - began) * 1000
    return Replayed(view.run, view.prompt, report, problem, took)


class _Progress:
    """A line that says how far a replay is; on a terminal, and not when JSON is wanted."""

    def __init__(self, json: bool) -> None:
        from corral.cli.screen import Screen  # asyncio: not needed for --help

        self.head = ""
        self._screen = None if json else Screen(lines=sys.stderr)
        self._met = (0, 0)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def begin(self) -> None:
        """A replay begins."""
        self._met = (0, 0)
        if self._screen:
            self._screen.busy(self._words)

    def tell(self, met: int, of: int) -> None:
        """So many effects were met; called in the replay's thread."""
        self._met = (met, of)

    def pause(self) -> None:
        """Something else is written now."""
        if self._screen:
            self._screen.idle()

    def _words(self) -> str:
        met, of = self._met
        return f"{self.head}{met:,} of {of:,} effects" if of else f"{self.head}reading"


def _show(replayed: Replayed) -> None:
    """One report, with the first divergence as a diff."""
    report = replayed.report
    assert report is not None
    out = console()
    line = status(report.status)
    line.append(f"  {report.effects} effects, {report.reused} reused, ", style="")
    line.append(f"{report.executed} executed  ")
    line.append(f"{duration(replayed.milliseconds)}, {replayed.speed:,.0f} a second", style="dim")
    out.print(line)
    for change in report.changed:
        out.print(f"changed since: {clean(change)}", style="yellow")
    if report.divergence:
        head, *diff = clean(report.divergence).splitlines()
        out.print(f"first divergence: {head}")
        for row in diff:
            out.print(_diff_line(row))


def _diff_line(row: str) -> Text:
    from rich.text import Text

    if row.startswith(("---", "+++", "@@")):
        return Text(row, style="dim")
    return Text(row, style={"+": "green", "-": "red"}.get(row[:1], ""))


def _show_all(done: list[Replayed]) -> None:
    drawn = table("run", "replay", "effects", "time", "prompt", "what is different")
    for one in done:
        effects = str(one.report.effects) if one.report else ""
        cells = (status(one.word), effects, duration(one.milliseconds), one_line(one.prompt, 40))
        drawn.add_row(one.run, *cells, _difference(one))
    out = console()
    out.print(drawn)
    words = Counter(one.word for one in done)
    total = sum(one.report.effects for one in done if one.report)
    took = sum(one.milliseconds for one in done)
    counts = ", ".join(f"{words[word]} {word}" for word in _WORDS if words[word])
    runs = f"{len(done)} run{'s' if len(done) != 1 else ''}"
    out.print(f"\n{runs}: {counts}; {total:,} effects in {duration(took)}", soft_wrap=True)


_WORDS = ("identical", "diverged", "skipped", "failed")


def _difference(one: Replayed) -> str:
    if one.error is not None:
        return one_line(one.error.message, 200)
    assert one.report is not None
    if one.report.divergence:
        return one_line(one.report.divergence.partition("\n")[0], 200)
    return one_line("; ".join(one.report.changed), 200)
