"""The door: every effect of every run comes through here, and through all of its stations.

    recall ─► checks ─► loops ─► cache ─► budget ─► policy ─► keep workspace
           ─► journal "started" ─► execute ─► checks ─► redact ─► journal "finished" ─► settle

A graph is otherwise pure, so exactly-once, budgets, approvals at any depth, redaction, the
trace and offline replay are each one station here and nothing anywhere else.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
from langgraph.errors import GraphBubbleUp

from corral.errors import (
    ControlFlow,
    CorralError,
    DivergenceError,
    LimitReached,
    OutOfTime,
    RunError,
)
from corral.jsontypes import JsonObject
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.redaction import Redactor
from corral.runtime.carried import redacted
from corral.runtime.connections import Connections
from corral.runtime.context import asked_with, current_scope, inside
from corral.runtime.divergence import describe
from corral.runtime.effects import Attempt, Effect, Outcome, Settled
from corral.runtime.entries import Entry
from corral.runtime.events import (
    AgentFinished,
    AgentStarted,
    Event,
    ModelFinished,
    ToolFinished,
    ToolStarted,
)
from corral.runtime.journal import Journal
from corral.runtime.paths import is_about_another
from corral.runtime.recall import Recall
from corral.runtime.stations.budget import Grant
from corral.runtime.stations.opened import Stations

log = structlog.get_logger()


@dataclass(frozen=True)
class LiveDoor:
    """The door of a run that is really executed.

    Raises what the effect raises, ``LimitReached``, ``DivergenceError`` when the journal holds
    another effect at this place, or LangGraph's interrupt when a human must be asked. ``before``
    is awaited when an effect is about to be made: it keeps what the effect may change.
    """

    journal: Journal
    recall: Recall
    stations: Stations
    redactor: Redactor
    emit: Callable[[Event], None]
    before: Callable[[Effect], Awaitable[None]] | None = None

    async def perform(self, effect: Effect, path: str) -> Outcome:
        """Take the effect through all stations. See the module's text."""
        effect = self._cleaned(effect)
        identity = self.journal.identify(effect)
        entry = self.journal.ask(path)
        if entry is not None:
            if not self.journal.matches(entry, effect, identity):
                raise DivergenceError(
                    describe(entry, effect, self.journal),
                    hint="The agent or its tools changed since the run began: start a new run.",
                )
            if self.journal.is_settled(entry):
                return await self.recall.answer(self.journal.taken(entry))
        try:
            return await self._pass(effect, path, identity, entry)
        except asyncio.CancelledError:
            if entry is not None and self.journal.find(path) is entry:
                self.journal.cancel(path, entry.duration_ms or 0.0)  # once more, before it began
            raise

    async def _pass(self, effect: Effect, path: str, identity: str, entry: Entry | None) -> Outcome:
        """From the stations on: nothing is known yet of how it ends."""
        while True:
            try:
                return await self._through(effect, path, identity, entry)
            except OutOfTime:  # the budget station says next time whether it may go on
                entry = self.journal.find(path)

    async def _through(
        self, effect: Effect, path: str, identity: str, entry: Entry | None
    ) -> Outcome:
        try:
            checked = await self.stations.shield.before(effect, path)
            if isinstance(checked, Settled):
                return await self._record(path, effect, identity, checked)
            effect = checked if checked is effect else self._cleaned(checked)
            notes = await self.stations.watch.check(effect, path)
            if isinstance(notes, Settled):
                return await self._record(path, effect, identity, notes)
            if not notes:  # a model that is told something is really asked
                effect = await self.stations.cache.answered(effect, path)
            grant = await self.stations.meter.reserve(effect, path)
        except ControlFlow as stop:
            scope = stop.scope if isinstance(stop, LimitReached) else ""
            await self._quiet(path, scope)
            if scope:  # what ends is part of the run
                failed = await self.journal.start(path, effect, identity)
                await self.journal.fail(failed, self._redacted(stop), 0.0)
            raise
        try:
            cleared = await self._cleared(effect, path, entry)
            if isinstance(cleared, Settled):
                return await self._record(path, effect, identity, cleared)
            if cleared is not effect:  # a human has edited the arguments
                cleared = replace(self._cleaned(cleared), checks=effect.checks)
            grant = replace(grant, notes=(*notes, *grant.notes))
            return await self._execute(path, cleared, identity, grant)
        finally:
            await self.stations.meter.release(path)

    async def _cleared(self, effect: Effect, path: str, entry: Entry | None) -> Effect | Settled:
        try:
            return await self.stations.gate.clear(effect, path, entry)
        except ControlFlow:
            await self._quiet(path)
            raise

    async def _quiet(self, path: str, scope: str = "") -> None:
        """Wait for what is being made before a graph ends. What is asked in the middle of a call
        ends none: its failure is told to who asks, in a call that would be waited for.
        """
        if not is_about_another(path):
            await self.recall.quiet(scope)

    async def _record(self, path: str, effect: Effect, identity: str, how: Settled) -> Outcome:
        """Journal an outcome that needs no execution: a refusal, or a result given by hand."""
        entry = await self.journal.start(path, effect, identity)
        outcome = self._labelled(effect, path, how.outcome, made=how.was_made)
        return await self._finish(entry, effect, outcome, 0.0)

    async def _execute(self, path: str, effect: Effect, identity: str, grant: Grant) -> Outcome:
        if self.before is not None:
            await self.before(effect)
        began = time.monotonic()
        try:
            with nullcontext() if effect.pure else self.recall.under_way(path):
                entry = await self.journal.start(path, effect, identity)
                if effect.guard is not None:
                    started = AgentStarted if effect.kind == "agent" else ToolStarted
                    args, agents = effect.request["args"], current_scope.get().agents
                    self.emit(started(effect.name, args, path=path, agents=agents))
                outcome = await self._make(entry, effect, grant, began)
                outcome = self.stations.meter.priced(effect, outcome)
                took = _since(began)
                outcome = self._labelled(effect, path, outcome, made=True)
                done = await self._finish(entry, effect, outcome, took)
                await self.stations.meter.settle(path, done.spend, took)
                return done
        except asyncio.CancelledError:
            self.journal.cancel(path, _since(began), self.stations.meter.broken_off(effect, path))
            raise

    async def _make(self, entry: Entry, effect: Effect, grant: Grant, began: float) -> Outcome:
        """Let the effect happen. What it raises is journaled first."""
        path = entry.path
        turn = self.journal.turns(path)
        attempt = Attempt(
            key=f"{self.journal.run}:{path}",
            path=path,
            turn=turn,
            max_output_tokens=grant.max_output_tokens,
            notes=grant.notes,
            seconds=grant.seconds,
            place=lambda: self.journal.place_about(path),
            watch=Connections(self.journal, path, self._clean),
            report=lambda spent: self.stations.meter.hear(path, spent),
            user=partial(self.stations.gate.ask_meanwhile, path),
        )
        context = self.stations.tracker.context(effect, path)
        if effect.pure:
            self.stations.tracker.begins(path, context)
        try:
            with inside(path, agent=effect.name if effect.pure else None), asked_with(context):
                async with self.stations.meter.in_time(grant):
                    return await self.stations.shield.make(effect, attempt)
        except CorralError as error:
            failure = self._redacted(error)
            spent = self.stations.meter.broken_off(effect, path)
            await self.journal.fail(entry, failure, _since(began), spent)
            raise failure from None
        except GraphBubbleUp:
            raise  # not an error: a graph inside this effect asks a human
        except Exception as error:  # noqa: BLE001  a tool's or a model's own code may raise anything
            failure = self._redacted(_unexpected(effect, error))
            trace = "".join(traceback.format_exception(error))
            log.error("effect_broke", path=path, traceback=self.redactor.text(trace))
            if effect.repeatable:
                await self.journal.fail(entry, failure, _since(began))
            # Else the entry has no end: what had happened by then is in doubt.
            raise failure from None

    async def _finish(
        self, entry: Entry, effect: Effect, outcome: Outcome, duration_ms: float
    ) -> Outcome:
        # What is stored is also what the graph goes on with: a replay must see the same.
        outcome = Outcome(self._clean(outcome.value), outcome.spend)
        async with self.recall.ending(entry.path):
            ended = await self.journal.finish(entry, outcome, duration_ms)
        self.stations.tracker.saw(ended)
        self.stations.cache.keep(ended)
        self._tell(entry, effect, outcome, duration_ms)
        return outcome

    def _labelled(self, effect: Effect, path: str, outcome: Outcome, *, made: bool) -> Outcome:
        label = self.stations.tracker.label(effect, path, outcome, made=made)
        if label is None:
            return outcome
        return replace(outcome, value={**outcome.value, LABEL: label.to_json()})

    def _cleaned(self, effect: Effect) -> Effect:
        request = self._clean(effect.request)
        return effect if request is effect.request else replace(effect, request=request)

    def _clean(self, value: JsonObject) -> JsonObject:
        return redacted(value, self.redactor)

    def _redacted(self, error: CorralError) -> CorralError:
        clean = self.redactor.text
        message, hint = clean(error.message), clean(error.hint)
        if isinstance(error, LimitReached):
            answer = clean(error.answer)
            return type(error)(message, hint=hint, scope=error.scope, answer=answer)
        return type(error)(message, hint=hint)

    def _tell(self, entry: Entry, effect: Effect, outcome: Outcome, duration_ms: float) -> None:
        value, spend, agents = outcome.value, outcome.spend, current_scope.get().agents
        if entry.kind in ("tool", "agent"):
            text, is_error = str(value["text"]), bool(value["is_error"])
            finished = AgentFinished if entry.kind == "agent" else ToolFinished
            at = entry.path
            self.emit(finished(entry.name, text, is_error, duration_ms, path=at, agents=agents))
        elif entry.kind == "model":
            # What a check has asked for is no answer yet, and may be refused.
            said = "" if is_about_another(entry.path) else str(value["text"])
            self.emit(
                ModelFinished(
                    text=said,
                    duration_ms=duration_ms,
                    path=entry.path,
                    agents=agents,
                    aloud=effect.aloud,
                    **vars(spend),
                )
            )


def _unexpected(effect: Effect, error: Exception) -> RunError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return RunError(
        f"The {effect.kind} {effect.name} broke: {type(error).__name__}: {error} "
        f"({Path(where.filename).name}, line {where.lineno}).",
        hint="This is a defect in its code, not in what it was asked. Mend it and resume the run.",
    )


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
