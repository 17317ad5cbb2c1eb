from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeMessagesListChatModel,
)
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from corral.errors import ModelError
from corral.policies.prices import Price
from corral.runtime.models.contract import ModelRequest, Sampling
from corral.runtime.models.hosted.answer import INVALID_ARGS, invalid_args, parse_args
from corral.runtime.models.hosted.known_models import speaks_responses
from corral.runtime.models.hosted.model import HostedModel
from corral.runtime.models.hosted.schemas import object_schema
from corral.runtime.models.registry import ModelOptions, open_model
from tests.models.wire.hosted import (
    ASKED,
    KEY,
    PROVIDERS,
    READ_FILE,
    RUN_CODE,
    Provider,
    answer,
    quiet,
    serving,
)
from tests.models.wire.server import Reply, WireServer, shape


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)


async def sent(provider: Provider, request: ModelRequest, **options: Any) -> dict[str, Any]:
    """The body of the request that the server got."""
    reply = shape(f"{provider}_text")
    if provider == "openai" and speaks_responses(options.get("model", "")):
        reply = shape("openai_responses")
    async with serving(provider, reply, **options) as (model, server):
        await answer(model, request)
        return server.bodies[0]


# --- answers


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_text_streams_and_is_counted(provider: Provider) -> None:
    async with serving(provider, shape(f"{provider}_text")) as (model, _):
        texts, final = await answer(model)
    assert texts == ["Grüß", " dich", ", ", "Welt", "."]
    assert final.message.content == "Grüß dich, Welt."
    assert final.stop_reason == "stop"
    expected = {"openai": (1200, 34, 0.0001236), "anthropic": (1200, 87, 0.000735)}[provider]
    assert (final.usage.input_tokens, final.usage.output_tokens) == expected[:2]
    assert final.usage.cost_usd == pytest.approx(expected[2])


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_parallel_tool_calls_come_whole(provider: Provider) -> None:
    async with serving(provider, shape(f"{provider}_tools")) as (model, _):
        texts, final = await answer(model)
    assert "".join(texts) == final.message.content
    assert final.stop_reason == "tool_calls"
    ids = {"openai": ("call_pX1aB", "call_qY2cD"), "anthropic": ("toolu_01T1x", "toolu_02T2y")}
    assert [(call["name"], call["args"], call["id"]) for call in final.message.tool_calls] == [
        ("python__run_code", {"code": "print(6*7)"}, ids[provider][0]),
        ("files__read_file", {"path": "a.txt"}, ids[provider][1]),
    ]


@pytest.mark.parametrize(
    ("provider", "name", "reason"),
    [
        ("openai", "openai_length", "length"),
        ("openai", "openai_filtered", "content_filter"),
        ("anthropic", "anthropic_length", "length"),
        ("anthropic", "anthropic_refusal", "refusal"),
    ],
)
async def test_stop_reasons_are_told_apart(provider: Provider, name: str, reason: str) -> None:
    async with serving(provider, shape(name)) as (model, _):
        _, final = await answer(model)
    assert final.stop_reason == reason


async def test_a_tool_call_that_was_cut_off_is_not_completed() -> None:
    async with serving("openai", shape("openai_half_call")) as (model, _):
        _, final = await answer(model)
    assert final.stop_reason == "length"
    [call] = final.message.tool_calls
    assert call["name"] == "files__write_file"
    assert invalid_args(call["args"]) == '{"path": "a.txt", "text": "half of'


async def test_a_local_server_may_leave_out_ids_usage_and_the_reason() -> None:
    async with serving("openai", shape("local_tools"), official=False) as (model, _):
        _, final = await answer(model)
        _, later = await answer(model, replace(ASKED, messages=[*ASKED.messages, final.message]))
    good, broken = final.message.tool_calls
    assert final.stop_reason == "tool_calls"
    assert good["args"] == {"code": "1\n2"}
    assert invalid_args(broken["args"]) == '{"path": '
    assert len({call["id"] for call in (*final.message.tool_calls, *later.message.tool_calls)}) == 4
    assert final.usage.input_tokens > 0 < final.usage.output_tokens
    assert final.usage.cost_usd == 0.0


