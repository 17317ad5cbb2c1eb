"""Generates one answer: free text that may turn into a tool call, or a call at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from llguidance import LLMatcher

from corral.errors import ModelError
from corral.runtime.models.grammar import CallGrammar, ParsedCall
from corral.runtime.models.local_llama import Llama
from corral.runtime.models.local_sampling import SamplerParams
from corral.runtime.models.local_sequence import TokenSequence
from corral.runtime.models.local_text import TextGate

StopReason = Literal["stop", "tool_calls", "length"]
_RETRY_TEMPERATURE = 0.6


@dataclass(frozen=True)
class Decision:
    """A prompt of its own that asks only whether to call a tool.

    A call is made there when its first token has at least the log probability ``threshold``.
    """

    prompt: Sequence[int]
    grammar: CallGrammar
    threshold: float


@dataclass(frozen=True)
class AnswerPlan:
    """What to generate after which prompt.

    ``grammar`` is ``None`` when no call may be made; ``required`` makes one without any text.
    ``decision`` comes first: if it ends in a call, ``prompt`` is not used.
    """

    prompt: Sequence[int]
    max_tokens: int
    text: SamplerParams
    call: SamplerParams
    stops: tuple[str, ...] = ()
    grammar: CallGrammar | None = None
    required: bool = False
    decision: Decision | None = None


class Answer:
    """One answer in the making: iterate ``run`` to its end, then read the fields."""

    def __init__(
        self,
        llama: Llama,
        sequence: TokenSequence,
        plan: AnswerPlan,
        cancelled: Callable[[], bool],
    ) -> None:
        self._llama = llama
        self._sequence = sequence
        self._plan = plan
        self._cancelled = cancelled
        self._left = plan.max_tokens
        self.input_tokens = 0
        self.text = ""
        self.call: ParsedCall | None = None
        self.stop_reason: StopReason = "stop"

    @property
    def output_tokens(self) -> int:
        """Tokens made so far, those that the grammar left no choice about included."""
        return self._plan.max_tokens - self._left

    def run(self) -> Iterator[str]:
        """Evaluate the prompt and generate; yields text that may be shown."""
        plan = self._plan
        if plan.decision is not None and self._decide(plan.decision):
            return
        self._begin(plan.prompt)
        if plan.grammar is not None and plan.required:
            self._make_call(plan.grammar)
            return
        gate = TextGate(plan.stops, plan.grammar.triggers if plan.grammar else ())
        length = yield from self._free_text(gate)
        if plan.grammar is not None and gate.triggered:
            self._sequence.rewind(length)
            self._make_call(plan.grammar)

    def _begin(self, prompt: Sequence[int]) -> None:
        self.input_tokens += len(prompt)
        self._sequence.begin(prompt, self._cancelled)

    def _decide(self, decision: Decision) -> bool:
        """Make the call that the question asks for, if it does and the call comes to an end."""
        self._begin(decision.prompt)
        logits = self._llama.logits().astype(np.float64)
        top = logits.max()
        total = top + np.log(np.exp(logits - top).sum())
        wanted = logits[decision.grammar.first_token] - total >= decision.threshold
        return bool(wanted) and self._call(decision.grammar)

    def _free_text(self, gate: TextGate) -> Generator[str, None, int]:
        """Generate until the end or a marker; returns the length before the marker's tokens."""
        grammar = self._plan.grammar
        # A control token has no text of its own: the marker is put in its place.
        marker = grammar.trigger_token if grammar else None
        marked = grammar.triggers[0].encode() if grammar else b""
        length, offsets = len(self._sequence), list[int]()
        with closing(self._sampled(self._plan.text)) as tokens:
            for token in tokens:
                offsets.append(gate.length)
                shown = gate.push(marked if token == marker else self._llama.piece(token))
                if shown:
                    self.text += shown
                    yield shown
                if gate.found is not None:
                    break
        rest = gate.finish()
        if rest:
            self.text += rest
            yield rest
        return length + max((i for i, at in enumerate(offsets) if at <= gate.end), default=0)

    def _sampled(self, params: SamplerParams) -> Generator[int, None, None]:
        """Tokens up to the end of the answer; each is evaluated when the next is asked for."""
        ends = set(self._llama.end_tokens)
        with closing(self._llama.sampler(params)) as sampler:
            while self._left > 0 and self._sequence.room > 0:
                token = sampler.sample()
                self._left -= 1
                if token in ends:
                    return
                yield token
                self._sequence.extend([token], self._cancelled)
        self.stop_reason = "length"

    def _make_call(self, grammar: CallGrammar) -> None:
        if not self._call(grammar):
            raise ModelError(
                f"The model's tool call did not come to an end within {self._left} tokens.",
                hint="Raise max_tokens, or use a larger model.",
            )

    def _call(self, grammar: CallGrammar) -> bool:
        """Generate a call; once more, less predictably, if the first does not come to an end."""
        start, budget = len(self._sequence), self._left
        again = replace(
            self._plan.call,
            seed=self._plan.call.seed + 1,
            temperature=max(self._plan.call.temperature, _RETRY_TEMPERATURE),
        )
        for params in (self._plan.call, again):
            matcher = grammar.start()
            if self._constrained(matcher, params):
                self.call = grammar.parse(matcher)
                self.stop_reason = "tool_calls"
                return True
            self._left = budget
            self._sequence.rewind(start)
        return False

    def _constrained(self, matcher: LLMatcher, params: SamplerParams) -> bool:
        """Generate under a grammar to its end; ``False`` when the tokens ran out before."""
        with closing(self._llama.sampler(params)) as sampler:
            while not matcher.is_stopped():
                tokens = matcher.compute_ff_tokens()
                if not tokens:
                    self._mask(matcher)
                    tokens = [sampler.sample()]
                if len(tokens) > min(self._left, self._sequence.room):
                    return False
                matcher.consume_tokens(tokens)
                self._left -= len(tokens)
                self._sequence.extend(tokens, self._cancelled)
        if matcher.is_error():
            raise ModelError(
                f"The grammar of the tool calls failed: {matcher.get_error()}.",
                hint="Give the agent fewer tools, or simpler schemas.",
            )
        return True

    def _mask(self, matcher: LLMatcher) -> None:
        """Make every token impossible that the grammar does not allow next."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=self._llama.n_vocab)
        self._llama.logits()[allowed == 0] = -np.inf
