"""What is evaluated once for all: shared beginnings, threads that alternate, ways back."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from corral.runtime.models.contract import ModelRequest, Sampling
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.scheduling.cache import common
from corral.runtime.models.local.settings import LocalSettings
from tests.models.conftest import Answered, answer
from tests.models.local.tiny import write_mamba, write_sliding_window

pytestmark = pytest.mark.slow

RULES = "You are a careful clerk. Never touch a file that nobody has named. " * 6
MADE = {"recurrent": write_mamba, "sliding window": write_sliding_window}


def turn(*said: str, system: str = RULES, **fields: object) -> ModelRequest:
    """A conversation: what the user, the model and the user said."""
    kinds = (HumanMessage, AIMessage)
    messages = [kinds[at % 2](text) for at, text in enumerate(said)]
    sampling = Sampling(max_tokens=6, temperature=0.0, logprobs=0)
    return ModelRequest([SystemMessage(system), *messages], sampling=sampling, **fields)  # type: ignore[arg-type]  # fields of the request, by name


def shown(got: Answered) -> list[str]:
    """The tokens of an answer."""
    return [one.text for one in got.final.logprobs]


async def test_agents_that_start_together_evaluate_what_they_share_once(
    local_model: LocalModel,
) -> None:
    before = local_model.evaluated_tokens
    rules = "Together. " + RULES
    requests = [turn(f"Task {number}: describe it.", system=rules) for number in range(8)]
    answers = await asyncio.gather(*(answer(local_model, request) for request in requests))
    length = answers[0].final.usage.input_tokens
    # Once the whole prompt, then eight short ends and eight short answers.
    assert local_model.evaluated_tokens - before < length + 8 * 30
    cached = sorted(got.final.usage.cached_tokens for got in answers)
    assert cached[1] > length - 30


async def test_threads_that_alternate_are_not_evaluated_again(local_model: LocalModel) -> None:
    said = {name: [f"{name} asks. " * 30] for name in ("Ann", "Ben", "Cid")}
    for round_ in range(3):
        for name, texts in said.items():
            got = await answer(
                local_model, turn(*texts, system=f"{name}. {RULES}", conversation=name)
            )
            usage = got.final.usage
            if round_:
                assert usage.input_tokens - usage.cached_tokens < 40
            texts += [str(got.final.message.content), f"And then, {round_}?"]


async def test_a_sequence_that_was_left_behind_stays_of_use(repeatable_model: LocalModel) -> None:
    first = await answer(repeatable_model, turn("One. " * 40, conversation="left"))
    await answer(repeatable_model, turn("Two. " * 40, conversation="other"))
    again = await answer(repeatable_model, turn("One. " * 40))
    assert again.final.usage.cached_tokens == first.final.usage.input_tokens - 1
    assert shown(again) == shown(first)


async def test_what_was_used_longest_ago_leaves_a_full_cache() -> None:
    settings = LocalSettings(threads=1, parallel=1, cache_tokens=512, saved_memory_mb=0)
    model = LocalModel(options=LocalOptions(context_window=512, settings=settings))
    texts = [f"{word} " * 130 for word in ("red", "blue", "green", "pink")]
    for text in texts:
        await answer(model, turn(text, system="Be brief."))
    newest = await answer(model, turn(texts[-1], system="Be brief."))
    oldest = await answer(model, turn(texts[0], system="Be brief."))
    assert newest.final.usage.cached_tokens == newest.final.usage.input_tokens - 1
    assert oldest.final.usage.cached_tokens < 40
    await model.aclose()


async def test_what_has_left_comes_back_from_memory() -> None:
    settings = LocalSettings(threads=1, parallel=1, cache_tokens=512)
    model = LocalModel(options=LocalOptions(context_window=512, settings=settings))
    texts = [f"{word} " * 130 for word in ("red", "blue", "green", "pink")]
    first = await answer(model, turn(texts[0], system="Be brief."))
    for text in texts[1:]:
        await answer(model, turn(text, system="Be brief."))
    before = model.evaluated_tokens
    again = await answer(model, turn(texts[0], system="Be brief."))
    assert again.final.usage.cached_tokens == again.final.usage.input_tokens - 1
    assert model.evaluated_tokens - before < 10
    assert shown(again) == shown(first)
    await model.aclose()


@pytest.mark.parametrize("write", MADE.values(), ids=MADE)
async def test_other_memories_answer_as_if_nothing_were_cached(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path / "tiny.gguf")
    conversation = ("Hello there, friend.", "Yes?", "Hello there, enemy.")
    requests = [turn(*conversation[:1]), turn(*conversation), turn("Goodbye."), turn("Go on.")]
    settings = LocalSettings(threads=1, saved_memory_mb=0)

    async def fresh(request: ModelRequest) -> Answered:
        model = LocalModel(path, options=LocalOptions(context_window=1024, settings=settings))
        try:
            return await answer(model, request)
        finally:
            await model.aclose()

    alone = [shown(await fresh(request)) for request in requests]
    model = LocalModel(path, options=LocalOptions(context_window=1024, settings=settings))
    warm = [await answer(model, request) for request in (*requests, *requests)]
    together = await asyncio.gather(*(answer(model, request) for request in requests))
    assert [shown(got) for got in warm] == alone * 2
    assert [shown(got) for got in together] == alone
    # What was asked before is there, and from the third prompt on what all of them share.
    assert warm[3].final.usage.cached_tokens > 300
    assert warm[4].final.usage.cached_tokens == warm[4].final.usage.input_tokens - 1
    assert len({tuple(tokens) for tokens in alone}) > 1
    await model.aclose()


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_the_common_beginning_is_the_longest_one(first: list[int], second: list[int]) -> None:
    length = common(array("i", first), array("i", second))
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
