"""Streams that are odd, hostile or told in another way."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from corral.errors import ModelError
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    Sampling,
    TextChunk,
    ToolCallChunk,
    UsageChunk,
)
from corral.runtime.models.hosted.answer import invalid_args
from tests.models.wire.hosted import (
    ASKED,
    PROVIDERS,
    READ_FILE,
    RUN_CODE,
    Provider,
    answer,
    serving,
)
from tests.models.wire.server import Reply, failure, shape
from tests.models.wire.shapes import call_delta, completion, events, message, response, text_block


async def chunks(provider: Provider, reply: Reply, **options: Any) -> list[Chunk]:
    async with serving(provider, reply, **options) as (model, _):
        return [chunk async for chunk in model.stream(ASKED)]


async def final(provider: Provider, reply: Reply, **options: Any) -> FinalChunk:
    last = (await chunks(provider, reply, **options))[-1]
    assert isinstance(last, FinalChunk)
    return last


# --- tool calls


def pieces(told: list[Chunk]) -> list[tuple[int, str, str]]:
    """The pieces of calls, joined by the call that they belong to."""
    calls: dict[int, tuple[str, str]] = {}
    for chunk in told:
        if isinstance(chunk, ToolCallChunk):
            name, args = calls.get(chunk.index, ("", ""))
            calls[chunk.index] = (name + chunk.name, args + chunk.args)
    return [(index, name, args) for index, (name, args) in calls.items()]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_calls_are_told_as_they_are_made(provider: Provider) -> None:
    told = await chunks(provider, shape(f"{provider}_tools"))
    assert pieces(told) == [
        (0, RUN_CODE.name, '{"code": "print(6*7)"}'),
        (1, READ_FILE.name, '{"path": "a.txt"}'),
    ]
    first = next(chunk for chunk in told if isinstance(chunk, ToolCallChunk))
    assert first.name == RUN_CODE.name


async def test_calls_in_pieces_that_come_in_turn() -> None:
    reply = completion(
        call_delta(0, id="a", name=RUN_CODE.name),
        call_delta(1, id="b", name=READ_FILE.name, args='{"pa'),
        call_delta(0, args='{"code"'),
        call_delta(1, args='th": "x"}'),
        call_delta(0, args=': "1"}'),
        finish="tool_calls",
    )
    last = await final("openai", reply)
    assert [call["args"] for call in last.message.tool_calls] == [{"code": "1"}, {"path": "x"}]


@pytest.mark.parametrize("index", [0, None])
async def test_servers_that_count_every_call_as_the_first(index: int | None) -> None:
    reply = completion(
        call_delta(index, id="a", name=RUN_CODE.name, args='{"code": "1"}'),
        call_delta(index, id="b", name=RUN_CODE.name, args='{"code": "2"}'),
        finish="tool_calls",
    )
    last = await final("openai", reply, official=False)
    assert [call["args"] for call in last.message.tool_calls] == [{"code": "1"}, {"code": "2"}]


async def test_ids_that_are_given_twice_are_told_apart() -> None:
    reply = completion(
        call_delta(0, id="a", name=RUN_CODE.name, args="{}"),
        call_delta(1, id="a", name=READ_FILE.name, args="{}"),
        finish="tool_calls",
    )
    last = await final("openai", reply)
    first, second = (call["id"] for call in last.message.tool_calls)
    assert first == "a" != second


async def test_arguments_that_are_half_a_surrogate_pair_are_invalid() -> None:
    reply = completion(call_delta(0, id="a", name=RUN_CODE.name, args='{"code": "\\ud800"}'))
    [call] = (await final("openai", reply)).message.tool_calls
    assert invalid_args(call["args"]) is not None


# --- how answers end


@pytest.mark.parametrize(
    ("provider", "reply", "reason", "text"),
    [
        ("openai", completion({"refusal": "I "}, {"refusal": "won't."}), "refusal", "I won't."),
        ("openai", completion({"content": "x"}, finish="length"), "length", "x"),
        ("openai", completion({"content": "x"}, finish="content_filter"), "content_filter", "x"),
        ("anthropic", message(text_block("x"), stop="refusal"), "refusal", "x"),
        ("anthropic", message(text_block("x"), stop="pause_turn"), "length", "x"),
        ("anthropic", message(text_block("x"), stop="stop_sequence"), "stop", "x"),
        (
            "anthropic",
            message(text_block("x"), stop="model_context_window_exceeded"),
            "length",
            "x",
        ),
    ],
)
async def test_how_an_answer_ended(
    provider: Provider, reply: Reply, reason: str, text: str
) -> None:
    last = await final(provider, reply)
    assert (last.stop_reason, last.message.content) == (reason, text)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
    ],
)
async def test_how_a_response_ended_early(fields: dict[str, Any], reason: str) -> None:
    reply = response(status="incomplete", **fields)
    last = await final("openai", reply, model="gpt-6-sol")
    assert last.stop_reason == reason


async def test_a_refusal_in_a_response() -> None:
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    reply = response({**item, "content": [{"type": "refusal", "refusal": "No."}]})
    last = await final("openai", reply, model="gpt-6-sol")
    assert (last.stop_reason, last.message.content) == ("refusal", "No.")


# --- what is counted


async def test_usage_that_is_told_as_a_running_total_counts_once() -> None:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    told = [
        {
            **head,
            "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": end}],
            "usage": {"prompt_tokens": 10, "completion_tokens": n, "total_tokens": 10 + n},
        }
        for n, end in ((1, None), (2, None), (3, "stop"))
    ]
    last = await final("openai", events(*told), official=False)
    assert (last.usage.input_tokens, last.usage.output_tokens) == (10, 3)
    assert "usage" not in last.facts


async def test_usage_that_nobody_tells_is_estimated_and_said_to_be() -> None:
    last = await final("openai", completion({"content": "x" * 400}), official=False)
    assert (last.usage.output_tokens, last.facts["usage"]) == (100, "estimated")
    assert last.usage.input_tokens > 10


async def test_a_stream_is_counted_while_it_goes_on() -> None:
    told = await chunks("openai", completion(*({"content": "word " * 40} for _ in range(5))))
    counts = [one.usage.output_tokens for one in told if isinstance(one, UsageChunk)]
    assert counts == [50, 100, 150, 200, 250]
    costs = [one.usage.cost_usd for one in told if isinstance(one, UsageChunk)]
    assert costs == sorted(costs)
    assert costs[0] > 0


# --- what is no answer


def compressed() -> Reply:
    body = zlib.compress(shape("openai_text").body)
    return Reply(body, headers={"content-encoding": "deflate"})


HOSTILE: dict[str, Reply] = {
    "an endless line": Reply(b"data: " + b"x" * 9_000_000),
    "endless short lines": Reply(b"data: x\n" * 2_000),
    "endless empty fields": Reply(b"\r" * 1 + b":\r" * 2_000),
    "compressed": compressed(),
    "no delta": events({"id": "c", "choices": [{"index": 0, "finish_reason": 7, "delta": [1]}]}),
    "choices are no list": events({"id": "c", "choices": {"a": 1}}),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_hostile_streams_end_in_an_error_that_says_so(case: str) -> None:
    with pytest.raises(ModelError, match="not a model's answer") as caught:
        await final("openai", HOSTILE[case], official=False)
    assert caught.value.hint


async def test_comments_between_events_are_signs_of_life() -> None:
    body = shape("openai_text").body.replace(b"data: ", b": keep-alive\n\ndata: ", 3)
    assert (await final("openai", Reply(body))).message.content == "Grüß dich, Welt."


async def test_an_overlong_request_is_told_with_its_numbers() -> None:
    said = (
        "This model's maximum context length is 8192 tokens. However, you requested 9300 tokens "
        "(9000 in the messages, 300 in the completion)."
    )
    body = {"error": {"message": said, "code": "context_length_exceeded", "param": "messages"}}
    with pytest.raises(ModelError, match="longer than openai:gpt-4o-mini") as caught:
        await final("openai", failure(400, body))
    assert "8192" in caught.value.message
    assert "9300" in caught.value.message


async def test_a_failed_response_says_why() -> None:
    failed = {
        "type": "response.failed",
        "sequence_number": 1,
        "response": {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": "m",
            "status": "failed",
            "output": [],
            "error": {"code": "server_error", "message": "It broke."},
        },
    }
    with pytest.raises(ModelError, match=r"It broke\."):
        await final("openai", events(failed, named=True), model="gpt-6-sol")


async def test_a_long_answer_comes_whole() -> None:
    words = [f"w{n} " for n in range(1_000)]
    last = await final("openai", completion(*({"content": word} for word in words)))
    assert last.message.content == "".join(words)


async def test_text_comes_in_order_whatever_blocks_it_stands_in() -> None:
    told = await chunks("anthropic", message(text_block("a", "b"), text_block("c")))
    assert [one.text for one in told if isinstance(one, TextChunk)] == ["a", "b", "c"]
    assert isinstance(told[-1], FinalChunk)
    assert told[-1].message.content == "abc"


async def test_a_request_that_is_too_short_for_an_answer_is_still_an_answer() -> None:
    request = replace(ASKED, sampling=Sampling(max_tokens=1))
    async with serving("anthropic", shape("anthropic_length")) as (model, server):
        _, last = await answer(model, request)
    assert (last.stop_reason, json.dumps(server.bodies[0]["max_tokens"])) == ("length", "1")
