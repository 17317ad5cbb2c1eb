"""Asking a model, as an effect over the door: what is asked, what is told meanwhile, what counts.

What is made with (``Services``) is touched only inside ``execute``, which a replay never calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, assert_never

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.errors import CheckFailed, ModelError
from corral.jsontypes import JsonObject
from corral.memory.labelled import labelled
from corral.memory.tokens import estimate_tokens
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.calls import Services
from corral.runtime.context import current_run, current_scope, perform
from corral.runtime.effects import NOTHING, Attempt, Effect, Outcome, Spend
from corral.runtime.events import Event, Notice, ReasoningDelta, TextDelta, ToolCallDelta
from corral.runtime.messages import decode, encode, well_formed, with_own_call_ids
from corral.runtime.models.contract import (
    Adapter,
    Chunk,
    FinalChunk,
    ModelRequest,
    NamedTool,
    NoticeChunk,
    Output,
    Reasoning,
    ReasoningChunk,
    Sampling,
    TextChunk,
    ToolCallChunk,
    ToolChoice,
    Usage,
    UsageChunk,
    mean_probability,
)
from corral.runtime.models.structured import Answered
from corral.runtime.tool_tokens import definition_tokens
from corral.tools.contract import ToolSpec

_ABOUT_CHECKS = "See `corral trace` for what was refused; change the prompt or the check."

_CONTINUED = ("answer", "again")
"""The purposes for which a model is asked that continue the conversation of the agent."""


@dataclass(frozen=True)
class Ask:
    """What a model is asked.

    ``output`` is what its text must be; ``shape`` the same where the messages say it too, so that
    it is no part of what identifies the effect: runs of before there were outputs stay the same.
    Only what is asked ``aloud`` is for the user; a draft, a vote or a judgement is not.
    ``stands_for`` is kept beside the answer: of a summary, what it is of. ``tokens`` is the
    estimate of the messages, where who asks has made it.
    """

    model: str
    messages: Sequence[BaseMessage]
    tools: Sequence[ToolSpec] = ()
    tools_digest: str = ""
    tool_choice: ToolChoice = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    purpose: str = "answer"
    output: Output | None = None
    shape: Output | None = None
    parallel_tool_calls: bool = True
    reasoning: Reasoning | None = None
    adapters: tuple[Adapter, ...] = ()
    aloud: bool = True
    stands_for: JsonObject | None = None
    tokens: int | None = None

    def to_json(self) -> JsonObject:
        """What identifies the effect besides its messages.

        What came later is there only where it is used, so that old journals are still known.
        """
        choice = self.tool_choice
        later: JsonObject = {
            "output": self.output and vars(self.output),
            "parallel_tool_calls": None if self.parallel_tool_calls else False,
            "reasoning": self.reasoning,
            "adapters": [vars(adapter) for adapter in self.adapters] or None,
        }
        return {
            "model": self.model,
            "purpose": self.purpose,
            "tools": [spec.name for spec in self.tools],
            "tools_digest": self.tools_digest,
            "tool_choice": vars(choice) if isinstance(choice, NamedTool) else choice,
            "sampling": self.sampling.to_json(),
            **{name: value for name, value in later.items() if value is not None},
        }

    def request(self, attempt: Attempt, agent: str) -> ModelRequest:
        """What the model is sent in this try, by the agent of that name."""
        return ModelRequest(
            messages=[*self.messages, *map(_note, attempt.notes)],
            tools=self.tools,
            tool_choice=self.tool_choice,
            sampling=self.sampling.within(attempt.max_output_tokens),
            turn=attempt.turn,
            output=self.output or self.shape,
            parallel_tool_calls=self.parallel_tool_calls,
            reasoning=self.reasoning,
            adapters=self.adapters,
            conversation=_conversation() if self.purpose in _CONTINUED else "",
            priority=current_run.get().priority,
            deadline=attempt.seconds,
            agent=agent,
            purpose=self.purpose,
            tags=current_run.get().tags,
        )


async def ask_model(ask: Ask, services: Services) -> AIMessage:
    """Ask the model and stream its text to the run's listeners. Raises ``ModelError``."""
    return (await answered(ask, services)).message


async def answered(ask: Ask, services: Services) -> Answered:
    """``ask_model``, with what else is known of the answer."""
    effect = asking(ask, services)
    if ask.purpose == "answer":
        again = partial(_asking_again, ask, services)
        effect = replace(effect, checks=services.checks, again=again)
    value = (await perform(effect)).value
    require_passed(value)
    message = decode(value["message"], id=value["id"])
    assert isinstance(message, AIMessage)
    own = labelled(message, Label.from_json(value.get(LABEL)))
    probability = mean_probability([token["logprob"] for token in value.get("logprobs", ())])
    return Answered(own, value.get("stop_reason", "stop"), probability)


def require_passed(value: JsonObject) -> None:
    """Raise ``CheckFailed`` for a text that a check has refused, see ``checking.refusal``."""
    if "blocked" in value:
        ends_run = value.get("ends_run", True)
        raise CheckFailed(value["blocked"], hint=_ABOUT_CHECKS, ends_run=ends_run)


