"""Answers with guesses are the answers without them.

With scores that are computed exactly that holds for every drafter, shown on a made-up network. With
llama.cpp it holds up to the last bits of the scores, which differ when several tokens are evaluated
at once: shown on texts in which no two tokens are nearly as likely.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.runtime.models.contract import JsonOutput, ModelRequest, Sampling
from corral.runtime.models.local.answering.decoding import Decoder
from corral.runtime.models.local.answering.plan import AnswerPlan
from corral.runtime.models.local.answering.sampling import SamplingDefaults
from corral.runtime.models.local.drafting.ngram import NgramSource
from corral.runtime.models.local.model import LocalModel, LocalOptions, bundled_model
from corral.runtime.models.local.native.params import SamplerParams
from corral.runtime.models.local.scheduling.contract import Begin, Scores, Step
from corral.runtime.models.local.settings import LocalSettings
from tests.models.conftest import answer, ask
from tests.models.local.small_models import with_layers, with_tokens_swapped

WORDS = 6


class MadeUp:
    """A network whose scores are a function of all tokens, and what runs and samples it."""

    n_vocab = WORDS
    end_tokens: Sequence[int] = ()

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.reused = 0
        self._rows: list[NDArray[np.float32]] = []

    def evaluate(self, step: Step) -> None:
        if isinstance(step, Begin):
            self.tokens, new, rows = [], list(step.tokens), 1
        else:
            new, rows = list(step.tokens), step.rows
        self.tokens += new
        ends = range(len(self.tokens) - rows + 1, len(self.tokens) + 1)
        self._rows = [_scores(self.tokens[:end]) for end in ends]

    def row(self, index: int) -> int:
        return index

    def logits(self, row: int) -> NDArray[np.float32]:
        return self._rows[row]

    def sampler(self, params: SamplerParams) -> Chosen:
        return Chosen(self, params.seed)


def _scores(tokens: list[int]) -> NDArray[np.float32]:
    # Repeats itself, so that there is something to look up, and not always.
    seed = hash(tuple(tokens[-2:])) if len(tokens) % 7 else hash(tuple(tokens))
    return np.random.default_rng(abs(seed)).normal(size=WORDS).astype(np.float32) * 2


class Chosen:
    """Samples with random numbers of its own, one for each token."""

    def __init__(self, network: MadeUp, seed: int) -> None:
        self._network = network
        self._random = random.Random(seed)

    def sample(self, row: int) -> int:
        weights = np.exp(self._network.logits(row).astype(np.float64))
        return self._random.choices(range(WORDS), list(weights))[0]

    def accept(self, token: int) -> None:
        pass

    def close(self) -> None:
        pass


class Lookup:
    """Guesses as prompt lookup does, as much as it may."""

    def __init__(self) -> None:
        self.source = NgramSource()
        self.guessed = 0

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        guess = self.source.guess(tokens, most)
        self.guessed += len(guess)
        return guess

    def close(self) -> None:
        pass


def said(prompt: list[int], seed: int, count: int, drafter: Lookup | None) -> list[int]:
    """What is answered, with or without guesses."""
    network: Any = MadeUp()
    params = SamplerParams(1.0, seed=seed)
    plan = AnswerPlan(prompt, 500, count, params, params, lambda _, __: prompt)
    decoder = Decoder(network, network, plan)
    decoder.guess_with(drafter)

    def steps() -> Generator[Step, Scores, None]:
        yield from decoder.begin(prompt, network)
        sampler = decoder.sampler(params)
        for _ in range(count):
            decoder.take([(yield from decoder.choose(sampler))])

    running = steps()
    step = next(running)
    while True:
        network.evaluate(step)
        try:
            step = running.send(network)
        except StopIteration:
            return decoder.tokens[len(prompt) :]


@settings(deadline=None)
@given(
    prompt=st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=30), seed=st.integers(0, 2**31)
)
def test_guesses_change_no_answer(prompt: list[int], seed: int) -> None:
    drafter = Lookup()
    assert said(prompt, seed, 60, drafter) == said(prompt, seed, 60, None)
    assert drafter.guessed


COPIED = "def total(prices):\n    result = 0\n    for price in prices:\n        result += price\n"
REPEATING = ask(f"{COPIED}\nRepeat it.\n{COPIED}\nOnce more.")
NAMES = {
    "type": "object",
    "properties": {"names": {"type": "array", "items": {"enum": ["anna", "bob"]}, "maxItems": 6}},
    "required": ["names"],
    "additionalProperties": False,
}


def requests() -> list[ModelRequest]:
    """Greedily, with a seed, and under a constraint."""
    messages = REPEATING.messages
    greedy = Sampling(max_tokens=40, temperature=0)
    return [
        ModelRequest(messages, sampling=greedy),
        ModelRequest(messages, sampling=Sampling(max_tokens=40, temperature=0.4, seed=11)),
        ModelRequest(messages, sampling=greedy, output=JsonOutput(NAMES)),
    ]


def drafting_model(draft: str) -> LocalModel:
    # With it on, scores of short texts do not depend on how many tokens are evaluated together.
    local = LocalSettings(draft=draft, parallel=1, threads=1, flash_attention="on")
    defaults = SamplingDefaults()
    return LocalModel(options=LocalOptions(defaults=defaults, context_window=512, settings=local))


async def answers(draft: str) -> tuple[list[str], int]:
    """The answers to ``requests``, and how many tokens were evaluated for them."""
    model = drafting_model(draft)
    texts = [str((await answer(model, one)).final.message.content) for one in requests()]
    evaluated = model.evaluated_tokens
    await model.aclose()
    return texts, evaluated


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_llama_cpp_answers_the_same(tmp_path: Path) -> None:
    plain, evaluated = await answers("none")
    looked_up, with_lookup = await answers("ngram")
    assert looked_up == plain
    assert with_lookup > evaluated  # some guesses were wrong

    small = with_layers(bundled_model(), tmp_path / "small.gguf", 2)
    guessed, with_model = await answers(str(small))
    assert guessed == plain
    assert with_model >= evaluated


async def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    other = with_tokens_swapped(bundled_model(), tmp_path / "other.gguf")
    model = drafting_model(str(other))
    with pytest.raises(ModelError, match=r"cannot guess for .*: token 500 is .* instead of"):
        await answer(model, ask("Hi."))
    await model.aclose()


async def test_a_draft_that_is_no_model_is_refused(tmp_path: Path) -> None:
    model = drafting_model(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="There is no model file"):
        await answer(model, ask("Hi."))
    await model.aclose()
