"""The loop station: an agent that goes round in circles is told, asked about, and stopped.

The step limit is checked here as well: it ends what nobody recognises as a loop.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, assert_never

from corral.errors import LimitReached
from corral.policies.limits import RunLimits, check_step
from corral.policies.loops import Call, History, LoopSettings, Patience, Verdict
from corral.runtime.effects import Effect, Outcome, Settled
from corral.runtime.entries import ENDED
from corral.runtime.histories import QUESTION, note, refused, turn_of
from corral.runtime.journal import Journal
from corral.runtime.paths import scopes
from corral.runtime.stations.at_limit import so_far
from corral.runtime.stations.questions import Question, Questions
from corral.tools.contract import ToolResult

_TRY = "Try something else, or say what is in the way."
_HINT = "Give it another prompt, tools or model; [loops] and max_repeats set how patient Corral is."

_ASKED = Verdict("repeat", "it was about to do once more what it had done before")
"""What is said where the loop is no longer seen, because a human let a branch beside go on."""


@dataclass(frozen=True)
class AgentTerms:
    """How far an agent may go, how patient one is with it, and those that it may give tasks to.

    ``own`` says which of ``steps`` and ``loops`` were said of this agent, and not of the run: what
    ends there is its task, and whoever gave it that goes on.
    """

    name: str = ""
    limits: RunLimits = field(default_factory=RunLimits)
    loops: LoopSettings = field(default_factory=LoopSettings)
    team: tuple[AgentTerms, ...] = ()
    own: frozenset[Literal["steps", "loops"]] = frozenset()

    def member(self, name: str) -> AgentTerms:
        """An agent of the team; one with the same terms, if it is not known."""
        found = next((one for one in self.team if one.name == name), None)
        return found or AgentTerms(name, self.limits, self.loops)


class Watch:
    """Looks out for loops in one execution of a run."""

    def __init__(self, journal: Journal, questions: Questions, agent: AgentTerms) -> None:
        self._journal = journal
        self._questions = questions
        self._agent = agent
        self._let_through: defaultdict[str, set[str]] = defaultdict(set)
        self._last_words: dict[str, str] = {}

    async def check(self, effect: Effect, path: str) -> Settled | tuple[str, ...]:
        """Notes for the model, or the outcome of a call that is not made because it is pointless.

        Interrupts the graph to ask a human. Raises ``LimitReached`` and ``StoppedByUser``.
        """
        agent = self._terms(path)
        if effect.kind == "model":
            self._check_steps(agent, path)
            if effect.request.get("purpose", "answer") != "answer":
                return ()
            verdict = self._history(path).before_answer(_patience(agent))
            told = await self._told(effect, path, agent, verdict)
            return (told.for_model(),) if told else ()
        # One that began before is perhaps in doubt: what became of it is another question.
        if _is_a_step(effect) and self._journal.find(path) is None:
            call = Call(effect.name, dict(effect.request.get("args") or {}))
            verdict = self._history(path).before_call(call, _patience(agent))
            told = await self._told(effect, path, agent, verdict)
            return Settled(told.instead_of(effect)) if told else ()
        return ()

    def _check_steps(self, agent: AgentTerms, path: str) -> None:
        """Count also the model calls of parallel branches that have not ended yet."""
        scope = self._journal.agent_scope(path)
        waiting = self._let_through[scope]
        waiting -= {path} | {one for one in waiting if self._has_ended(one)}
        reason = check_step(agent.limits, self._journal.turns(path) + len(waiting), agent.name)
        if reason is not None:
            raise self._end(reason, scope if "steps" in agent.own else "")
        waiting.add(path)

    def _end(self, reason: str, scope: str, hint: str = "") -> LimitReached:
        """The end of the run, or of the task of the agent whose graph is at ``scope``.

        Of parallel calls that come to it all give the same answer: which of them ends the graph is
        chance, and a replay must not show it.
        """
        if scope and scope not in self._last_words:
            self._last_words[scope] = so_far(self._journal.entries(), scope, reason)
        answer = self._last_words.get(scope, "")
        return LimitReached(reason, hint=hint, scope=scope, answer=answer)

    def _has_ended(self, path: str) -> bool:
        entry = self._journal.find(path)
        return entry is not None and entry.status in ENDED

    async def _told(
        self, effect: Effect, path: str, agent: AgentTerms, verdict: Verdict | None
    ) -> _Told | None:
        """What the model is told of a loop, if there is one that it may not go on with."""
        question = f"{path}{QUESTION}1"
        if not self._questions.was_asked(question):
            if verdict is None or not agent.loops.enabled:
                return None
            alarm = self._history(path).alarm(turn_of(path))
            match agent.loops.measure(alarm):
                case "stop":
                    raise self._end(
                        f"The agent {agent.name} went round in circles: {verdict.seen} (alarm "
                        f"{alarm}; see stop_after in [loops]).",
                        self._journal.agent_scope(path) if "loops" in agent.own else "",
                        _HINT,
                    )
                case "nudge":
                    return _Told(verdict, _TRY)
                case "ask":
                    pass
                case other:
                    assert_never(other)
        verdict = verdict or _ASKED
        answer = await self._questions.answer(question, lambda: _question(effect, agent, verdict))
        if answer.status == "approved":
            return None
        told = answer.refusal if effect.kind != "model" else f"You may not go on: {answer.reason}"
        return _Told(verdict, told)

    def _history(self, path: str) -> History:
        return self._journal.histories.of(self._journal.conversation(path))

    def _terms(self, path: str) -> AgentTerms:
        """The terms of the agent that asks at ``path``."""
        agent = self._agent
        for around in scopes(path):
            entry = self._journal.find(around[:-1])
            if entry is not None and entry.kind == "agent":
                agent = agent.member(entry.name)
        return agent


@dataclass(frozen=True)
class _Told:
    """What a model is told of a loop."""

    verdict: Verdict
    advice: str

    def for_model(self) -> str:
        """As a note with its next question."""
        return note(self.verdict, self.advice)

    def instead_of(self, effect: Effect) -> Outcome:
        """As the result of a call that is not made."""
        text = f"This call was not made: {self.verdict.seen}. {self.advice}"
        failed = ToolResult(text, is_error=True).to_json()
        value = effect.guard.refuse(text).value if effect.guard else failed
        return Outcome(refused(value, self.verdict))


def _is_a_step(effect: Effect) -> bool:
    """Whether an agent has decided on it; the further rounds of a call are the server's doing."""
    continued = effect.guard is not None and effect.guard.continued is not None
    return effect.kind in ("tool", "agent") and not continued


def _patience(agent: AgentTerms) -> Patience:
    return Patience(agent.limits.max_repeats, agent.loops)


def _question(effect: Effect, agent: AgentTerms, verdict: Verdict) -> Question:
    return Question(
        kind="loop",
        tool=effect.name,
        args=dict(effect.request.get("args") or {}),
        input_schema=effect.guard.spec.input_schema if effect.guard else {},
        reason=(
            f"The agent {agent.name or 'of this run'} seems to go round in circles: "
            f"{verdict.seen}. Let it go on for as many again, or refuse this and tell it why."
        ),
        context={"loop": {"kind": verdict.kind, "seen": verdict.seen}},
    )
