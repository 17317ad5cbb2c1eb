"""Spans sent while a run goes on, as the setting ``otlp_endpoint`` asks for.

In the background, behind the run's events: a run is never slower and never fails because of it.
When nothing takes the spans, the run's listeners are told once and nothing more is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from corral.errors import CorralError
from corral.runtime.events import (
    Event,
    Events,
    ModelFinished,
    Notice,
    RunFinished,
    RunStarted,
    ToolFinished,
)
from corral.runtime.export.otlp import OtlpTarget, Sender
from corral.runtime.export.spans import (
    Span,
    SpanMaker,
    has_ended,
    is_own,
    question_about,
)
from corral.runtime.listing import with_questions
from corral.runtime.records import Records
from corral.runtime.views import EffectView

PATIENCE = 5.0
"""Seconds that the end of a run waits for its last spans."""


def exported(events: Events, records: Records, target: OtlpTarget | None) -> Events:
    """The same events; with a target the run's spans are sent to it meanwhile."""
    if target is None:
        return events
    return _exported(events, _LiveExport(records, replace(target, timeout=PATIENCE)))


async def _exported(events: Events, export: _LiveExport) -> Events:
    told = False
    try:
        async with aclosing(events):
            async for event in events:
                problem = await export.take(event)
                if problem is not None and not told:
                    told = True
                    yield Notice(problem)
                yield event
    finally:
        await export.aclose()


class _LiveExport:
    """What has been sent of one run, and the task that sends the rest."""

    def __init__(self, records: Records, target: OtlpTarget) -> None:
        self._records = records
        self._target = target
        self._paths: asyncio.Queue[str | None] = asyncio.Queue()
        self._sent: set[tuple[str, int]] = set()
        self._task: asyncio.Task[None] | None = None
        self._maker: SpanMaker | None = None
        self._sender: Sender | None = None
        self._problem: str | None = None

    async def take(self, event: Event) -> str | None:
        """Follow an event. Returns what went wrong, if sending has been given up."""
        match event:
            case RunStarted() if self._task is None:
                self._task = asyncio.create_task(self._work(event.run, event.resumed))
            case ModelFinished() | ToolFinished():
                self._paths.put_nowait(event.path)
            case RunFinished() if self._task is not None:
                self._paths.put_nowait(None)
                done, _ = await asyncio.wait([self._task], timeout=PATIENCE)
                if not done:
                    self._give_up(
                        f"The OpenTelemetry collector did not answer in {PATIENCE:.0f} seconds"
                    )
        return self._problem

    async def aclose(self) -> None:
        """Send the rest of a run that its caller has left, if that takes no time, and stop."""
        if self._task is not None:
            self._paths.put_nowait(None)
            await asyncio.wait([self._task], timeout=PATIENCE)
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self, run: str, resumed: bool) -> None:
        """Send what ends until the run has, then the rest and the span of the whole."""
        try:
            view = await self._records.run(run)
            self._maker = SpanMaker(view, self._target.content)
            self._sender = Sender(self._target, run)
            before = await self._records.trace(run)
            self._take_up(before)
            if resumed:
                self._sent |= {_key(effect) for effect in self._over(before)}
            while (paths := await self._next()) is not None:
                read = partial(with_questions, run=run, paths=self._around(paths))
                found = await self._records.database.read(read)
                self._take_up(found)
                await self._send(self._over(found))
            await self._finish(run)
        except CorralError as error:
            self._give_up(error.message)
        except Exception as error:  # noqa: BLE001  the border to OpenTelemetry: it may raise anything, and the run goes on
            self._give_up(f"OpenTelemetry broke, {type(error).__name__}: {error}")
        finally:
            if self._sender is not None:
                self._sender.close()

    async def _next(self) -> list[str] | None:
        """The paths of all that has ended since; ``None`` when the run has."""
        paths = [await self._paths.get()]
        while not self._paths.empty():
            paths.append(self._paths.get_nowait())
        return None if None in paths else [path for path in paths if path is not None]

    def _around(self, paths: list[str]) -> list[str]:
        """What has ended, and the sub-agents that it happened in."""
        assert self._maker is not None
        above = {path[:end] for path in paths for end, mark in enumerate(path) if mark == "/"}
        known = self._maker.seen.keys()
        return [*paths, *(above - known)]

    async def _finish(self, run: str) -> None:
        assert self._maker is not None
        view, effects = await self._records.run(run), await self._records.trace(run)
        self._maker.run = view
        self._take_up(effects)
        # A run that waits for an answer goes on: its own span is sent when it is over.
        whole = [] if view.status == "paused" else [self._maker.root(effects)]
        await self._send(self._over(effects), whole)

    def _take_up(self, effects: Sequence[EffectView]) -> None:
        assert self._maker is not None
        for effect in effects:
            self._maker.add(effect)

    def _over(self, effects: Sequence[EffectView]) -> list[EffectView]:
        """What has ended. A question is over when its call is: then its time is known."""
        ended = {effect.path for effect in effects if has_ended(effect)}
        return [
            effect
            for effect in effects
            if effect.path in ended and (question_about(effect) or effect.path) in ended
        ]

    async def _send(self, effects: Collection[EffectView], more: Sequence[Span] = ()) -> None:
        assert self._maker is not None
        assert self._sender is not None
        new = [
            effect
            for effect in effects
            if _key(effect) not in self._sent and is_own(effect, self._maker.run)
        ]
        spans = [*(self._maker.of(effect) for effect in new), *more]
        if spans:
            await asyncio.to_thread(self._sender.send, spans)
        self._sent |= {_key(effect) for effect in new}

    def _give_up(self, why: str) -> None:
        if self._problem is None:
            self._problem = (
                f"{why.rstrip('.')}. No more of this run is sent to it; the run goes on. "
                "`corral export RUN --otlp` sends all of it later."
            )


def _key(effect: EffectView) -> tuple[str, int]:
    return (effect.path, effect.attempts)