async def test_ids_that_a_server_uses_again_are_replaced() -> None:
    async with serving("openai", shape("openai_tools"), official=False) as (model, _):
        _, final = await answer(model)
        _, later = await answer(model, replace(ASKED, messages=[*ASKED.messages, final.message]))
    assert final.message.tool_calls[0]["id"] == "call_pX1aB"
    assert len({call["id"] for call in (*final.message.tool_calls, *later.message.tool_calls)}) == 4


async def test_the_responses_api_is_used_where_a_model_needs_it() -> None:
    options = {"model": "gpt-6-sol"}
    async with serving("openai", shape("openai_responses"), **options) as (model, server):
        texts, final = await answer(model)
        history = [*ASKED.messages, final.message, ToolMessage("42", tool_call_id="call_pX1aB")]
        await answer(model, replace(ASKED, messages=history))
    assert [request.path for request in server.requests] == ["/v1/responses"] * 2
    assert texts == ["I will", " look."]
    assert final.message.content == "I will look."
    assert final.message.tool_calls[0]["args"] == {"code": "print(6*7)"}
    assert final.stop_reason == "tool_calls"
    assert final.usage.input_tokens == 1200
    assert server.bodies[0]["store"] is False
    assert [item["type"] for item in server.bodies[1]["input"]] == [
        "message",
        "message",
        "message",
        "function_call",
        "function_call_output",
    ]


async def test_the_responses_api_tells_when_the_tokens_ran_out() -> None:
    options = {"model": "gpt-6-sol"}
    async with serving("openai", shape("openai_responses_length"), **options) as (model, _):
        _, final = await answer(model)
    assert final.stop_reason == "length"


async def test_other_servers_get_chat_completions_whatever_the_name() -> None:
    options: dict[str, Any] = {"model": "gpt-6-sol", "official": False}
    async with serving("openai", shape("openai_text"), **options) as (model, server):
        await answer(model)
    assert server.requests[0].path == "/v1/chat/completions"


async def test_a_price_may_be_given() -> None:
    options: dict[str, Any] = {"official": False, "price": Price(input=1, output=2, cached=0)}
    async with serving("openai", shape("openai_text"), **options) as (model, _):
        _, final = await answer(model)
    assert final.usage.cost_usd == pytest.approx((176 * 1 + 34 * 2) / 1e6)


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("null", {}),
        ('{"a": "x\ny"}', {"a": "x\ny"}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("[1]", {INVALID_ARGS: "[1]"}),
        ("7", {INVALID_ARGS: "7"}),
        ('"text"', {INVALID_ARGS: '"text"'}),
        ('{"a": 1} {"b": 2}', {INVALID_ARGS: '{"a": 1} {"b": 2}'}),
        ('{"a": 1', {INVALID_ARGS: '{"a": 1'}),
        ('{"a": "\\ud800"}', {INVALID_ARGS: '{"a": "\\ud800"}'}),
        ("[" * 100_000, {INVALID_ARGS: "[" * 100_000}),
    ],
)
def test_arguments_are_repaired_only_where_the_meaning_is_plain(
    text: str, args: dict[str, Any]
) -> None:
    assert parse_args(text) == args


# --- requests


async def test_what_openai_is_sent() -> None:
    sampling = Sampling(temperature=0.2, max_tokens=50, seed=3, stop=("END",))
    request = replace(ASKED, sampling=sampling, tool_choice="required")
    body = await sent("openai", request, sampling=Sampling(temperature=0.9, top_p=0.5))
    assert body.pop("tools")[0] == {
        "type": "function",
        "function": {
            "name": "python__run_code",
            "description": "Run Python.",
            "parameters": {**RUN_CODE.input_schema, "additionalProperties": False},
            "strict": True,
        },
    }
    assert body == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is 6*7?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "store": False,
        "temperature": 0.2,
        "top_p": 0.5,
        "max_completion_tokens": 50,
        "seed": 3,
        "stop": ["END"],
        "tool_choice": "required",
    }


