from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import pytest

from corral.errors import ModelError
from corral.runtime.models.contract import Chunk, TextChunk
from corral.runtime.models.hosted.model import HostedModel
from tests.models.wire.hosted import ASKED, KEY, PROVIDERS, Provider, answer, hosted, quiet, serving
from tests.models.wire.server import Reply, WireServer, failure, shape


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)


AUTH = {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}
UNKNOWN = {"error": {"message": "The model does not exist", "type": "not_found_error"}}
LIMIT = {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
QUOTA = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
LONG_OPENAI = {
    "error": {
        "message": "This model's maximum context length is 128000",
        "code": "context_length_exceeded",
    }
}
LONG_ANTHROPIC = {"type": "error", "error": {"message": "prompt is too long: 210000 > 200000"}}
LONG_LLAMA = {"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error"}}
PAGE = "<!doctype html><html><body>Welcome to the proxy</body></html>"

FAILURES: dict[str, tuple[Reply, list[str]]] = {
    "wrong key": (failure(401, AUTH), ["did not accept the key", "401", "_API_KEY"]),
    "forbidden": (failure(403, AUTH), ["did not accept the key", "403", "_API_KEY"]),
    "unknown model": (failure(404, UNKNOWN), ["knows no model", "404", "Check the model's name"]),
    "rate limit": (failure(429, LIMIT, retry_after="17"), ["rate limit", "Wait 17 seconds"]),
    "no credit": (failure(429, QUOTA), ["no credit left"]),
    "server error": (failure(500, {"error": {"message": "boom"}}), ["500", "boom"]),
    "overloaded": (failure(529, OVERLOADED), ["529", "Overloaded"]),
    "too long, OpenAI": (failure(400, LONG_OPENAI), ["longer than", "context_window"]),
    "too long, Anthropic": (failure(400, LONG_ANTHROPIC), ["longer than", "210000"]),
    "too long, llama.cpp": (failure(400, LONG_LLAMA), ["longer than", "context_window"]),
    "rejected": (failure(400, {"error": {"message": "Unsupported: x"}}), ["400", "Unsupported: x"]),
    "redirect": (failure(307, "", location="http://127.0.0.1:9/"), ["redirects", "307"]),
    "a page": (failure(200, PAGE), ["not a model's answer", "base URL"]),
    "a page, 404": (failure(404, PAGE), ["a web page instead", "404"]),
    "a page, 502": (failure(502, PAGE), ["a web page instead", "502"]),
    "plain JSON": (failure(200, {"id": "x", "choices": []}), ["not a model's answer"]),
    "nothing": (Reply(b""), ["not a model's answer"]),
    "not JSON": (Reply(b"event: content_block_start\ndata: {nope\n\n"), ["not a model's answer"]),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", FAILURES)
async def test_failures_say_what_to_do(provider: Provider, case: str) -> None:
    reply, said = FAILURES[case]
    async with serving(provider, reply) as (model, server):
        with pytest.raises(ModelError) as caught:
            await answer(model)
    for part in said:
        assert part in str(caught.value)
    assert caught.value.hint
    assert len(server.requests) == 1
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "<html" not in str(caught.value)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("cut", [True, False], ids=["lost connection", "clean end"])
async def test_a_stream_cut_in_the_middle_is_no_answer(provider: Provider, cut: bool) -> None:
    lines = {"openai": 4, "anthropic": 15}[provider]
    reply = replace(shape(f"{provider}_text", lines=lines), cut=cut)
    seen: list[Chunk] = []
    async with serving(provider, reply) as (model, _):
        with pytest.raises(ModelError, match="in the middle"):
            await _collect(model, seen)
    assert next(chunk for chunk in seen if isinstance(chunk, TextChunk)).text == "Grüß"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_error_inside_the_stream(provider: Provider) -> None:
    text = shape(f"{provider}_text", lines=6).body
    error = b'event: error\ndata: {"type": "error", "error": {"message": "Overloaded"}}\n\n'
    async with serving(provider, Reply(text + error)) as (model, _):
        with pytest.raises(ModelError, match="failed: Overloaded"):
            await answer(model)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [429, 500, 529])
async def test_it_tries_again_when_that_may_help(provider: Provider, status: int) -> None:
    reply = failure(status, OVERLOADED, retry_after_ms="5")
    good = shape(f"{provider}_text")
    async with serving(provider, reply, reply, good, max_retries=2) as (model, server):
        _, final = await answer(model)
    assert final.message.content == "Grüß dich, Welt."
    assert len(server.requests) == 3


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_it_waits_as_long_as_the_server_asks(provider: Provider) -> None:
    reply = failure(429, LIMIT, retry_after="1")
    good = shape(f"{provider}_text")
    async with serving(provider, reply, good, max_retries=1) as (model, server):
        await answer(model)
    first, second = server.requests
    assert second.at - first.at >= 1.0


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_nobody_is_there(provider: Provider) -> None:
    async with WireServer(Reply(b"")) as server:
        url = server.url
    model = hosted(provider, url, official=False)
    with pytest.raises(ModelError, match="cannot be reached") as caught:
        await answer(model)
    assert "running at http://127.0.0.1" in caught.value.hint
    await model.aclose()


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_missing_key_names_the_variable_that_is_read(provider: Provider) -> None:
    options: dict[str, Any] = {"official": False, "key": ""}
    async with serving(provider, failure(401, AUTH), **options) as (model, _):
        with pytest.raises(ModelError, match="wants a key") as caught:
            await answer(model)
    assert "not sent to this address" in caught.value.hint


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_silence_is_a_timeout(provider: Provider) -> None:
    reply = replace(shape(f"{provider}_text", lines=6), hold=True)
    async with serving(provider, reply, timeout=0.2) as (model, _):
        with pytest.raises(ModelError, match="did not answer in time"):
            await answer(model)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_closing_the_stream_ends_the_request(provider: Provider) -> None:
    lines = {"openai": 4, "anthropic": 15}[provider]
    reply = replace(shape(f"{provider}_text", lines=lines), hold=True)
    async with serving(provider, reply) as (model, server):
        async with aclosing(cast("AsyncGenerator[Chunk, None]", model.stream(ASKED))) as chunks:
            while await anext(chunks) != TextChunk("Grüß"):
                pass
            assert not server.gone.is_set()
        await asyncio.wait_for(server.gone.wait(), 30)


async def test_tasks_share_a_model_and_it_opens_again_after_aclose() -> None:
    async with serving("openai", shape("openai_text")) as (model, server):
        answers = await asyncio.gather(*(answer(model) for _ in range(8)))
        await model.aclose()
        await model.aclose()
        answers.append(await answer(model))
    assert {final.message.content for _, final in answers} == {"Grüß dich, Welt."}
    assert len(server.requests) == 9


async def test_keys_stay_out_of_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving("openai", failure(401, AUTH)) as (model, _):
        with pytest.raises(ModelError):
            await answer(model)
    assert caplog.records
    assert KEY not in "".join(record.getMessage() for record in caplog.records)


async def _collect(model: HostedModel, seen: list[Chunk]) -> None:
    async for chunk in model.stream(ASKED):
        seen.append(chunk)  # noqa: PERF401  what came before the error is looked at
