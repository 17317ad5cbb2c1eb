"""Every attempt is counted, and none is made that is known to fail."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest

from corral.errors import ModelError
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.contract import Chunk, FinalChunk, NoticeChunk, UsageChunk
from corral.runtime.models.hosted import retrying
from corral.runtime.models.hosted.model import HostedModel
from tests.models.wire.hosted import ASKED, quiet, serving
from tests.models.wire.server import failure, shape
from tests.models.wire.shapes import events, message, text_block

BUSY = {"error": {"type": "overloaded_error", "message": "Overloaded"}}
STRICT = failure(400, {"error": {"message": "Schemas contains too many optional parameters"}})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)
    monkeypatch.setattr(retrying, "_FIRST_WAIT", 0.001)


async def stream(model: Any) -> list[Chunk]:
    return [chunk async for chunk in model.stream(ASKED)]


async def together(model: HostedModel, count: int) -> list[Any]:
    return await asyncio.gather(*(stream(model) for _ in range(count)), return_exceptions=True)


def final(chunks: list[Chunk]) -> FinalChunk:
    assert isinstance(chunks[-1], FinalChunk)
    return chunks[-1]


async def test_what_a_broken_attempt_has_used_is_paid_for() -> None:
    start = {"type": "message_start", "message": {**_MESSAGE, "usage": _USED}}
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    begin = {"type": "content_block_start", "index": 0, "content_block": thinking}
    thought = {"type": "thinking_delta", "thinking": "Let me see. " * 400}
    delta = {"type": "content_block_delta", "index": 0, "delta": thought}
    broken = replace(events(start, begin, delta, named=True), cut=True)
    good = message(text_block("42"), usage={"output_tokens": 3})
    async with serving("anthropic", broken, good, max_retries=1) as (model, _):
        chunks = await stream(model)
    used = final(chunks).usage
    assert final(chunks).message.text == "42"
    assert used.output_tokens == 1200 + 3
    assert used.input_tokens > 100 + 10
    assert used.cost_usd > 1200 * 4 / 1_000_000
    counted = [chunk.usage.output_tokens for chunk in chunks if isinstance(chunk, UsageChunk)]
    assert counted == sorted(counted), "what was used is never less than before"


async def test_who_leaves_with_the_last_chunk_has_been_answered() -> None:
    bad, good = failure(503, BUSY), shape("openai_text")
    options: dict[str, Any] = {"max_retries": 1, "breaker_failures": 2}
    async with serving("openai", *[bad, good] * 3, **options) as (model, server):
        chain = Fallback("chain", [model])
        for _ in range(3):
            assert final(await stream(chain)).message.content == "Grüß dich, Welt."
    assert len(server.requests) == 6


async def test_all_that_were_asked_too_strictly_are_asked_for_less() -> None:
    async with serving("openai", STRICT, STRICT, STRICT, shape("openai_text")) as (model, server):
        answers = await together(model, 3)
    assert [final(chunks).message.content for chunks in answers] == ["Grüß dich, Welt."] * 3
    assert len(server.requests) == 6


async def test_who_waits_behind_failures_is_not_sent_after_them() -> None:
    options = {"breaker_failures": 2, "concurrency": 1}
    async with serving("openai", failure(503, BUSY), **options) as (model, server):
        answers = await together(model, 10)
    assert len(server.requests) == 2
    assert sum("failed 2 times in a row" in str(error) for error in answers) == 8


async def test_a_server_that_asks_for_no_wait_is_not_asked_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrying, "pause", lambda _retry, asked: 7.0 if asked is None else asked)
    reply = failure(429, BUSY, retry_after="0")
    async with (
        serving("openai", reply, max_retries=4) as (model, server),
        aclosing(cast("Any", model.stream(ASKED))) as chunks,
    ):
        told = await anext(chunks)
    assert isinstance(told, NoticeChunk)
    assert "in 7.0 s" in told.text
    assert len(server.requests) == 1


async def test_no_server_closes_a_model_for_ever() -> None:
    async with serving("openai", failure(429, BUSY, retry_after="1e300")) as (model, _):
        with pytest.raises(ModelError, match="rate limit"):
            await stream(model)
        with pytest.raises(ModelError, match="no room within its limit for 86400 s"):
            await stream(model)


_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
_USED = {"input_tokens": 10, "output_tokens": 1}