def asking(ask: Ask, services: Services) -> Effect:
    """The effect of asking a model."""

    def estimate() -> int:
        tokens = estimate_tokens(ask.messages) if ask.tokens is None else ask.tokens
        return tokens + definition_tokens(ask.tools)

    async def execute(attempt: Attempt) -> Outcome:
        aloud = ask.purpose == "answer" and ask.aloud and attempt.aloud
        listener = _Listener(current_run.get().emit, attempt.path, estimate, aloud=aloud)
        attempt.report(listener.spent)
        try:
            async for chunk in services.model.stream(ask.request(attempt, services.agent_name)):
                listener.hear(chunk)
        except ModelError:
            if not listener.has_begun:
                attempt.report(lambda: NOTHING)  # it was not answered at all
            raise
        if listener.final is None:
            raise ModelError(f"The model {ask.model} ended its answer without saying so.")
        value = _value(ask, attempt, listener.final)
        return Outcome(well_formed(value), listener.spent())

    return Effect(
        kind="model",
        name=ask.model,
        request=ask.to_json(),
        execute=execute,
        transcript=ask.messages,
        estimate=estimate,
        aloud=ask.aloud,
    )


@dataclass
class _Listener:
    """Hears an answer in the making: tells the user of it, and counts what it has used.

    Only what is ``aloud`` is for the user; what a user who waits should know always is.
    """

    emit: Callable[[Event], None]
    path: str
    estimate: Callable[[], int]
    aloud: bool
    final: FinalChunk | None = None
    _began: float = field(default_factory=time.monotonic)
    _first: float | None = None
    _last: float = 0.0
    _usage: Usage | None = None
    _model: str = ""
    _uncounted: list[str] = field(default_factory=list)

    @property
    def has_begun(self) -> bool:
        """Whether the model has said anything yet."""
        return self._first is not None or self._usage is not None

    def hear(self, chunk: Chunk) -> None:
        """Take the next chunk of the answer."""
        match chunk:
            case TextChunk(text):
                self._made(text, TextDelta(text, path=self.path))
            case ReasoningChunk(text):
                self._made(text, ReasoningDelta(text, path=self.path))
            case ToolCallChunk(index, name, args):
                self._made(name + args, ToolCallDelta(index, name, args, path=self.path))
            case NoticeChunk(text, done):
                self.emit(Notice(text, done))
            case UsageChunk(usage, model):
                self._count(usage, model)
            case FinalChunk():
                self._tick()
                self._count(chunk.usage, chunk.model)
                self.final = chunk
            case _:
                assert_never(chunk)

    def spent(self) -> Spend:
        """What was used so far: as the model counts it, and estimated for what came since."""
        usage = self._usage or Usage(input_tokens=self.estimate())
        spend = Spend(
            **vars(usage),
            first_token_ms=_ms(self._began, self._first),
            generation_ms=_ms(self._first, self._last),
            answered_by=self._model,
        )
        more = estimate_tokens("".join(self._uncounted))
        return replace(spend, output_tokens=spend.output_tokens + more)

    def _made(self, text: str, event: Event) -> None:
        self._tick()
        self._uncounted.append(text)
        if self.aloud:
            self.emit(event)

    def _count(self, usage: Usage, model: str) -> None:
        self._usage, self._model = usage, model
        self._uncounted.clear()

    def _tick(self) -> None:
        self._last = time.monotonic()
        if self._first is None:
            self._first = self._last


def _value(ask: Ask, attempt: Attempt, final: FinalChunk) -> JsonObject:
    message = final.message
    if message.tool_calls:
        used = current_run.get().call_ids.of(ask.messages)
        message = with_own_call_ids(message, used, attempt.key)
    more: JsonObject = {
        "told": list(attempt.notes),
        "facts": final.facts,
        "stands_for": ask.stands_for,
        "logprobs": [_logprob(token) for token in final.logprobs],
    }
    return {
        "id": attempt.key,
        "text": message.text,
        "message": encode(message),
        "stop_reason": final.stop_reason,
        **{name: value for name, value in more.items() if value},
    }


def _logprob(token: Any) -> JsonObject:
    top = [{"text": text, "logprob": logprob} for text, logprob in token.top]
    return {"text": token.text, "logprob": token.logprob, **({"top": top} if top else {})}


def _conversation() -> str:
    """What the requests of this agent in this thread have in common, and no other's."""
    thread, agent = current_run.get().thread, current_scope.get().agent
    return f"{thread}/{agent}" if agent else thread


def _asking_again(ask: Ask, services: Services, refused: str, why: str) -> Effect:
    answer = [AIMessage(refused)] if refused else []
    note = _note(f"This answer was not accepted, for {why}. Answer again, so that it is.")
    messages = [*ask.messages, *answer, note]
    return asking(replace(ask, messages=messages, tokens=None, purpose="again"), services)


def _note(text: str) -> BaseMessage:
    # Not a system message: some providers take none but the first.
    note = HumanMessage(f"[Note from the runtime, not from the user: {text}]")
    return labelled(note, PUBLIC)


def _ms(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else round((end - begin) * 1000, 3)
