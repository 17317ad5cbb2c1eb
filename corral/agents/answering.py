"""Answers while a run goes on: by an approver of the caller's, or from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from corral.agents.options import Approver, RunOptions
from corral.errors import ConflictError
from corral.runtime.approvals.answers import Signed, spend_on
from corral.runtime.approvals.approvers import ModelApprover
from corral.runtime.approvals.replies import Stopped
from corral.runtime.models.contract import ChatModel
from corral.runtime.records import Records
from corral.runtime.views import Approval, RunResult
from corral.runtime.watching import standing

POLL_SECONDS = 0.5
"""How often a run that waits looks for answers from elsewhere."""

_CALLBACK = Signed("callback")


@dataclass(frozen=True)
class Answering:
    """Gets the answers that a paused run waits for."""

    records: Records
    open_model: Callable[[str], ChatModel]

    async def ended(self, result: RunResult, options: RunOptions) -> RunResult | None:
        """How the run stands in the end; ``None``: there are answers, and it can go on."""
        if result.status != "paused":
            return result
        if options.approver is not None and await self._ask(options.approver, result.approvals):
            return None
        if not options.wait:
            return result
        return None if await self._from_elsewhere(result.run) else await self._as_it_is(result)

    async def _ask(self, approver: Approver | ModelApprover, asked: tuple[Approval, ...]) -> bool:
        """Put the questions to the approver; whether any is answered now."""
        some = False
        for approval in asked:
            try:
                done, stops = await self._put(approver, approval)
            except ConflictError:
                done, stops = True, False  # answered elsewhere meanwhile: that answer stands
            some |= done
            if stops:
                break
        return some

    async def _put(
        self, approver: Approver | ModelApprover, approval: Approval
    ) -> tuple[bool, bool]:
        """Whether one question is answered, and whether the answer stops the run."""
        if isinstance(approver, ModelApprover):
            return await self._put_to_model(approver, approval), False
        reply = await approver(approval)
        if reply is None:
            return False, False
        await self.records.answer(approval.id, reply, _CALLBACK)
        return True, isinstance(reply, Stopped)

    async def _put_to_model(self, approver: ModelApprover, approval: Approval) -> bool:
        if not approver.may_answer(approval) or approval.context.get("advice"):
            return False
        verdict = await approver.consider(approval, self.open_model)
        if verdict.reply is not None:
            await self.records.answer(approval.id, verdict.reply, verdict.signed)
            return True
        spend, advice = verdict.signed.spend, verdict.advice
        await self.records.database.write(lambda c: spend_on(c, approval.id, spend, advice))
        return False

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
