"""One call under way, as the service sees it."""

from __future__ import annotations

import time

from mcp import MCPError
from pydantic import ValidationError

from corral.mcp_servers.serving.callers import Context
from corral.mcp_servers.serving.contract import Elicited, NoAnswer, Question
from corral.mcp_servers.serving.rounds import Round, elicited


class Call:
    """Implements ``contract.Exchange`` over a request of the SDK."""

    def __init__(self, ctx: Context, came: Round) -> None:
        self._ctx = ctx
        self._came = came
        self._told = float("-inf")
        self.is_cancelled = False

    @property
    def answers(self) -> dict[str, Elicited]:
        """What was answered to the questions of the round before."""
        return self._came.answers

    @property
    def state(self) -> str | None:
        """What the round before had kept."""
        return self._came.state

    @property
    def cancelled(self) -> bool:
        """Whether the client has cancelled this call."""
        return self.is_cancelled

    @property
    def followed(self) -> bool:
        """Whether the client has asked to hear of its progress."""
        return "progress_token" in (self._ctx.meta or {})

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the client; progress that does not increase is not told, as the protocol wants."""
        if done > self._told:
            self._told = done
            await self._ctx.session.report_progress(done, total, message)

    async def ask(self, question: Question) -> Elicited:
        """Ask by a request of ours, which waits as long as the human does."""
        asked = time.monotonic()
        try:
            answer = await self._ctx.session.elicit_form(
                question.message, question.schema, self._ctx.request_id
            )
        except (MCPError, ValidationError) as error:
            raise NoAnswer from error
        found = elicited(answer, question.schema, time.monotonic() - asked)
        if found is None:
            raise NoAnswer
        return found
