"""What a tool's server asks while its call goes on: of the user, or of the agent's model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from corral.errors import StoppedByUser
from corral.runtime.context import current_run
from corral.runtime.effects import Attempt, Effect
from corral.runtime.events import Notice
from corral.runtime.stations.questions import patient
from corral.tools.contract import ToolResult, ToolSpec
from corral.tools.inquiry import Inquiry, Reply, Sample, Sampled


@dataclass
class CallDesk:
    """A ``Desk`` for one try of a call. ``sampling`` makes the effect of asking the model."""

    attempt: Attempt
    spec: ToolSpec
    sampling: Callable[[Sample], Effect]
    run: str = field(default_factory=lambda: current_run.get().run)
    _stopped: StoppedByUser | None = None
    _unanswered: list[str] = field(default_factory=list)

    async def ask(self, inquiry: Inquiry, seconds: float) -> Reply:
        """See ``Desk``: the call is held, and the run does not pause."""
        try:
            reply = await self.attempt.user(self.spec, inquiry, seconds)
        except StoppedByUser as stopped:
            self._stopped = stopped
            return Reply("cancel")
        if reply.action == "cancel":
            words = f"Nobody answered {self.spec.server} within {seconds:g} s: {inquiry.message}"
            self._unanswered.append(words)
            current_run.get().emit(Notice(words))
        return reply

    async def sample(self, wanted: Sample, seconds: float) -> Sampled:
        """See ``Desk``: the model is asked through the door."""
        effect = self.sampling(wanted)
        with patient(seconds):
            try:
                outcome = await current_run.get().perform(effect, self.attempt.place())
            except StoppedByUser as stopped:
                self._stopped = stopped
                raise
        reason = {"length": "maxTokens"}.get(str(outcome.value.get("stop_reason")), "endTurn")
        return Sampled(str(outcome.value["text"]), effect.name, reason)

    def check_stopped(self) -> None:
        """Raise what ended the run, if a question was answered by stopping it."""
        if self._stopped is not None:
            raise self._stopped

    def noted(self, result: ToolResult) -> ToolResult:
        """The result, with a word on what nobody answered."""
        if not self._unanswered:
            return result
        return replace(result, text="\n".join((result.text, *self._unanswered)))
