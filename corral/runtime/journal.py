"""The journal of one run: write-ahead rows, found again by where in the graph they were asked.

An entry is inserted as ``started`` before its effect happens and becomes ``finished``, ``failed``
or ``cancelled`` after. The journal decides what has happened; the checkpoint only saves work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

from langchain_core.messages import BaseMessage
from sqlalchemy import Connection

from corral.errors import CorralError, StorageError
from corral.jsontypes import JsonObject, digest
from corral.policies.limits import Spent
from corral.runtime.clock import now
from corral.runtime.database import Database
from corral.runtime.effects import NOTHING, Effect, Outcome, Spend
from corral.runtime.entries import (
    ENDED,
    Entry,
    changed_since,
    failure,
    has_consequences,
    inherited,
    load_entries,
)
from corral.runtime.entry_writer import EntryWriter
from corral.runtime.histories import Histories, in_order_of_ends
from corral.runtime.messages import Transcripts
from corral.runtime.paths import asked_about, conversation, is_about_another, node, scope

_CHANGED_BY = {"model", "agent", "prompt", "instructions", "machine"}
"""What a fork can change of the requests that its parent's model calls were made with."""


class Journal:
    """The entries of one run, in memory and on disk. One process writes it at a time.

    ``changed`` names what forks have changed since the past that is among the entries.
    ``is_over`` is set for a run that has completed: its graph has gone on from everything.
    """

    def __init__(
        self,
        database: Database,
        run: str,
        entries: list[Entry],
        changed: frozenset[str] = frozenset(),
    ) -> None:
        self.run = run
        self._writer = EntryWriter(database)
        self._by_path = {entry.path: entry for entry in entries}
        self._next = max((entry.seq for entry in entries), default=0) + 1
        self._ends = max((entry.ended or 0 for entry in entries), default=0)
        self._asks = max((max(e.asked or e.seq, e.seen or 0) for e in entries), default=0)
        self._asked: dict[str, int] = {}
        self._ended_here: set[str] = set()
        self._gone_on_from = {
            entry.path
            for entry in entries
            if entry.status in ("failed", "cancelled") and has_consequences(entry, entries)
        }
        self._lenient = not _CHANGED_BY.isdisjoint(changed)
        self._transcripts = Transcripts()
        self._turns: Counter[str] = Counter()
        self.is_over = False
        self.spent = Spent()
        self.histories = Histories()
        for entry in sorted(entries, key=lambda entry: entry.seq):
            if entry.kind == "model":
                self._transcripts.load(node(entry.path), entry.seq, entry.request)
        for entry in in_order_of_ends(entries):
            self._count(entry, entry.spend)

    @classmethod
    async def load(cls, database: Database, run: str, *, new: bool = False) -> Journal:
        """The journal as the database holds it; that of a ``new`` run is about empty."""

        def work(connection: Connection) -> Journal:
            return cls(database, run, load_entries(connection, run), changed_since(connection, run))

        return await (database.glance(work) if new else database.read(work))

    def find(self, path: str) -> Entry | None:
        """The entry at this place in the graph."""
        return self._by_path.get(path)

    def ask(self, path: str) -> Entry | None:
        """The entry at this place, which the graph now asks for."""
        self._asks += 1
        self._asked[path] = self._asks
        return self._by_path.get(path)

    def entries(self) -> list[Entry]:
        """All entries in the order in which they were first asked for."""
        return sorted(self._by_path.values(), key=lambda entry: entry.seq)

    def holds_inside(self, path: str) -> bool:
        """Whether there are effects inside of this one, other than questions about it."""
        inside = f"{path}/"
        return any(
            other.startswith(inside) and entry.kind != "approval" and asked_about(other) != path
            for other, entry in self._by_path.items()
        )

    def turns(self, path: str) -> int:
        """How many model calls the agent that asks at ``path`` has had answered.

        One that is being checked counts: its judge, and its next try, come after it.
        """
        checked = self._by_path.get(asked_about(path)) if is_about_another(path) else None
        during = checked is not None and checked.kind == "model" and checked.status == "started"
        return self._turns[self.agent_scope(path)] + during

    def place_about(self, path: str) -> str:
        """The next free path for what a check of the effect at ``path`` takes."""
        places = (f"{path}/check/{number}" for number in count(1))
        return next(place for place in places if place not in self._by_path)

    def agent_scope(self, path: str) -> str:
        """The scope of the agent that asks: of the run's own, or of the sub-agent around."""
        around = scope(path)
        while around:
            # What an agent finds when it begins is there before all else of it.
            entry = self._by_path.get(around[:-1]) or self._by_path.get(f"{around}prepare")
            if entry is not None and entry.kind in ("agent", "prepare"):
                return around
            around = scope(around[:-1])
        return ""

    def conversation(self, path: str) -> str:
        """The scope of the conversation in which the agent asks, see ``paths``."""
        return conversation(path, self.agent_scope(path))

    def is_inside_finished(self, entry: Entry) -> bool:
        """Whether the entry is inside of an effect that has finished."""
        around = scope(entry.path)
        while around:
            outer = self._by_path.get(around[:-1])
            if outer is not None and outer.status == "finished":
                return True
            around = scope(around[:-1])
        return False

    def identify(self, effect: Effect) -> str:
        """The digest by which an asked effect is compared with a recorded one."""
        if not effect.transcript:
            return digest(effect.request)
        return self._transcripts.identity(effect.request, effect.transcript)

    def matches(self, entry: Entry, effect: Effect, identity: str) -> bool:
        """Whether an asked effect is the recorded one.

        A fork may ask its parent's model calls with another model, prompt or agent: their answers
        are its past. What tools were called with must be the same in any case.
        """
        if entry.digest == identity:
            return True
        is_past = self._lenient and inherited(entry, self.run)
        return is_past and entry.kind == effect.kind and entry.kind != "tool"

    def is_settled(self, entry: Entry) -> bool:
        """Whether the graph has taken the entry for its effect's end.

        A failure, or a call that was cut off, that it has not gone on from is no such end: a
        resume makes the effect again.
        """
        if entry.status == "finished" or (entry.status == "cancelled" and entry.result):
            return True
        return entry.status in ENDED and self._is_past(entry)

    def was_given_up(self, entry: Entry) -> bool:
        """Whether the graph went on without the effect's end, even if that came after all."""
        return entry.status == "cancelled" and self._is_past(entry)

    def _is_past(self, entry: Entry) -> bool:
        if self.is_over or inherited(entry, self.run):
            return True
        # What an earlier execution left is judged by what had come of it then: what is asked for
        # again since, beside it, has not.
        if entry.path in self._ended_here:
            return has_consequences(entry, self._by_path.values())
        return entry.path in self._gone_on_from

    async def start(self, path: str, effect: Effect, identity: str) -> Entry:
        """Record that the effect is about to be made.

        Before an effect that must not happen twice this returns only once the row is flushed;
        for one that may be made again the row is on its way, see ``EntryWriter``.
        """
        before = self._by_path.get(path)
        entry = self._restarted(before, effect) if before else self._new(path, effect, identity)
        self._by_path[path] = entry
        await self._writer.start(entry, repeatable=effect.repeatable)
        return entry

    def _restarted(self, before: Entry, effect: Effect) -> Entry:
        request = before.request if effect.transcript else effect.request
        again = before.attempts + 1
        return replace(
            before,
            status="started",
            request=request,
            result=None,
            ended=None,
            seen=None,  # but asked for as early as it was at first: what ended since is no cause
            attempts=again,
            started_at=now(),
        )

    def _new(self, path: str, effect: Effect, identity: str) -> Entry:
        entry = Entry(
            run=self.run,
            seq=self._next,
            path=path,
            kind=effect.kind,
            name=effect.name,
            status="started",
            digest=identity,
            request=self._stored_request(path, effect),
            started_at=now(),
            asked=self._asked.get(path, self._asked.get(asked_about(path))),
        )
        self._next += 1
        return entry

    def full_request(self, entry: Entry) -> JsonObject:
        """The entry's request with all messages of the run's own transcript, not only the added.

        ``earlier`` says how many of the thread's were before them.
        """
        by_seq = {other.seq: other for other in self._by_path.values()}
        request = dict(entry.request)
        after = request.pop("after", None)
        while after is not None:
            earlier = by_seq[after].request
            request["messages"] = [*earlier["messages"], *request["messages"]]
            if "earlier" in earlier:
                request["earlier"] = earlier["earlier"]
            after = earlier.get("after")
        return request

    def waiting(self, path: str, name: str, request: JsonObject) -> Entry:
        """A new entry for a question to a human, for the caller to store with the question."""
        entry = Entry(
            run=self.run,
            seq=self._next,
            path=path,
            kind="approval",
            name=name,
            status="waiting",
            digest=digest(request),
            request=request,
            started_at=now(),
        )
        self._next += 1
        self._by_path[path] = entry
        self._writer.flush()
        return entry

    def _stored_request(self, path: str, effect: Effect) -> JsonObject:
        if not effect.transcript:
            return effect.request
        where = node(path)
        digests = self._transcripts.digests(effect.transcript)
        after, first = self._transcripts.delta(where, digests)
        self._transcripts.remember(where, self._next, digests)
        added = effect.transcript[first:]
        own = self.without_earlier(added) if after is None else added
        request = {**effect.request, "after": after, "messages": self._transcripts.encoded(own)}
        return {**request, "earlier": len(added) - len(own)} if len(own) < len(added) else request

    def without_earlier(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The messages without those that earlier runs of the thread have put there.

        They are in the checkpoint at which this run began. Stored with every run's first prompt,
        a thread would grow with its square. A message's id begins with the run that made it.
        """
        mine = {self.run, *(entry.run for entry in self._by_path.values())}
        runs = ((one.id or "").partition(":") for one in messages)
        return [
            one
            for one, (run, colon, _) in zip(messages, runs, strict=True)
            if not colon or run in mine or not run.startswith("r-")
        ]

    async def finish(self, entry: Entry, outcome: Outcome, duration_ms: float) -> Entry:
        """Record what the effect gave; a killed process does not lose it once this returns.

        It is flushed with what comes next that must be: the start of a call that must not happen
        twice, a question, the run's end. Nothing can happen after the one and survive a power cut
        that the other did not, so such a call is then in doubt, and never silently made again.
        """
        spent = outcome.spend.after(entry.spend)
        done = self._ended(entry, duration_ms, status="finished", result=outcome.value, spend=spent)
        self._count(done, outcome.spend)
        await self._writer.end(done)
        return done

    async def fail(
        self, entry: Entry, error: CorralError, duration_ms: float, spend: Spend = NOTHING
    ) -> None:
        """Record that the effect failed, and how; a resume makes it again."""
        spent = spend.after(entry.spend)
        self._spend(spend)
        told = failure(error)
        failed = self._ended(entry, duration_ms, status="failed", result=told, spend=spent)
        await self._writer.end(failed)

    def cancel(self, path: str, duration_ms: float, spend: Spend = NOTHING) -> None:
        """Record that the graph, or who stopped it, did not wait for the end of an effect.

        Nobody knows what it did, unless it was just ending: then its result is kept. ``spend`` is
        what it had used by then. Does not wait: who is cancelled must not be held up.
        """
        held = self._by_path[path]
        if held.status != "finished":
            held = replace(held, result={}, spend=spend.after(held.spend))
            self._spend(spend)
        cut_off = self._ended(held, duration_ms, status="cancelled")
        # A task may be left over by its node, and be cancelled when all else is closed.
        with suppress(StorageError):
            self._writer.end_soon(cut_off)

    def taken(self, entry: Entry) -> Entry:
        """A settled entry, which the graph now gets.

        An end that a stop kept from the graph counts from now on.
        """
        if entry.status != "cancelled" or self.was_given_up(entry):
            return entry
        end = self._ended(entry, entry.duration_ms or 0.0, status="finished")
        self._writer.end_soon(end)
        return end

    def flush(self) -> None:
        """Store what is only in memory, if anything is."""
        self._writer.flush()

    def _ended(self, entry: Entry, duration_ms: float, **how: Any) -> Entry:
        self._ends += 1
        order = {"ended": self._ends, "seen": self._asks, "duration_ms": duration_ms}
        done = Entry(**{**vars(entry), **order, **how})
        self._by_path[done.path] = done
        self._ended_here.add(done.path)
        return done

    def _count(self, entry: Entry, spend: Spend) -> None:
        answered = entry.status in ("finished", "cancelled") and bool(entry.result)
        is_turn = answered and entry.kind == "model"
        self._spend(spend, steps=int(is_turn))
        if not answered:
            return
        self._turns[self.agent_scope(entry.path)] += is_turn
        self.histories.add(entry, self.conversation(asked_about(entry.path)))

    def _spend(self, spend: Spend, steps: int = 0) -> None:
        parts = {name: getattr(spend, name) for name in vars(self.spent) if name != "steps"}
        self.spent = self.spent.plus(Spent(steps, **parts))
