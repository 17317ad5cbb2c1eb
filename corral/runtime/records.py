"""Runs, journals and approvals as callers see them, and the answers that humans give.

Light on purpose: it imports no graph, no model and no tool library, so that listing runs and
answering an approval start fast.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

from sqlalchemy import Connection, Row, Select, func, select

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.policies.redaction import Redactor
from corral.runtime.approvals import answers, standing
from corral.runtime.approvals.escalation import catch_up
from corral.runtime.approvals.file_change import warnings_of
from corral.runtime.approvals.past_calls import would_match
from corral.runtime.approvals.replies import Always, Approved, Denied, Given, Reply, Stopped
from corral.runtime.approvals.rule_text import parse_rule
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.database import Database
from corral.runtime.housekeeping import deletion, retention
from corral.runtime.listing import approval_view, effect_views, run_views
from corral.runtime.migrate import open_database
from corral.runtime.models.local.states.removal import states_folder
from corral.runtime.secrets import redactor_of
from corral.runtime.tables import approvals, runs, threads
from corral.runtime.views import Approval, EffectView, PastCall, RunView, StandingRule, ThreadView
from corral.tools.text import clean

if TYPE_CHECKING:
    from corral.runtime.config import Settings


MAX_GIVEN = 200_000
"""The longest result, in characters, that a call can be given by hand."""


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[Records]:
    """Open the database of ``settings`` for looking and for answering."""
    database = await open_database(settings.database)
    try:
        yield records_of(settings, database, redactor_of(settings))
    finally:
        await database.aclose()


def records_of(settings: Settings, database: Database, redactor: Redactor) -> Records:
    """The records of a database that is open, with what ``settings`` say about questions."""
    states = states_folder(settings.home)
    return Records(database, redactor, settings.approvals, settings.sandboxed_servers, states)


class Records:
    """Everything that can be asked about runs, and the answers to their questions.

    Runs and approvals are named by their id, by any unique beginning of it, or as ``last``. Raises
    ``NotFoundError`` for unknown ones and ``StorageError`` when the database cannot be used.
    ``redactor`` knows what must not be stored with an answer, ``questions`` what becomes of those
    that nobody answers, ``sandboxed`` names the servers in the sandbox, and ``states`` is where
    local models save conversations.
    """

    def __init__(
        self,
        database: Database,
        redactor: Redactor,
        questions: ApprovalSettings | None = None,
        sandboxed: frozenset[str] = frozenset(),
        states: Path | None = None,
    ) -> None:
        self.database = database
        self._redactor = redactor
        self._questions = questions or ApprovalSettings()
        self._sandboxed = sandboxed
        self._states = states

    async def threads(self, *, limit: int = 50) -> list[ThreadView]:
        """The threads, the most recently used first."""
        count = (
            select(func.count())
            .select_from(runs)
            .where(runs.c.thread_id == threads.c.id)
            .scalar_subquery()
        )
        query = select(threads, count.label("runs")).order_by(threads.c.updated_at.desc())
        rows = await self._all(query.limit(limit))
        return [
            ThreadView(row.id, row.title, row.workspace, row.created_at, row.updated_at, row.runs)
            for row in rows
        ]

    async def runs(
        self, *, thread: str | None = None, limit: int = 50, rewound: bool = True
    ) -> list[RunView]:
        """The runs, newest first, of one thread or of all; with those that were rewound, or not."""
        query = select(runs)
        if thread is not None:
            query = query.where(runs.c.thread_id == thread)
        if not rewound:
            query = query.where(runs.c.rewound.is_(None))
        ordered = query.order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit)
        return await self.database.read(lambda connection: run_views(connection, ordered))

    async def run(self, run: str) -> RunView:
        """One run."""

        def work(connection: Connection) -> RunView:
            found = answers.find_run(connection, run)
            return run_views(connection, select(runs).where(runs.c.id == found))[0]

        return await self.database.read(work)

    async def trace(self, run: str) -> list[EffectView]:
        """The run's journal, oldest entry first; a fork's begins with what it shares.

        The request of a model call holds the messages that were added since the call whose
        ``seq`` stands under ``after``; ``earlier`` counts those that the thread had before the run.
        """

        def work(connection: Connection) -> list[EffectView]:
            return effect_views(connection, answers.find_run(connection, run))

        return await self.database.read(work)

    async def approvals(
        self, *, run: str | None = None, status: str | None = "pending", asked_of: str | None = None
    ) -> list[Approval]:
        """The questions to humans, oldest first; ``status=None`` for the answered ones too.

        ``asked_of`` leaves those that were escalated to that name. What is overdue is denied first.
        """
        await self.catch_up()
        query = select(approvals).order_by(approvals.c.created_at, approvals.c.id)
        wanted = {
            approvals.c.status: status,
            approvals.c.run_id: run,
            approvals.c.asked_of: asked_of,
        }
        for column, value in wanted.items():
            if value is not None:
                query = query.where(column == value)
        return [approval_view(row) for row in await self._all(query)]

    async def approval(self, approval: str) -> Approval:
        """One question, answered or not, with what is not any more as it was when it was asked."""
        await self.catch_up()
        found = await self.database.read(
            lambda connection: approval_view(answers.find_approval(connection, approval))
        )
        return replace(found, warnings=warnings_of(found))

    async def catch_up(self) -> None:
        """Deny the questions that are overdue, and escalate those that have waited long enough."""
        await catch_up(self.database, self._questions)

    async def answer(
        self, approval: str, reply: Reply, signed: answers.Signed = answers.USER
    ) -> Approval:
        """Answer a question, once: its run goes on with the answer when it is resumed.

        A rule for "always" answers the other questions that wait where it holds and that it fits,
        with it: they are the ``alike`` of what is returned.

        Raises ``ConflictError`` when it was answered before or is overdue, and ``UsageError`` when
        edited arguments do not fit the tool's schema or hold a secret (they would be stored), when
        a rule for "always" cannot be understood or does not fit its own call, and when a result has
        more than ``MAX_GIVEN`` characters. Then nothing is answered.
        """
        told = self._stored(reply)
        warnings = (await self.approval(approval)).warnings
        done = await self.database.write(
            lambda connection: answers.answer(connection, approval, told, signed)
        )
        return replace(approval_view(done.row), warnings=warnings, alike=done.alike)

    def _stored(self, reply: Reply) -> Reply:
        """A reply as it is kept: without secrets."""
        match reply:
            case Approved(args, always):
                if args is not None and self._redactor.json(args) != args:
                    raise UsageError(
                        "The arguments hold a secret, and what is approved is stored.",
                        hint="Give the secret to the tool's server in its environment instead.",
                    )
                return Approved(args, self._without_secret(always))
            case Denied(reason, always):
                return Denied(self._redactor.text(reason), self._without_secret(always))
            case Given(result):
                return Given(self._redactor.text(clean(_bounded(result))))
            case Stopped(reason):
                return Stopped(self._redactor.text(reason))
            case _:
                assert_never(reply)

    def _without_secret(self, always: Always | bool) -> Always | bool:
        rule = always.rule if isinstance(always, Always) else None
        if isinstance(rule, str | dict) and self._redactor.json(rule) != rule:
            raise UsageError(
                "The rule holds a secret, and rules are stored.",
                hint="Put a * in its place, or answer without a rule.",
            )
        return always

    async def approve(
        self, approval: str, *, args: JsonObject | None = None, always: Always | bool = False
    ) -> Approval:
        """Let the call be made, with edited ``args`` if given. Raises as ``answer``."""
        return await self.answer(approval, Approved(args, always))

    async def deny(self, approval: str, reason: str, *, always: Always | bool = False) -> Approval:
        """Refuse the call; the model is told ``reason``. Raises as ``answer``."""
        return await self.answer(approval, Denied(reason, always))

    async def give(self, approval: str, result: str) -> Approval:
        """Take ``result`` for what the call gave; it is not made. Raises as ``answer``."""
        return await self.answer(approval, Given(result))

    async def stop(self, approval: str, reason: str = Stopped.reason) -> Approval:
        """Stop the run at this question. Raises as ``answer``."""
        return await self.answer(approval, Stopped(reason))

    async def preview(self, rule: JsonObject | str, workspace: str) -> list[PastCall]:
        """The calls of this workspace's newest runs that a rule fits, newest first."""
        table = parse_rule(rule) if isinstance(rule, str) else rule
        return await self.database.read(
            lambda connection: would_match(connection, table, workspace, self._sandboxed)
        )

    async def cancel(self, run: str) -> RunView:
        """Give a paused or interrupted run up: its thread can go on with something else.

        Its open questions are denied. Raises ``ConflictError`` for a run that has ended.
        """
        return await self.run(
            await self.database.write(lambda connection: answers.cancel(connection, run))
        )

    async def pin(self, run: str, *, pinned: bool = True) -> RunView:
        """Keep a run, and what it needs, whatever its age; or no longer."""
        found = await self.database.write(lambda c: retention.pin(c, run, pinned=pinned))
        return await self.run(found)

    async def gc(
        self, rules: retention.Retention | None = None, *, dry_run: bool = False
    ) -> retention.Collected:
        """Remove the runs that ``rules`` let go and what nothing needs.

        See ``retention.collect``.
        """
        rules = rules or retention.Retention()
        return await retention.collect(self.database, rules, dry_run=dry_run, states=self._states)

    async def delete(self, thread: str, *, with_forks: bool = False) -> deletion.Deleted:
        """Delete a thread for good, with all that belongs to it. See ``deletion.delete_thread``."""
        return await deletion.delete_thread(
            self.database, thread, with_forks=with_forks, states=self._states
        )

    async def standing_rules(
        self, workspace: str, thread: str | None = None, run: str | None = None
    ) -> list[JsonObject]:
        """The rules that "always" has added and that hold for a run now, oldest first."""
        return await self.database.glance(
            lambda connection: standing.applying(connection, workspace, thread, run)
        )

    async def rules(self, workspace: str | None = None) -> list[StandingRule]:
        """All rules that "always" has added, or those of a workspace and of the user."""
        return await self.database.read(lambda c: standing.listed(c, workspace))

    async def forget_rule(self, rule: str) -> StandingRule:
        """Remove a rule that "always" has added."""
        return await self.database.write(lambda c: standing.remove(c, rule))

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self.database.read(lambda connection: connection.execute(query).all())


def _bounded(result: str) -> str:
    if len(result) > MAX_GIVEN:
        raise UsageError(
            f"The result has {len(result):,} characters; a model can read {MAX_GIVEN:,}.",
            hint="Give the part of it that the agent needs to go on.",
        )
    return result