async def test_what_anthropic_is_sent() -> None:
    sampling = Sampling(temperature=0.2, max_tokens=50, seed=3, stop=("END",))
    request = replace(ASKED, sampling=sampling, tool_choice="required")
    body = await sent("anthropic", request)
    assert body.pop("tools")[0] == {
        "name": "python__run_code",
        "description": "Run Python.",
        "input_schema": {**RUN_CODE.input_schema, "additionalProperties": False},
        "strict": True,
    }
    assert body == {
        "model": "claude-haiku-4-5",
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "What is 6*7?"}],
        "stream": True,
        "temperature": 0.2,
        "max_tokens": 50,
        "stop_sequences": ["END"],
        "tool_choice": {"type": "any"},
    }


async def test_other_servers_get_the_older_name_of_the_token_limit() -> None:
    request = replace(ASKED, sampling=Sampling(max_tokens=50))
    body = await sent("openai", request, official=False)
    assert body["max_tokens"] == 50
    assert "max_completion_tokens" not in body
    assert "store" not in body


@pytest.mark.parametrize(
    ("provider", "choice", "wire"),
    [
        ("openai", "none", "none"),
        ("openai", "auto", None),
        ("anthropic", "none", {"type": "none"}),
        ("anthropic", "auto", None),
    ],
)
async def test_tool_choice(provider: Provider, choice: Any, wire: object) -> None:
    body = await sent(provider, replace(ASKED, tool_choice=choice))
    assert body.get("tool_choice") == wire
    assert len(body["tools"]) == 2


async def test_a_model_is_not_sent_what_it_is_known_to_reject() -> None:
    sampling = Sampling(temperature=0.2, top_p=0.9, seed=1)
    request = replace(ASKED, sampling=sampling, tool_choice="required")
    body = await sent("anthropic", request, model="claude-opus-5-5")
    assert not {"temperature", "top_p", "seed", "tool_choice"} & set(body)
    body = await sent("openai", request, model="gpt-5-mini")
    assert not {"temperature", "top_p", "seed"} & set(body)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_no_tools_are_sent_when_there_are_none(provider: Provider) -> None:
    body = await sent(provider, replace(ASKED, tools=()))
    assert "tools" not in body
    assert "tool_choice" not in body


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_edited_arguments_are_what_the_model_reads_later(provider: Provider) -> None:
    """A human may change a call before approving it; the provider's own blocks must not win."""
    async with serving(provider, shape(f"{provider}_tools")) as (model, server):
        _, final = await answer(model)
        calls = final.message.tool_calls
        calls[0]["args"] = {"code": "print('edited')"}
        results = [ToolMessage("ok", tool_call_id=str(call["id"])) for call in calls]
        await answer(model, replace(ASKED, messages=[*ASKED.messages, final.message, *results]))
    history = str(server.bodies[1]["messages"])
    assert "edited" in history
    assert "6*7)" not in history


async def test_signed_thinking_goes_back_to_anthropic() -> None:
    async with serving("anthropic", shape("anthropic_thinking")) as (model, server):
        texts, final = await answer(model)
        result = ToolMessage("ok", tool_call_id="toolu_01T1x")
        await answer(model, replace(ASKED, messages=[*ASKED.messages, final.message, result]))
    assert texts == []
    assert server.bodies[1]["messages"][1] == {
        "role": "assistant",
        "content": [
            {
                "type": "thinking",
                "thinking": "Let me see.",
                "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h",
            },
            {
                "type": "tool_use",
                "id": "toolu_01T1x",
                "name": "python__run_code",
                "input": {"code": "1"},
            },
        ],
    }


