"""What is asked again, when, and how it is told."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import ModelError
from corral.runtime.models.contract import Chunk, FinalChunk, NoticeChunk, TextChunk
from corral.runtime.models.hosted import retrying
from corral.runtime.models.hosted.model import HostedModel
from corral.runtime.models.hosted.retrying import Course, pause
from corral.runtime.models.hosted.traffic.lanes import Traffic
from tests.models.wire.hosted import ASKED, PROVIDERS, RUN_CODE, Provider, quiet, serving
from tests.models.wire.server import Reply, failure, shape
from tests.models.wire.shapes import call_delta, completion, events, message, response

BUSY = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
THOUGHT = [
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Let me see."},
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)
    monkeypatch.setattr(retrying, "_FIRST_WAIT", 0.001)


async def stream(model: HostedModel, request: Any = ASKED) -> list[Chunk]:
    return [chunk async for chunk in model.stream(request)]


async def collect(model: HostedModel, seen: list[Chunk]) -> None:
    async for chunk in model.stream(ASKED):
        seen.append(chunk)  # noqa: PERF401  what came before an error is looked at


def notices(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks if isinstance(chunk, NoticeChunk)]


def final(chunks: list[Chunk]) -> FinalChunk:
    assert isinstance(chunks[-1], FinalChunk)
    return chunks[-1]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_each_retry_is_told_and_counted(provider: Provider) -> None:
    busy = failure(529, BUSY, retry_after_ms="3")
    limit = failure(429, {"error": {"message": "Rate limit"}}, retry_after_ms="4")
    good = shape(f"{provider}_text")
    async with serving(provider, busy, limit, good, max_retries=2) as (model, server):
        chunks = await stream(model)
    name = model.name
    assert notices(chunks) == [
        f"{name}: 529, asking again in 0.0 s.",
        f"{name}: 429, asking again in 0.0 s.",
    ]
    assert final(chunks).facts["retries"] == 2
    assert len(server.requests) == 3


async def test_an_answer_at_once_says_nothing_of_retries() -> None:
    async with serving("openai", shape("openai_text")) as (model, _):
        chunks = await stream(model)
    assert notices(chunks) == []
    assert "retries" not in final(chunks).facts


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
async def test_what_would_fail_again_is_not_asked_again(provider: Provider, status: int) -> None:
    reply = failure(status, {"error": {"message": "no"}})
    async with serving(provider, reply, max_retries=3) as (model, server):
        with pytest.raises(ModelError):
            await stream(model)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_what_may_pass_is_asked_as_often_as_allowed(status: int) -> None:
    reply = failure(status, {"error": {"message": "no"}}, retry_after_ms="1")
    async with serving("openai", reply, max_retries=2) as (model, server):
        with pytest.raises(ModelError) as caught:
            await stream(model)
    assert len(server.requests) == 3
    assert "It was asked 3 times." in caught.value.hint


async def test_a_server_may_say_that_it_is_of_no_use() -> None:
    reply = failure(500, {"error": {"message": "no"}}, x_should_retry="false")
    async with serving("openai", reply, max_retries=3) as (model, server):
        with pytest.raises(ModelError):
            await stream(model)
    assert len(server.requests) == 1


# --- streams that break


CUT: dict[str, tuple[Provider, Reply]] = {
    "nothing": ("openai", Reply(b"")),
    "nothing at Anthropic": ("anthropic", Reply(b"")),
    "before any text": ("openai", shape("openai_text", lines=2)),
    "while it thinks": ("anthropic", replace(message(THOUGHT), cut=True)),
    "broken JSON": ("openai", Reply(shape("openai_text", lines=2).body + b"data: {nope\n\n")),
    "overloaded": ("anthropic", events(BUSY, named=False, before="event: error\n")),
    "in a call": (
        "openai",
        completion(call_delta(0, id="a", name=RUN_CODE.name, args='{"co'), finish=None),
    ),
}


@pytest.mark.parametrize("case", CUT)
async def test_a_stream_that_broke_before_its_text_is_asked_again(case: str) -> None:
    provider, broken = CUT[case]
    async with serving(provider, broken, shape(f"{provider}_text"), max_retries=1) as (model, _):
        chunks = await stream(model)
    assert len(notices(chunks)) == 1
    assert final(chunks).message.content == "Grüß dich, Welt."
    assert final(chunks).message.tool_calls == []


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_shown_text_is_never_shown_twice(provider: Provider) -> None:
    lines = {"openai": 4, "anthropic": 15}[provider]
    broken = replace(shape(f"{provider}_text", lines=lines), cut=True)
    good = shape(f"{provider}_text")
    seen: list[Chunk] = []
    async with serving(provider, broken, good, max_retries=3) as (model, server):
        with pytest.raises(ModelError, match="in the middle") as caught:
            await collect(model, seen)
    assert "a part was shown already" in caught.value.hint
    assert [chunk for chunk in seen if isinstance(chunk, TextChunk)] != []
    assert len(server.requests) == 1


async def test_an_account_without_summaries_of_reasoning_does_without() -> None:
    refused = {"message": "must be verified", "param": "reasoning.summary"}
    replies = failure(400, {"error": refused}), response()
    async with serving("openai", *replies, model="gpt-6-sol") as (model, server):
        for _ in range(2):
            await stream(model, replace(ASKED, reasoning="low"))
    efforts = [body["reasoning"] for body in server.bodies]
    assert efforts == [{"effort": "low", "summary": "auto"}, {"effort": "low"}, {"effort": "low"}]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_too_strict_for_a_provider_is_asked_for_loosely(provider: Provider) -> None:
    refused = failure(400, {"error": {"message": "Schemas contains too many optional parameters"}})
    async with serving(provider, refused, shape(f"{provider}_text")) as (model, server):
        for _ in range(2):
            await stream(model)
    assert ["strict" in str(body["tools"]) for body in server.bodies] == [True, False, False]


# --- time


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_wait_past_the_deadline_is_not_begun(provider: Provider) -> None:
    reply = failure(429, BUSY, retry_after="60")
    async with serving(provider, reply, max_retries=3) as (model, server):
        with pytest.raises(ModelError, match="rate limit"):
            await stream(model, replace(ASKED, deadline=20.0))
    assert len(server.requests) == 1


async def test_nobody_waits_for_hours() -> None:
    reply = failure(429, BUSY, retry_after="7200")
    async with serving("openai", reply, max_retries=3) as (model, server):
        with pytest.raises(ModelError, match="rate limit") as caught:
            await stream(model)
        assert "Wait 7200 seconds" in caught.value.hint
        with pytest.raises(ModelError, match="no room within its limit for 7"):
            await stream(model)
    assert len(server.requests) == 1


async def test_the_deadline_holds_for_the_whole_answer() -> None:
    held = replace(shape("openai_text", lines=4), hold=True)
    async with serving("openai", shape("openai_text"), held) as (model, _):
        await stream(model)  # what is opened first takes its time
        with pytest.raises(ModelError, match="not answered within its time"):
            await stream(model, replace(ASKED, deadline=0.3))


async def test_a_long_wait_ends_when_it_is_cancelled() -> None:
    reply = failure(429, BUSY, retry_after="100")
    async with serving("openai", reply, max_retries=3) as (model, server):
        told = asyncio.Event()

        async def ask() -> None:
            async for chunk in model.stream(ASKED):
                if isinstance(chunk, NoticeChunk):
                    told.set()

        task = asyncio.create_task(ask())
        await asyncio.wait_for(told.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
    assert len(server.requests) == 1


async def test_signs_of_life_are_no_answer() -> None:
    alive = Reply(b": keep-alive\n\n" * 3 + shape("openai_text").body)
    async with serving("openai", alive) as (model, _):
        assert final(await stream(model)).message.content == "Grüß dich, Welt."


# --- rest after failures in a row


async def test_an_endpoint_that_fails_again_and_again_gets_a_rest() -> None:
    now = 0.0
    traffic = Traffic(lambda: now)
    bad, good = failure(503, BUSY, retry_after_ms="1"), shape("openai_text")
    options: dict[str, Any] = {"traffic": traffic, "breaker_failures": 2, "breaker_seconds": 30}
    async with serving("openai", bad, bad, bad, good, max_retries=9, **options) as (model, server):
        with pytest.raises(ModelError, match="503"):
            await stream(model)
        assert len(server.requests) == 2
        with pytest.raises(ModelError, match="failed 2 times in a row") as caught:
            await stream(model)
        assert "30 s" in caught.value.hint
        assert len(server.requests) == 2
        now = 31.0
        with pytest.raises(ModelError, match="503"):  # one trial, which fails
            await stream(model)
        with pytest.raises(ModelError, match="failed 3 times in a row"):
            await stream(model)
        assert len(server.requests) == 3
        now = 62.0
        assert final(await stream(model)).message.content == "Grüß dich, Welt."
        assert final(await stream(model)).message.content == "Grüß dich, Welt."


async def test_a_request_that_is_refused_is_no_failure_of_the_endpoint() -> None:
    refused = failure(400, {"error": {"message": "no"}})
    replies = [refused, refused, refused, shape("openai_text")]
    async with serving("openai", *replies, breaker_failures=2) as (model, _):
        for _ in range(3):
            with pytest.raises(ModelError, match="400"):
                await stream(model)
        assert final(await stream(model)).stop_reason == "stop"


# --- the waits themselves


@given(st.integers(0, 40), st.floats(0, 1))
def test_backoff_is_jittered_fully_and_bounded(retry: int, chance: float) -> None:
    waited = pause(retry, None, lambda: chance)
    assert 0 <= waited <= 30.0
    assert pause(retry, None, lambda: 0.0) == 0.0


@given(st.floats(0, 1000), st.floats(0, 1))
def test_what_the_server_asks_for_is_waited_for(asked: float, chance: float) -> None:
    assert asked <= pause(3, asked, lambda: chance) <= asked * 1.1


@given(st.integers(0, 20), st.floats(0, 200))
def test_no_more_retries_than_allowed_and_none_past_the_deadline(most: int, asked: float) -> None:
    course = Course(most, deadline=100.0)
    waits = [course.pause_before("limit", asked) for _ in range(most + 3)]
    made = [wait for wait in waits if wait is not None]
    assert len(made) == course.retries <= most
    assert all(wait < 100 for wait in made)


async def test_closing_while_it_waits_asks_no_more() -> None:
    reply = failure(503, BUSY, retry_after="100")
    async with (
        serving("openai", reply, max_retries=3) as (model, server),
        aclosing(cast("Any", model.stream(ASKED))) as chunks,
    ):
        assert isinstance(await anext(chunks), NoticeChunk)
    assert len(server.requests) == 1
