"""Makes one answer: thoughts, then text that may turn into calls, or what a schema asks for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import ToolCall
from llguidance import LLMatcher

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    ReasoningChunk,
    StopReason,
    TextChunk,
    Usage,
    UsageChunk,
)
from corral.runtime.models.local.answering.decoding import Decoder, Sampler, Transcript
from corral.runtime.models.local.answering.plan import AnswerPlan, Decision
from corral.runtime.models.local.answering.text_gate import TextGate
from corral.runtime.models.local.answering.writing import Call, Writing
from corral.runtime.models.local.constraints.grammar import Constraint
from corral.runtime.models.local.constraints.reading import NotACallError
from corral.runtime.models.local.native.params import SamplerParams
from corral.runtime.models.local.scheduling.contract import Room, Scores, Step

_T = TypeVar("_T")
Steps = Generator[Step, Scores, _T]

_TRIES = 3
_RETRY_TEMPERATURE = 0.6
_TOKENS_PER_USAGE = 16
_ZONE = 40
_ANSWER_SHARE = 4
"""One part in four of an answer's tokens is kept for what comes after the thoughts."""


@dataclass
class Answer:
    """A ``Generation``. ``call_id`` names the calls by their number."""

    plan: AnswerPlan
    decoder: Decoder
    emit: Callable[[Chunk], None]
    call_id: Callable[[int], str]
    text: str = ""
    thoughts: str = ""
    reasoning_tokens: int = 0
    calls: list[Call] = field(default_factory=list)
    stop_reason: StopReason = "stop"
    facts: JsonObject = field(default_factory=dict)

    def run(self, room: Room) -> Steps[None]:
        """Evaluate the prompt, generate, and emit chunks, the last of which is the final one."""
        self._room = room
        yield from self._answer()
        message = AIMessage(
            content=self.text,
            tool_calls=[
                ToolCall(name=call.name, args=call.args, id=self.call_id(at))
                for at, call in enumerate(self.calls)
            ],
            additional_kwargs={"reasoning_content": self.thoughts} if self.thoughts else {},
        )
        self.emit(
            FinalChunk(
                message,
                self._usage(),
                self.stop_reason,
                logprobs=tuple(self.decoder.logprobs),
                facts=self.facts,
            )
        )

    def _answer(self) -> Steps[None]:
        plan = self.plan
        if plan.decision is not None and (yield from self._decide(plan.decision)):
            return
        yield from self._begin(plan.prompt)
        self.emit(UsageChunk(self._usage()))
        transcript = self._transcript()
        begun = yield from self._think(transcript)
        if plan.constraint is not None and plan.at_once:
            self._prepare_for_constraint(begun)
            yield from self._constrained(plan.constraint)
        else:
            yield from self._free_text(transcript, begun)

    def _begin(self, prompt: Sequence[int]) -> Steps[None]:
        """Evaluate a prompt, which counts from now on, whether or not it comes to its end."""
        usage = self._usage()
        self.emit(UsageChunk(replace(usage, input_tokens=usage.input_tokens + len(prompt))))
        yield from self.decoder.begin(prompt, self._room)

    def _transcript(self) -> Transcript:
        plan, markers = self.plan, list[str]()
        if plan.thoughts is not None:
            markers += [plan.thoughts.open, plan.thoughts.close, *plan.thoughts.headings]
        if plan.constraint is not None and plan.constraint.allowed.syntax is not None:
            markers.append(plan.constraint.allowed.syntax.prefix)
        return Transcript(self.decoder.words, [*markers, *plan.stops])

    def _decide(self, decision: Decision) -> Steps[bool]:
        """Make the call that the question asks for, if it does and the call comes to an end."""
        yield from self._begin(decision.prompt)
        told = yield from self.decoder.distribution()
        if told[decision.constraint.first_call_token] < decision.threshold:
            return False
        before = self.decoder.made
        try:
            yield from self._constrained(decision.constraint)
        except ModelError:
            self.decoder.made = before
            return False
        return True

    # thoughts

    def _think(self, transcript: Transcript) -> Steps[str]:
        """Let the model think, if it does; returns the text that it has begun to answer with."""
        thoughts = self.plan.thoughts
        if thoughts is None:
            return ""
        with closing(self.decoder.sampler(self.plan.text)) as sampler:
            marker, rest = "", ""
            if not thoughts.inside:
                marker, rest = yield from self._lead(transcript, sampler, (thoughts.open,), rest)
                if not marker and not thoughts.headings:
                    return rest
            if thoughts.inside or marker:
                rest = yield from self._thoughts(transcript, sampler, rest)
            heading = bool(thoughts.headings)
            while heading:
                found, rest = yield from self._lead(transcript, sampler, thoughts.headings, rest)
                heading = bool(found)
        return rest

    def _lead(
        self, transcript: Transcript, sampler: Sampler, markers: tuple[str, ...], text: str
    ) -> Steps[tuple[str, str]]:
        """The marker that comes next, if one does, and the text after it."""
        while True:
            begun = text.lstrip()
            for marker in markers:
                if begun.startswith(marker):
                    return marker, begun.removeprefix(marker)
            if not any(marker.startswith(begun) for marker in markers):
                return "", text
            more = yield from self._next(transcript, sampler)
            if more is None:
                return "", text
            text += more

    def _thoughts(self, transcript: Transcript, sampler: Sampler, begun: str) -> Steps[str]:
        """Thoughts to their end; returns what comes after the marker that closes them."""
        thoughts = self.plan.thoughts
        assert thoughts is not None  # asked for by _think alone
        gate, before = TextGate(triggers=(thoughts.close,)), self.decoder.made
        reserve = self.plan.max_tokens // _ANSWER_SHARE if self.plan.at_once else 0
        text: str | None = begun
        while text is not None and gate.found is None:
            self._show_thought(gate.push(text))
            if gate.found is None:
                ample = self.decoder.left > reserve
                text = (yield from self._next(transcript, sampler)) if ample else None
        self._show_thought(gate.finish())
        self.reasoning_tokens += self.decoder.made - before
        if gate.found is None and self.plan.at_once:
            self.decoder.take(self.decoder.words.tokenize(f"\n{thoughts.close}"))
            self.stop_reason = "stop"
        return gate.rest

    def _show_thought(self, text: str) -> None:
        if text:
            self.thoughts += text
            self.emit(ReasoningChunk(text))

    def _next(self, transcript: Transcript, sampler: Sampler) -> Steps[str | None]:
        """The text of one more token; ``None`` at the end of the answer."""
        if self.decoder.left <= 0:
            self.stop_reason = "length"
            return None
        token = yield from self.decoder.choose(sampler)
        self._count()
        if self.decoder.is_end(token):
            self.decoder.made += 1
            return None
        self.decoder.take([token])
        return transcript.push(token)

    def _count(self) -> None:
        if self.decoder.made % _TOKENS_PER_USAGE == _TOKENS_PER_USAGE - 1:
            self.emit(UsageChunk(self._usage()))

    # text

    def _free_text(self, transcript: Transcript, begun: str) -> Steps[None]:
        """Text to its end, and the calls that it may turn into."""
        plan, start = self.plan, len(self.plan.prompt)
        gate = TextGate(plan.stops, self._triggers())
        before = transcript.length - len(begun)
        self.decoder.recording = True
        with closing(self.decoder.sampler(plan.text)) as sampler:
            text: str | None = begun
            while text is not None:
                self._show(gate.push(text))
                if gate.found is not None:
                    break
                text = yield from self._next(transcript, sampler)
        if gate.found is None:
            self._show(gate.push(transcript.rest()))
        self._show(gate.finish())
        self.decoder.recording = False
        if plan.constraint is not None and gate.triggered:
            self.decoder.rewind(start + transcript.tokens_before(before + gate.end))
            yield from self._constrained(plan.constraint)

    def _triggers(self) -> tuple[str, ...]:
        constraint = self.plan.constraint
        if constraint is None or constraint.allowed.syntax is None:
            return ()
        return constraint.allowed.syntax.triggers(tuple(constraint.tools))

    def _show(self, text: str) -> None:
        if text:
            self.text += text
            self.emit(TextChunk(text))

    # what a constraint allows

    def _prepare_for_constraint(self, begun: str) -> None:
        """Go back to before what the model has begun to answer with, without being asked."""
        thoughts, constraint = self.plan.thoughts, self.plan.constraint
        if thoughts is None or constraint is None:
            return
        if not self.thoughts:
            self.decoder.rewind(len(self.plan.prompt))
        text = thoughts.gap if self.thoughts and not begun else ""
        if not constraint.tools:
            text += thoughts.heading
        self.decoder.take(self.decoder.words.tokenize(text) if text else [])

    def _constrained(self, constraint: Constraint) -> Steps[None]:
        """Write until it fits, at most a few times."""
        self.facts |= {"schemas": constraint.facts()} if constraint.facts() else {}
        problem = ""
        for attempt in range(_TRIES):
            writing = Writing(constraint, self.emit)
            if not (yield from self._write(constraint, writing, self._params(attempt))):
                self._cut(constraint, writing)
                return
            try:
                problem = writing.problem()
            except NotACallError:
                problem = "It is no call."
            if not problem:
                self._accept(writing)
                return
            self.facts["reasked"] = attempt + 1
            if attempt + 1 < _TRIES:
                prompt = self.plan.corrected(writing.written, problem)
                yield from self.decoder.begin(prompt, self._room)
        raise ModelError(
            f"The model's answer does not fit its schema after {_TRIES} attempts: {problem}",
            hint="Try again, with a larger model or a simpler schema.",
        )

    def _params(self, attempt: int) -> SamplerParams:
        """The sampling of calls; less predictable after an attempt that failed."""
        call = self.plan.call
        if attempt == 0:
            return call
        warmer = max(call.temperature, _RETRY_TEMPERATURE)
        return replace(call, seed=call.seed + attempt, temperature=warmer)

    def _accept(self, writing: Writing) -> None:
        self.calls = writing.calls
        self.text += writing.text
        self.stop_reason = "tool_calls" if writing.calls else "stop"

    def _cut(self, constraint: Constraint, writing: Writing) -> None:
        """The tokens ran out: half a call is none, and half an output is at least not silent."""
        if constraint.allowed.output is not None and not writing.is_call:
            self.text += writing.written
            self.stop_reason = "length"
            return
        raise ModelError(
            f"The model's tool call did not come to an end within {self.plan.max_tokens} tokens.",
            hint="Raise max_tokens, or use a larger model.",
        )

    def _write(
        self, constraint: Constraint, writing: Writing, params: SamplerParams
    ) -> Steps[bool]:
        """Generate under a grammar to its end; ``False`` when the tokens ran out before."""
        matcher, decoder = constraint.start(), self.decoder
        transcript = Transcript(decoder.words, constraint.markers)
        steering = _Steering(constraint, decoder)
        decoder.recording = constraint.allowed.output is not None and not constraint.tools
        with closing(decoder.sampler(params)) as sampler:
            while not matcher.is_stopped():
                tokens = yield from self._tokens(matcher, sampler, steering)
                if not tokens or len(tokens) > decoder.left:
                    break
                matcher.consume_tokens(tokens)
                _check(matcher)
                if decoder.is_end(tokens[0]):
                    decoder.made += 1
                    break
                decoder.take(tokens)
                writing.push("".join(map(transcript.push, tokens)))
                self._count()
        decoder.recording = False
        return matcher.is_stopped() or matcher.is_accepting()

    def _tokens(
        self, matcher: LLMatcher, sampler: Sampler, steering: _Steering
    ) -> Steps[list[int]]:
        """What comes next: what has to come, or what the model chooses while there is room."""
        telling = self.decoder.recording and self.plan.logprobs is not None
        forced = [] if telling else list(matcher.compute_ff_tokens())
        if forced:
            return forced
        if self.decoder.left <= 0:
            return []
        token = yield from self.decoder.choose(sampler, matcher)
        return steering.steered(matcher, token)

    def _usage(self) -> Usage:
        decoder = self.decoder
        return Usage(
            input_tokens=decoder.input_tokens,
            output_tokens=decoder.made,
            cached_tokens=decoder.cached_tokens,
            reasoning_tokens=self.reasoning_tokens,
        )


class _Steering:
    """Closes what is being written while there are tokens enough to do so."""

    def __init__(self, constraint: Constraint, decoder: Decoder) -> None:
        self._closing = constraint.closing
        self._decoder = decoder
        least = constraint.least_tokens
        self._zone = 0 if least is None else _ZONE + 2 * least

    def steered(self, matcher: LLMatcher, token: int) -> list[int]:
        """The token, or all that closes the rest if there would be no room for that after it."""
        left = self._decoder.left
        if left > self._zone:
            return [token]
        after = matcher.deep_copy()
        after.consume_token(token)
        if after.is_stopped() or self._closing.shortest(after, left - 1) is not None:
            return [token]
        closed = self._closing.shortest(matcher, left)
        return [token] if closed is None else closed


def _check(matcher: LLMatcher) -> None:
    if matcher.is_error():
        raise ModelError(
            f"The grammar of the answer failed: {matcher.get_error()[:200]}.",
            hint="Use simpler schemas, or fewer tools.",
        )