async def test_names_that_providers_reject_get_an_alias() -> None:
    odd = replace(READ_FILE, server="files", tool="read.file/now")
    other = replace(READ_FILE, server="files", tool="read/file.now")
    long = replace(READ_FILE, tool="x" * 100)
    made_up = AIMessage("", tool_calls=[{"name": "no such tool", "args": {}, "id": "c1"}])
    history = [HumanMessage("go"), made_up, ToolMessage("no", tool_call_id="c1")]
    body = await sent("openai", ModelRequest(history, tools=(odd, other, long)))
    names = [tool["function"]["name"] for tool in body["tools"]]
    names.append(body["messages"][1]["tool_calls"][0]["function"]["name"])
    assert len(set(names)) == 4
    assert all(len(name) <= 64 and name.replace("_", "a").isalnum() for name in names)
    assert made_up.tool_calls[0]["name"] == "no such tool"

    called = shape("openai_tools").body.replace(b"files__read_file", names[0].encode())
    async with serving("openai", Reply(called)) as (model, _):
        _, final = await answer(model, replace(ASKED, tools=(odd,)))
    assert final.message.tool_calls[1]["name"] == "files__read.file/now"


def test_alternatives_at_the_top_of_a_schema_become_one_object() -> None:
    path, code = {"path": {"type": "string"}}, {"code": {"type": "string"}}
    schema = {
        "anyOf": [{"properties": path, "required": ["path"]}, {"properties": code}],
        "properties": {"n": {"type": "integer"}},
        "additionalProperties": False,
    }
    assert object_schema(schema) == {
        "type": "object",
        "properties": {"n": {"type": "integer"}, **path, **code},
    }
    assert object_schema(RUN_CODE.input_schema) == RUN_CODE.input_schema
    assert object_schema({}) == {"type": "object", "properties": {}}


async def test_keys_go_only_where_their_owner_sent_them() -> None:
    async with WireServer(shape("openai_text")) as server:
        url = f"{server.url}/v1"
        environ = {"OPENAI_API_KEY": KEY}
        opened = [
            ("openai:m", ModelOptions(environ={**environ, "OPENAI_BASE_URL": url})),
            (f"openai:m@{url}", ModelOptions(environ=environ)),
            ("openai:m", ModelOptions(base_url=url, environ=environ)),
            (f"openai:m@{url}", ModelOptions(environ={**environ, "CORRAL_API_KEY": "mine"})),
        ]
        for ref, options in opened:
            model = cast("HostedModel", open_model(ref, options))
            await answer(model)
            await model.aclose()
    keys = [request.headers["authorization"] for request in server.requests]
    assert keys == [f"Bearer {KEY}", "Bearer none", "Bearer none", "Bearer mine"]


# --- any langchain model


async def test_any_langchain_model_can_be_used() -> None:
    model = HostedModel.from_langchain(FakeListChatModel(responses=["hello"]), "fake")
    texts, final = await answer(model, ModelRequest([HumanMessage("hi")]))
    assert texts == list("hello")
    assert (final.message.content, final.stop_reason) == ("hello", "stop")
    assert (model.name, model.context_window) == ("fake", 128_000)
    await model.aclose()


async def test_a_langchain_model_that_does_not_stream_may_call_tools() -> None:
    class Calling(FakeMessagesListChatModel):
        def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
            assert [tool["function"]["name"] for tool in tools] == [RUN_CODE.name, READ_FILE.name]
            return self

    call = {"name": RUN_CODE.name, "args": {"code": "1"}, "id": "c1"}
    responses: list[BaseMessage] = [AIMessage("", tool_calls=[call])]
    model = HostedModel.from_langchain(Calling(responses=responses), "fake")
    _, final = await answer(model)
    assert final.message.tool_calls[0]["args"] == {"code": "1"}
    assert final.stop_reason == "tool_calls"


async def test_a_langchain_model_that_cannot_call_tools_says_so() -> None:
    model = HostedModel.from_langchain(FakeListChatModel(responses=["hello"]), "fake")
    with pytest.raises(ModelError, match="cannot call tools"):
        await answer(model)
