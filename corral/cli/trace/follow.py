"""``corral trace --follow``: the entries of a run's journal as they come, whoever runs it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from corral.cli.context import open_records, wait
from corral.cli.follow import EXIT_CODES, INTERRUPTED
from corral.cli.output import clean, console, emit, note
from corral.cli.trace.data import Trace, load, refresh
from corral.cli.trace.filters import Filter, nothing_matches
from corral.cli.trace.rows import Item, Row
from corral.cli.trace.summary import Line, brief, fitted, foot, head
from corral.cli.trace.tree import Artist, Lines, Look
from corral.cli.trace.words import where
from corral.runtime.clock import now
from corral.runtime.outline import milliseconds

if TYPE_CHECKING:
    from rich.console import Console

    from corral.runtime.views import EffectView

EVERY = 0.25
"""Seconds between two looks at the database."""

_ERASE_LINE = "\r\x1b[K"


class Teller(Protocol):
    """Tells what happens in a run."""

    def begin(self, trace: Trace) -> None:
        """Following begins with the run as it stands."""
        ...

    def tell(self, trace: Trace, effect: EffectView) -> bool:
        """An entry is new or has changed. Whether something was said of it."""
        ...

    def pause(self, trace: Trace) -> None:
        """Nothing more has happened for now."""
        ...

    def end(self, trace: Trace) -> None:
        """The run has ended, or waits."""
        ...


def follow_run(run: str, only: Filter, *, full: bool, json: bool) -> int:
    """Tell what a run does until it ends or waits; the exit code is that of ``corral run``.

    Ctrl-C ends the following and nothing else.
    """
    teller: Teller = _Objects() if json else _Lines(Look(only, full, whole=False))
    try:
        return wait(_follow(run, only, teller))
    except KeyboardInterrupt:
        note("no longer following; the run itself is not stopped by this")
        return INTERRUPTED


async def _follow(run: str, only: Filter, teller: Teller) -> int:
    told: dict[str, tuple[str, int]] = {}
    async with open_records() as records:
        trace = await load(records, run)
        teller.begin(trace)
        try:
            _tell(trace, only, told, teller)
            while trace.standing.is_live:
                teller.pause(trace)
                await asyncio.sleep(EVERY)
                trace = await refresh(records, trace)
                _tell(trace, only, told, teller)
        finally:
            teller.pause(trace)
        teller.end(trace)
    if only and not told:
        note(nothing_matches(trace.effects))
    return EXIT_CODES[trace.run.status]


def _tell(trace: Trace, only: Filter, told: dict[str, tuple[str, int]], teller: Teller) -> None:
    """Tell what is new; ``told`` remembers how each entry stood when it was told."""
    for effect in _news(trace, only, told):
        if teller.tell(trace, effect):
            told[effect.path] = (effect.status, effect.attempts)


def _news(trace: Trace, only: Filter, told: dict[str, tuple[str, int]]) -> list[EffectView]:
    """What has not been told yet as it stands now, in the order in which it happened."""
    news = [
        effect
        for effect in trace.effects
        if told.get(effect.path) != (effect.status, effect.attempts) and only.shows(effect)
    ]
    return sorted(news, key=_moment)


class _Objects:
    """Each entry as JSON, once when it is new and again whenever its status has changed."""

    def begin(self, trace: Trace) -> None:
        """Nothing: the entries follow."""

    def tell(self, trace: Trace, effect: EffectView) -> bool:
        """Print it."""
        del trace  # an entry says by itself what it is
        emit(effect.to_json())
        return True

    def pause(self, trace: Trace) -> None:
        """Nothing."""

    def end(self, trace: Trace) -> None:
        """Nothing: the exit code tells."""


class _Lines:
    """A few lines for each entry that has ended or waits; below them what goes on."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._console = console()
        self._animate = self._console.is_terminal and os.environ.get("TERM") != "dumb"
        self._drawing: _Drawing | None = None

    def begin(self, trace: Trace) -> None:
        """The run."""
        self._print(list(head(trace, self._console.width)))

    def tell(self, trace: Trace, effect: EffectView) -> bool:
        """An entry that has ended, that waits, or that others will be told to be inside of."""
        if effect.status == "started" and effect.kind != "agent" and trace.standing.is_live:
            return False
        drawing = self._drawing
        if drawing is None or drawing.trace is not trace:
            drawing = self._drawing = _Drawing(trace, self._look, self._console)
        self._print(list(drawing.lines(effect)))
        return True

    def pause(self, trace: Trace) -> None:
        """Say in one line what is going on; the next line that is printed replaces it."""
        if not self._animate:
            return
        under_way = [effect for effect in trace.effects if effect.status == "started"]
        sys.stdout.write(_ERASE_LINE)
        if trace.standing.is_live:
            text = " · ".join(map(_under_way, under_way[-4:])) or "nothing is under way"
            sys.stdout.write(fitted(f"… {text}", self._console.width - 1))
        sys.stdout.flush()

    def end(self, trace: Trace) -> None:
        """How it ended, where its time went, and what is next."""
        width = self._console.width
        self._print(list(foot(trace, self._look.only, width, marked=False)))

    def _print(self, lines: list[Line]) -> None:
        if self._animate:
            sys.stdout.write(_ERASE_LINE)
        self._console.print(Lines(lines), crop=False, end="")


class _Drawing:
    """Draws single entries of a trace as it stands."""

    def __init__(self, trace: Trace, look: Look, console: Console) -> None:
        self.trace = trace
        self._artist = Artist(trace, look, console.width, wrap=console.is_terminal)
        self._nodes = {node.path: node for node in trace.graph.walk()}

    def lines(self, effect: EffectView) -> Iterator[Line]:
        """An entry, with where it belongs."""
        node = self._nodes[effect.path]
        return self._artist.row(Row("", "  ", Item(where(effect.path), [node], node)))


def _moment(effect: EffectView) -> tuple[float, int]:
    """When it ended; for what has not, when it began."""
    return ((milliseconds(effect.started_at) or 0.0) + (effect.duration_ms or 0.0), effect.seq)


def _under_way(effect: EffectView) -> str:
    begin = milliseconds(effect.started_at) or 0.0
    lasted = max(0.0, (milliseconds(now()) or 0.0) - begin)
    return f"{clean(effect.kind)} {clean(effect.name)} {brief(lasted)}"
