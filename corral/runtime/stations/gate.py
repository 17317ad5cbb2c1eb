"""The policy station: may this call be made, and if a human must say so, what did they say?

Once a human was asked, their answer counts and policy is not asked again for that call: a rule
that changed in between cannot contradict them.
"""

from __future__ import annotations

from functools import partial

from corral.policies.layers import decide, opinions
from corral.runtime.effects import Continued, Effect, Guard, Outcome, Settled
from corral.runtime.entries import Entry, in_doubt
from corral.runtime.paths import asked_about
from corral.runtime.stations.context import Asked, of_call
from corral.runtime.stations.facts import Surroundings
from corral.runtime.stations.inputs import input_question, reply_of
from corral.runtime.stations.questions import Answer, Question, Questions
from corral.runtime.views import ApprovalKind
from corral.tools.contract import ToolSpec
from corral.tools.inquiry import Inquiry, Reply

_IN_DOUBT = (
    "Corral was stopped while this call was being made, so nobody knows whether it happened. Retry "
    "it, give the result by hand if you know it, or fail the call: the model is then told that it "
    "is unknown."
)


class Gate:
    """Policy and approvals of one execution of a run."""

    def __init__(self, questions: Questions, surroundings: Surroundings) -> None:
        self._questions = questions
        self._rules = surroundings.rules
        self._surroundings = surroundings

    async def clear(self, effect: Effect, path: str, entry: Entry | None) -> Effect | Settled:
        """The effect as it may be made, or its refusal. Interrupts the graph to ask a human."""
        if effect.guard is None:
            return effect
        cleared = await self._let_through(effect, effect.guard, path)
        if isinstance(cleared, Settled) or entry is None:
            return cleared
        if effect.repeatable or not in_doubt(entry):
            return cleared
        # What was cut off is the call as a human may have edited it.
        return await self._after_a_crash(cleared, cleared.guard or effect.guard, entry)

    async def _let_through(self, effect: Effect, guard: Guard, path: str) -> Effect | Settled:
        """The call as policy lets it through; one it let through before, as the user answers."""
        if guard.continued is not None:
            return await self._by_user(guard, guard.continued, path)
        return await self._by_policy(effect, guard, path)

    async def ask_meanwhile(
        self, path: str, spec: ToolSpec, inquiry: Inquiry, seconds: float
    ) -> Reply:
        """What the user answers to the server of a call while it goes on; the run does not pause.

        Raises ``StoppedByUser``.
        """
        answer = await self._questions.meanwhile(path, input_question(spec, inquiry), seconds)
        return reply_of(answer, inquiry)

    async def _by_user(self, guard: Guard, continued: Continued, path: str) -> Effect:
        """The call with the answers to what its server asks; policy has let it through before."""
        replies: dict[str, Reply] = {}
        for number, (key, inquiry) in enumerate(continued.round.questions, start=1):
            question = partial(input_question, guard.spec, inquiry)
            answer = await self._questions.answer(f"{path}/input/{number}", question)
            replies[key] = reply_of(answer, inquiry)
        return continued.answered(replies)

    async def _by_policy(self, effect: Effect, guard: Guard, path: str) -> Effect | Settled:
        question, asked = f"{path}/approval", None
        if not self._questions.was_asked(question):
            call, policy = self._surroundings.facts(guard, path), self._rules.policy
            decision = decide(policy, call, self._rules.standing)
            if decision.action == "allow":
                return effect
            if decision.action == "deny":
                return Settled(guard.refuse(f"Denied by policy: {decision.reason}"))
            asked = Asked(decision, tuple(opinions(policy, call)))
        answer = await self._ask(question, "tool", guard, asked)
        if answer.status == "denied":
            return Settled(guard.refuse(answer.refusal))
        return _as_answered(effect, guard, answer)

    async def _after_a_crash(self, effect: Effect, guard: Guard, entry: Entry) -> Effect | Settled:
        question = f"{entry.path}/in_doubt/{entry.attempts}"
        answer = await self._ask(question, "in_doubt", guard, None)
        if answer.status == "denied":
            text = f"It is unknown whether this call was made: {answer.reason}"
            return Settled(guard.refuse(text))
        return _as_answered(effect, guard, answer, was_made=True)

    async def _ask(
        self, path: str, kind: ApprovalKind, guard: Guard, asked: Asked | None
    ) -> Answer:
        def question() -> Question:
            call = self._surroundings.facts(guard, asked_about(path))
            context = of_call(call, guard.spec, asked)
            offered = context["suggestions"]
            return Question(
                kind=kind,
                tool=guard.spec.name,
                args=guard.args,
                input_schema=guard.spec.input_schema,
                reason=_IN_DOUBT if asked is None else asked.decision.reason,
                always=offered[-1]["rule"] if offered else {},
                context=context,
            )

        return await self._questions.answer(path, question)


def _as_answered(
    effect: Effect, guard: Guard, answer: Answer, *, was_made: bool = False
) -> Effect | Settled:
    """The call as it was approved, or the result that was given for it, marked as such."""
    if answer.result is not None:
        given = guard.give(answer.result)
        return Settled(Outcome({**given.value, "given_by": answer.by}), was_made)
    return guard.edit(answer.args) if answer.args is not None else effect
