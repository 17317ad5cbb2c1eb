"""Answers while a run goes on: by an approver of the caller's, or from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from dataclasses import dataclass, replace

from corral.agents.options import RunOptions
from corral.agents.patience import agent_terms
from corral.agents.roster import Roster
from corral.agents.spending import Spending, as_begun
from corral.errors import ConflictError
from corral.policies.redaction import Redactor
from corral.runtime import runs
from corral.runtime.approvals.answers import Signed, spend_on
from corral.runtime.approvals.approvers import ModelApprover, Verdict
from corral.runtime.approvals.replies import Stopped
from corral.runtime.budgets.prices import billed
from corral.runtime.events import ApprovalRequested, Events
from corral.runtime.models.contract import ChatModel
from corral.runtime.records import Records
from corral.runtime.stations.beside import Beside
from corral.runtime.views import Approval, RunResult
from corral.runtime.watching import standing

POLL_SECONDS = 0.5
"""How often a run that waits looks for answers from elsewhere."""

_CALLBACK = Signed("callback")


def _is_held(approval: Approval, options: RunOptions) -> bool:
    """Whether a call waits for the answer now, and there is who could give it."""
    return bool(approval.context.get("held")) and options.approver is not None


@dataclass(frozen=True)
class Answering:
    """Gets the answers that a paused run waits for."""

    records: Records
    redactor: Redactor
    roster: Roster
    spending: Spending

    async def ended(self, result: RunResult, options: RunOptions) -> RunResult | None:
        """How the run stands in the end; ``None``: there are answers, and it can go on."""
        if result.status != "paused":
            return result
        if options.approver is not None and await self._ask(options, result.approvals):
            return None
        if not options.wait:
            return result
        return None if await self._from_elsewhere(result.run) else await self._as_it_is(result)

    async def listening(self, events: Events, options: RunOptions) -> Events:
        """The same events; what is asked while a call is held is put to the approver at once."""
        asking: set[asyncio.Task[None]] = set()
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, ApprovalRequested) and _is_held(event.approval, options):
                        asking.add(asyncio.create_task(self._put_at_once(options, event.approval)))
                    yield event
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _put_at_once(self, options: RunOptions, approval: Approval) -> None:
        with contextlib.suppress(ConflictError):  # answered elsewhere, or too late
            await self._put(options, approval)

    async def _ask(self, options: RunOptions, asked: tuple[Approval, ...]) -> bool:
        """Put the questions to the approver; whether any is answered now."""
        some = False
        for approval in asked:
            if some and (await self.records.approval(approval.id)).status != "pending":
                continue  # an answer before it came with a rule that fits this one
            try:
                done, stops = await self._put(options, approval)
            except ConflictError:
                done, stops = True, False  # answered elsewhere meanwhile: that answer stands
            some |= done
            if stops:
                break
        return some

    async def _put(self, options: RunOptions, approval: Approval) -> tuple[bool, bool]:
        """Whether one question is answered, and whether the answer stops the run."""
        approver = options.approver
        assert approver is not None
        if isinstance(approver, ModelApprover):
            return await self._put_to_model(approver, approval, options), False
        reply = await approver(approval)
        if reply is None:
            return False, False
        await self.records.answer(approval.id, reply, _CALLBACK)
        return True, isinstance(reply, Stopped)

    async def _put_to_model(
        self, approver: ModelApprover, approval: Approval, options: RunOptions
    ) -> bool:
        if not approver.may_answer(approval) or approval.context.get("advice"):
            return False
        model = approver.opened(self.spending.model)
        run = await self._beside(approval.run, model, options)
        request = approver.request(approval)
        async with run.reserved(model.name, approval.path, request) as granted:
            if isinstance(granted, str):
                unasked = Signed(f"model:{model.name}")
                verdict = Verdict(None, unasked, f"it was not asked: {granted}")
            else:
                sampling = request.sampling.within(granted.max_output_tokens)
                verdict = await approver.consider(model, replace(request, sampling=sampling))
            signed = verdict.signed
            if price := run.budgets.price(model.name):
                signed = replace(signed, spend=billed(signed.spend, price))
            if verdict.reply is not None:
                await self.records.answer(approval.id, verdict.reply, signed)
                return True
            advice = verdict.advice
            await self.records.database.write(
                lambda c: spend_on(c, approval.id, signed.spend, advice)
            )
        return False

    async def _beside(self, run: str, model: ChatModel, options: RunOptions) -> Beside:
        """What the run of a question may spend on having it answered by a model."""
        database = self.records.database
        row = await database.read(lambda c: runs.load(c, run))
        agent = self.roster.of_run(row, options)
        options = as_begun(row.spec, options)
        terms = self.spending.terms(agent, options.budget)
        price = self.spending.price(model.name, model)
        limits = agent_terms(agent, self.spending.settings, options.limits).limits
        return Beside(database, row, replace(terms, price=lambda _: price), limits, self.redactor)

    async def _from_elsewhere(self, run: str) -> bool:
        """Wait until all is answered; whether the run is ours to go on with."""
        while True:
            waiting = await self.records.approvals(run=run)
            now = await self.records.database.read(lambda c: standing(c, run))
            if now.run.status not in ("paused", "running"):
                return False
            if not waiting and not now.is_live:
                return True
            await asyncio.sleep(POLL_SECONDS)

    async def _as_it_is(self, result: RunResult) -> RunResult:
        """The result of a run that was ended elsewhere while it was waited for."""
        view = await self.records.run(result.run)
        return replace(
            result,
            status=view.status,
            output=view.output,
            usage=view.usage,
            steps=view.steps,
            error=view.error,
            approvals=(),
        )
