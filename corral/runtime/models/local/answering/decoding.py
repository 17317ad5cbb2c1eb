"""Goes token by token: evaluates what is needed, samples, guesses ahead, and counts."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from corral.runtime.models.contract import TokenLogprob
from corral.runtime.models.local.answering.plan import AnswerPlan
from corral.runtime.models.local.constraints.masks import Mask
from corral.runtime.models.local.drafting.contract import Drafter
from corral.runtime.models.local.native.params import SamplerParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.scheduling.contract import Begin, Extend, Room, Scores, Step

_MOST_GUESSES = 16


class Sampler(Protocol):
    """A chain of samplers."""

    def sample(self, row: int) -> int:
        """Choose a token by a row of scores, and accept it."""
        ...

    def accept(self, token: int) -> None:
        """Count a token as said."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Native(Protocol):
    """What is asked of a context."""

    def logits(self, row: int) -> NDArray[np.float32]:
        """The scores in a row, to be read and changed."""
        ...

    def sampler(self, params: SamplerParams) -> Sampler:
        """A new chain."""
        ...


class Decoder:
    """The tokens of one answer. What was taken is evaluated when the next is asked for.

    ``tokens`` are the prompt and the answer so far. With ``logprobs`` every token that is chosen
    while ``recording`` leaves its log probability in the model's own distribution: before any
    sampling parameter and any constraint.
    """

    def __init__(self, words: Weights, native: Native, plan: AnswerPlan) -> None:
        self.words = words
        self._native = native
        self._plan = plan
        self._mask = Mask(words.n_vocab)
        self._ends = frozenset(words.end_tokens)
        self._drafter: Drafter | None = None
        self.tokens: list[int] = []
        self.made = 0
        self.input_tokens = 0
        self.cached_tokens = 0
        self.recording = False
        self.logprobs: list[TokenLogprob] = []
        self._pending: list[int] = []
        self._guessed: list[int] = []
        self._row = 0
        self._scores: Scores | None = None

    @property
    def left(self) -> int:
        """How many more tokens there may be."""
        return min(self._plan.max_tokens - self.made, self._plan.n_ctx - len(self.tokens))

    def guess_with(self, drafter: Drafter | None) -> None:
        """Let somebody guess ahead from now on."""
        self._drafter = drafter

    def is_end(self, token: int) -> bool:
        """Whether a token ends the answer."""
        return token in self._ends

    def begin(self, prompt: Sequence[int], room: Room) -> Generator[Step, Scores, None]:
        """Evaluate a prompt."""
        self.tokens, self._pending, self._guessed = list(prompt), [], []
        self._scores, self._row = (yield Begin(self.tokens)), 0
        self.input_tokens += len(prompt)
        self.cached_tokens += room.reused

    def rewind(self, length: int) -> None:
        """Forget what comes after the first ``length`` tokens; they count as made all the same."""
        if length < len(self.tokens):
            del self.tokens[length:]
            self._pending, self._guessed, self._scores = [], [], None

    def take(self, tokens: Sequence[int]) -> None:
        """Add tokens to the answer."""
        self.tokens += tokens
        self._pending += tokens
        self.made += len(tokens)

    def row(self) -> Generator[Step, Scores, int]:
        """Where the scores of the next token are."""
        while self._pending and self._guessed and self._pending[0] == self._guessed[0]:
            del self._pending[0], self._guessed[0]
            self._row += 1
        if self._scores is None or (self._pending and self._guessed):
            self._scores, self._row = (yield Begin(self.tokens)), 0
            self._guessed = []
        elif self._pending:
            guessed = self._guesses()
            step = Extend([*self._pending, *guessed], rows=1 + len(guessed))
            self._scores, self._row, self._guessed = (yield step), 0, guessed
        self._pending = []
        return self._scores.row(self._row)

    def choose(
        self, sampler: Sampler, matcher: LLMatcher | None = None
    ) -> Generator[Step, Scores, int]:
        """Sample the next token, one that the matcher allows. It is not taken yet."""
        row = yield from self.row()
        told = None
        if self.recording and self._plan.logprobs is not None:
            told = log_probabilities(self._native.logits(row))
        if matcher is not None:
            self._mask.apply(matcher, self._native.logits(row))
        token = sampler.sample(row)
        if told is not None and token not in self._ends:
            self._tell(told, token)
        return token

    def distribution(self) -> Generator[Step, Scores, NDArray[np.float64]]:
        """The log probabilities of the next token."""
        row = yield from self.row()
        return log_probabilities(self._native.logits(row))

    def sampler(self, params: SamplerParams) -> Sampler:
        """A new chain of samplers. Close it."""
        return self._native.sampler(params)

    def _guesses(self) -> list[int]:
        most = min(_MOST_GUESSES, self.left - 1)
        if self._drafter is None or most < 1:
            return []
        return list(self._drafter.propose(self.tokens, most))

    def _tell(self, told: NDArray[np.float64], token: int) -> None:
        count = min(self._plan.logprobs or 0, len(told))
        likeliest = np.argpartition(told, -count)[-count:] if count else np.array([], np.intp)
        ordered = likeliest[np.argsort(-told[likeliest], kind="stable")]
        top = tuple((self._text(int(one)), float(told[one])) for one in ordered)
        self.logprobs.append(TokenLogprob(self._text(token), float(told[token]), top))

    def _text(self, token: int) -> str:
        return self.words.piece(token).decode("utf-8", "replace")


def log_probabilities(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """The natural log probabilities of all tokens by their scores."""
    exact = scores.astype(np.float64)
    top = exact.max()
    exact -= top + np.log(np.exp(exact - top).sum())
    return exact


class Transcript:
    """The text of tokens as they come, and which tokens made which part of it.

    ``markers`` are texts in which control tokens stand, which have no text of their own.
    """

    def __init__(self, words: Weights, markers: Sequence[str] = ()) -> None:
        self._words = words
        self._markers = "\n".join(markers)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._starts: list[int] = []
        self._length = 0

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def push(self, token: int) -> str:
        """The text that a token adds; nothing yet where it ends within a letter."""
        data = self._words.piece(token)
        if not data and (name := self._words.token_text(token)) and name in self._markers:
            data = name.encode()
        self._starts.append(self._length)
        text = self._decode(data)
        self._length += len(text)
        return text

    def rest(self) -> str:
        """What is left of a letter that did not come to its end."""
        return self._decode(b"", True)

    def tokens_before(self, length: int) -> int:
        """How many tokens belong to the first ``length`` characters and to nothing else."""
        return max((at for at, start in enumerate(self._starts) if start <= length), default=0)
