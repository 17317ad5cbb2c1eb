"""Whatever was asked before, beside it or in vain: an answer is that of a model just loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage, SystemMessage

from corral.runtime.models.contract import FinalChunk, ModelRequest, Sampling, TokenLogprob
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.settings import LocalSettings
from tests.models.conftest import answer
from tests.models.local.tiny import write_mamba, write_sliding_window

pytestmark = pytest.mark.slow

MADE = {"recurrent": write_mamba, "sliding window": write_sliding_window}
WINDOW = 512
NEARLY = 0.5
"""Sums in another order move the scores of these models by a tenth; other tokens by more."""

WORDS = ("alpha ", "beta beta beta ", "x", "a long way to go " * 4)
PREFIXES = ("Shared. ", "The same beginning for many of them. " * 3)


@dataclass(frozen=True)
class Asked:
    """One request; ``stays`` is how many chunks its user reads (``None``: all)."""

    prefix: str
    words: tuple[str, ...]
    conversation: str
    stays: int | None

    @property
    def request(self) -> ModelRequest:
        return ModelRequest(
            [SystemMessage(self.prefix), HumanMessage("".join(self.words) or "?")],
            sampling=Sampling(max_tokens=6, temperature=0.0, logprobs=20),
            conversation=self.conversation,
        )


ASKED = st.builds(
    Asked,
    st.sampled_from(PREFIXES),
    st.lists(st.sampled_from(WORDS), max_size=5).map(tuple),
    st.sampled_from(("", "a", "a/1", "b")),
    st.sampled_from((None, None, None, 1, 3)),
)


def opened(path: Path, states: Path | None = None, **fields: int) -> LocalModel:
    local = LocalSettings(threads=1, **fields)
    options = LocalOptions(context_window=WINDOW, settings=local, states=states)
    return LocalModel(path, options=options)


class Fresh:
    """Answers of models just loaded, each made once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: dict[tuple[str, tuple[str, ...]], Sequence[TokenLogprob]] = {}

    async def answer(self, asked: Asked) -> Sequence[TokenLogprob]:
        key = asked.prefix, asked.words
        if key not in self._made:
            model = opened(self.path, saved_memory_mb=0)
            self._made[key] = (await answer(model, asked.request)).final.logprobs
            await model.aclose()
        return self._made[key]


@pytest.fixture(scope="module", params=list(MADE.values()), ids=list(MADE))
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    write: Callable[[Path], Path] = request.param
    return Fresh(write(tmp_path_factory.mktemp("model") / "tiny.gguf"))


async def told(model: LocalModel, asked: Asked) -> Sequence[TokenLogprob] | None:
    """The answer, as far as its user stays for it."""
    if asked.stays is None:
        return (await answer(model, asked.request)).final.logprobs
    async with aclosing(model.stream(asked.request)) as stream:
        for _ in range(asked.stays):
            await anext(stream, None)
    return None


def assert_same(got: Sequence[TokenLogprob], want: Sequence[TokenLogprob]) -> None:
    """The same scores, up to where two tokens were equally likely and another one was taken."""
    for one, other in zip(got, want, strict=False):
        scores, wanted = dict(one.top), dict(other.top)
        both = scores.keys() & wanted.keys()
        assert len(both) > len(wanted) // 2
        assert all(abs(scores[text] - wanted[text]) < NEARLY for text in both)
        if one.text != other.text:
            return


@settings(max_examples=12, deadline=None)
@given(
    rounds=st.lists(st.lists(ASKED, min_size=1, max_size=5), min_size=3, max_size=12),
    parallel=st.sampled_from((1, 2, 4)),
    cells=st.sampled_from((512, 1024)),
    saved=st.sampled_from((0, 16)),
)
def test_what_is_cached_changes_no_answer(
    fresh: Fresh, rounds: list[list[Asked]], parallel: int, cells: int, saved: int
) -> None:
    async def play() -> None:
        model = opened(fresh.path, parallel=parallel, cache_tokens=cells, saved_memory_mb=saved)
        for group in rounds:
            answers = await asyncio.gather(*(told(model, asked) for asked in group))
            for asked, got in zip(group, answers, strict=True):
                if got is not None:
                    assert_same(got, await fresh.answer(asked))
        await model.aclose()

    asyncio.run(play())


async def test_a_window_that_has_moved_on_is_not_gone_back_to(tmp_path: Path) -> None:
    """llama.cpp gives cells that no layer with a window looks at again to others."""
    fresh = Fresh(write_sliding_window(tmp_path / "tiny.gguf"))
    first = Asked("Shared. ", ("a long way to go " * 8,), "a", None)
    further = Asked("Shared. ", ("a long way to go " * 8, "and on " * 20), "a", None)
    model = opened(fresh.path, cache_tokens=1024, parallel=2, saved_memory_mb=0)
    for asked in (further, Asked("Other. ", ("beta " * 60,), "b", None), first, further, first):
        assert_same(await told(model, asked) or (), await fresh.answer(asked))
    await model.aclose()


async def test_a_window_that_was_saved_is_gone_on_with_and_not_gone_back_to(
    tmp_path: Path,
) -> None:
    fresh = Fresh(write_sliding_window(tmp_path / "tiny.gguf"))

    async def tomorrow(asked: ModelRequest) -> FinalChunk:
        model = opened(fresh.path, tmp_path / "states", saved_memory_mb=0)
        final = (await answer(model, asked)).final
        await model.aclose()
        return final

    asked = Asked("Shared. ", ("a long way to go " * 8,), "thread", None)
    one = Sampling(max_tokens=1, temperature=0.0)
    first = await tomorrow(replace(asked.request, sampling=one))
    messages = [*asked.request.messages, first.message, HumanMessage("And then?")]
    second = await tomorrow(replace(asked.request, messages=messages, sampling=one))
    assert second.usage.cached_tokens >= first.usage.input_tokens
    again = await tomorrow(asked.request)
    assert_same(again.logprobs, await fresh.answer(asked))
