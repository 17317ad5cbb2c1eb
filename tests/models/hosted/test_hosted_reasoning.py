"""Reasoning: how hard, what of it is shown, and what goes back to whom."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from corral.runtime.messages import decode, encode
from corral.runtime.models.contract import ModelRequest, NamedTool, ReasoningChunk, Sampling
from corral.runtime.models.hosted.model import HostedModel
from tests.models.wire.hosted import ASKED, RUN_CODE, Provider, answer, serving
from tests.models.wire.server import Reply, WireServer, shape
from tests.models.wire.shapes import call_delta, completion, message, response, text_block

THINKING = {"type": "thinking", "thinking": "", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4a"}
SIGNED = {"type": "signature_delta", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"}
RUN = {"type": "tool_use", "id": "toolu_1", "name": RUN_CODE.name, "input": {}}
ENCRYPTED = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Multiply."}],
    "encrypted_content": "gAAAAABo",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": RUN_CODE.name}


async def thoughts(model: HostedModel, request: ModelRequest = ASKED) -> str:
    chunks = [chunk async for chunk in model.stream(request)]
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, ReasoningChunk))


async def goes_on(model: HostedModel, server: WireServer, request: ModelRequest = ASKED) -> Any:
    """What the server is sent after a turn whose calls were made, as a journal keeps it."""
    _, final = await answer(model, request)
    kept = decode(json.loads(json.dumps(encode(final.message))))
    assert isinstance(kept, AIMessage)
    results = [ToolMessage("ok", tool_call_id=str(call["id"])) for call in kept.tool_calls]
    await answer(model, replace(request, messages=[*request.messages, kept, *results]))
    return server.bodies[1]


# --- what is shown, and what goes back


async def test_signed_and_redacted_thoughts_go_back_in_their_order() -> None:
    thinking = {"type": "thinking_delta", "thinking": "Let me see."}
    reply = message(
        [THINKING, thinking, SIGNED], [REDACTED], text_block("I will."), [RUN], stop="tool_use"
    )
    async with serving("anthropic", reply) as (model, server):
        assert await thoughts(model) == "Let me see."
        server.requests.clear()
        body = await goes_on(model, server)
    sent = body["messages"][1]["content"]
    assert [block["type"] for block in sent] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
    ]
    assert sent[0]["signature"] == SIGNED["signature"]
    assert sent[1] == REDACTED


async def test_encrypted_reasoning_goes_back_to_openai_and_is_not_kept_there() -> None:
    item = {**CALL, "arguments": '{"code": "1"}', "status": "completed"}
    async with serving("openai", response(ENCRYPTED, item), model="gpt-6-sol") as (model, server):
        assert await thoughts(model) == "Multiply."
        server.requests.clear()
        body = await goes_on(model, server)
    assert body["store"] is False
    assert body["include"] == ["reasoning.encrypted_content"]
    kinds = [entry["type"] for entry in body["input"]]
    assert kinds[2:] == ["reasoning", "function_call", "function_call_output"]
    assert body["input"][2]["encrypted_content"] == ENCRYPTED["encrypted_content"]
    assert body["input"][2]["summary"] == ENCRYPTED["summary"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_plain_reasoning_goes_back_in_the_turn_that_is_under_way(field: str) -> None:
    reply = completion(
        {"role": "assistant", field: "Let "},
        {field: "me."},
        call_delta(0, id="a", name=RUN_CODE.name, args="{}"),
        finish="tool_calls",
    )
    async with serving("openai", reply, official=False, model="r1") as (model, server):
        assert await thoughts(model) == "Let me."
        server.requests.clear()
        body = await goes_on(model, server)
        assert body["messages"][2][field] == "Let me."
        _, final = await answer(model)
        done = [final.message, ToolMessage("ok", tool_call_id="a"), AIMessage("6")]
        later = [*ASKED.messages, *done, HumanMessage("And 7*7?")]
        await answer(model, replace(ASKED, messages=later))
    assert field not in str(server.bodies[-1]["messages"])


async def test_a_providers_own_thoughts_go_to_no_other() -> None:
    theirs: list[str | dict[str, Any]] = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        ENCRYPTED,
        {"type": "text", "text": "Six."},
    ]
    history = [
        HumanMessage("2*3?"),
        AIMessage(theirs, additional_kwargs={"reasoning_content": "plain"}),
        HumanMessage("3*3?"),
    ]
    request = ModelRequest(history)
    cases: list[tuple[Provider, str, Reply, str]] = [
        ("openai", "gpt-4o-mini", shape("openai_text"), ""),
        ("openai", "gpt-6-sol", response(), "gAAAAABo"),
        ("anthropic", "claude-haiku-4-5", shape("anthropic_text"), "sig"),
    ]
    for provider, name, reply, own in cases:
        async with serving(provider, reply, model=name) as (model, server):
            await answer(model, request)
        sent = json.dumps(server.bodies[0])
        assert "Six." in sent
        assert "plain" not in sent
        assert [mark for mark in ("gAAAAABo", "sig") if f'"{mark}"' in sent] == [own] * bool(own)


# --- how hard

Level = Literal["none", "low", "medium", "high"]


@pytest.mark.parametrize(
    ("name", "level", "sent"),
    [
        ("gpt-6-sol", "high", {"effort": "high", "summary": "auto"}),
        ("gpt-6-sol", "none", {"effort": "none"}),
        ("gpt-5-mini", "none", {"effort": "minimal", "summary": "auto"}),
        ("o3", "none", {"effort": "low", "summary": "auto"}),
        ("gpt-6-sol", None, None),
    ],
)
async def test_effort_at_openai(name: str, level: Level | None, sent: object) -> None:
    async with serving("openai", response(), model=name) as (model, server):
        await answer(model, replace(ASKED, reasoning=level))
    assert server.bodies[0].get("reasoning") == sent


async def test_a_model_that_does_not_reason_is_not_asked_to() -> None:
    async with serving("openai", shape("openai_text")) as (model, server):
        await answer(model, replace(ASKED, reasoning="high"))
    assert "reasoning_effort" not in server.bodies[0]


async def test_effort_at_other_servers() -> None:
    options: dict[str, Any] = {"official": False, "model": "gpt-oss"}
    async with serving("openai", shape("openai_text"), **options) as (model, server):
        await answer(model, replace(ASKED, reasoning="low"))
    assert server.bodies[0]["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("name", "level", "thinking", "effort"),
    [
        ("claude-opus-5", "low", {"type": "adaptive", "display": "summarized"}, "low"),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
        ("claude-sonnet-5-5", "none", {"type": "adaptive", "display": "summarized"}, "low"),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-haiku-4-5", "none", None, None),
        ("claude-opus-5", None, None, None),
    ],
)
async def test_effort_at_anthropic(
    name: str, level: Level | None, thinking: object, effort: object
) -> None:
    async with serving("anthropic", shape("anthropic_text"), model=name) as (model, server):
        await answer(model, replace(ASKED, reasoning=level))
    body = server.bodies[0]
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort


async def test_thinking_by_tokens_gives_way_where_it_may_not_be() -> None:
    sampling = Sampling(temperature=0.3, max_tokens=4000)
    asked = replace(ASKED, reasoning="high", sampling=sampling)
    call = {"name": RUN_CODE.name, "args": {"code": "1"}, "id": "t1"}
    begun = [AIMessage("", tool_calls=[call]), ToolMessage("1", tool_call_id="t1")]
    requests = [
        asked,
        replace(asked, tool_choice=NamedTool(RUN_CODE.name)),
        replace(asked, sampling=Sampling(max_tokens=1500)),
        replace(asked, messages=[*asked.messages, *begun]),
    ]
    async with serving("anthropic", shape("anthropic_text")) as (model, server):
        for request in requests:
            await answer(model, request)
    first, *others = server.bodies
    assert first["thinking"] == {"type": "enabled", "budget_tokens": 4000 - 1024}
    assert "temperature" not in first
    assert not any("thinking" in body for body in others)
