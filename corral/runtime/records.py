"""Runs, journals and approvals as callers see them, and the answers that humans give.

Light on purpose: it imports no graph, no model and no tool library, so that listing runs and
answering an approval start fast.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, func, select

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.policies.redaction import Redactor
from corral.runtime import answers, deletion, retention
from corral.runtime.database import Database
from corral.runtime.listing import approval_view, effect_views, run_views
from corral.runtime.migrate import open_database
from corral.runtime.secrets import known_secrets
from corral.runtime.tables import approvals, runs, standing_rules, threads
from corral.runtime.views import Approval, EffectView, RunView, ThreadView
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
        yield Records(database, Redactor(known_secrets(settings)))
    finally:
        await database.aclose()


class Records:
    """Everything that can be asked about runs, and the answers to their questions.

    Runs and approvals are named by their id, by any unique beginning of it, or as ``last``. Raises
    ``NotFoundError`` for unknown ones and ``StorageError`` when the database cannot be used.
    ``redactor`` knows what must not be stored with an answer.
    """

    def __init__(self, database: Database, redactor: Redactor) -> None:
        self.database = database
        self._redactor = redactor

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
        self, *, run: str | None = None, status: str | None = "pending"
    ) -> list[Approval]:
        """The questions to humans, oldest first; ``status=None`` for the answered ones too."""
        query = select(approvals).order_by(approvals.c.created_at, approvals.c.id)
        if status is not None:
            query = query.where(approvals.c.status == status)
        if run is not None:
            query = query.where(approvals.c.run_id == run)
        return [approval_view(row) for row in await self._all(query)]

    async def approval(self, approval: str) -> Approval:
        """One question, answered or not."""
        return await self.database.read(
            lambda connection: approval_view(answers.find_approval(connection, approval))
        )

    async def approve(
        self,
        approval: str,
        *,
        args: JsonObject | None = None,
        always: JsonObject | None = None,
    ) -> Approval:
        """Let the call be made, with edited ``args`` if given.

        ``always`` adds a rule (``{"tool": …, "args": {…}}``) that lets such calls through in
        this workspace from now on. Raises ``ConflictError`` when the question was answered
        before, ``UsageError`` when ``args`` do not fit the tool's schema or hold a secret: they
        would be stored.
        """
        if args is not None and self._redactor.json(args) != args:
            raise UsageError(
                "The arguments hold a secret, and what is approved is stored.",
                hint="Give the secret to the tool's server in its environment instead.",
            )
        return await self.database.write(
            lambda connection: approval_view(answers.approve(connection, approval, args, always))
        )

    async def deny(self, approval: str, reason: str) -> Approval:
        """Refuse the call; the model is told ``reason``. Raises as ``approve``."""
        told = self._redactor.text(reason)
        return await self.database.write(
            lambda connection: approval_view(answers.deny(connection, approval, told))
        )

    async def give(self, approval: str, result: str) -> Approval:
        """Take ``result`` for what a call in doubt gave; the call is not made again.

        Raises as ``approve``, and ``UsageError`` for a call that is not in doubt, or a result of
        more than ``MAX_GIVEN`` characters.
        """
        if len(result) > MAX_GIVEN:
            raise UsageError(
                f"The result has {len(result):,} characters; a model can read {MAX_GIVEN:,}.",
                hint="Give the part of it that the agent needs to go on.",
            )
        told = self._redactor.text(clean(result))
        return await self.database.write(
            lambda connection: approval_view(answers.give(connection, approval, told))
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
        return await retention.collect(self.database, rules, dry_run=dry_run)

    async def delete(self, thread: str, *, with_forks: bool = False) -> deletion.Deleted:
        """Delete a thread for good, with all that belongs to it. See ``deletion.delete_thread``."""
        return await deletion.delete_thread(self.database, thread, with_forks=with_forks)

    async def standing_rules(self, workspace: str) -> list[JsonObject]:
        """The rules that "always" has added in a workspace, oldest first."""
        query = (
            select(standing_rules.c.rule)
            .where(standing_rules.c.workspace == workspace)
            .order_by(standing_rules.c.created_at)
        )
        return [json.loads(row.rule) for row in await self._all(query)]

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self.database.read(lambda connection: connection.execute(query).all())
