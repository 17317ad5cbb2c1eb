"""What providers are sent: tools, outputs, caches of prompts, images and files."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from corral.errors import ModelError
from corral.runtime.models.contract import (
    ChoiceOutput,
    JsonOutput,
    ModelRequest,
    NamedTool,
    Output,
    Sampling,
    TextChunk,
    ToolCallChunk,
)
from corral.tools.contract import ToolSpec
from tests.models.wire.hosted import (
    ASKED,
    PROVIDERS,
    READ_FILE,
    RUN_CODE,
    Provider,
    answer,
    serving,
)
from tests.models.wire.server import Reply, shape
from tests.models.wire.shapes import completion, message, response, text_block

PLAIN = replace(ASKED, tools=())
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "integer"}}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
ANY_MAP: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}


async def sent(provider: Provider, request: ModelRequest, **options: Any) -> dict[str, Any]:
    reply = response() if options.get("model") == "gpt-6-sol" else shape(f"{provider}_text")
    async with serving(provider, reply, **options) as (model, server):
        await answer(model, request)
        return server.bodies[0]


# --- tools


async def test_one_named_tool_once() -> None:
    request = replace(ASKED, tool_choice=NamedTool(RUN_CODE.name), parallel_tool_calls=False)
    body = await sent("openai", request)
    named: dict[str, Any] = {"type": "function", "function": {"name": RUN_CODE.name}}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (named, False)
    body = await sent("openai", request, model="gpt-6-sol")
    named = {"type": "function", "name": RUN_CODE.name}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (named, False)
    body = await sent("anthropic", request)
    named = {"type": "tool", "name": RUN_CODE.name, "disable_parallel_tool_use": True}
    assert body["tool_choice"] == named


async def test_one_tool_at_a_time_at_anthropic_by_choice_or_none() -> None:
    request = replace(ASKED, parallel_tool_calls=False)
    body = await sent("anthropic", request)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    body = await sent("anthropic", replace(request, tool_choice="none"))
    assert body["tool_choice"] == {"type": "none"}


async def test_tools_are_strict_where_their_schema_can_be() -> None:
    loose = ToolSpec("t", "map", "", ANY_MAP)
    optional = READ_FILE
    request = replace(ASKED, tools=(RUN_CODE, optional, loose))
    chat = (await sent("openai", request))["tools"]
    assert [tool["function"].get("strict") for tool in chat] == [True, None, None]
    assert chat[2]["function"]["parameters"] == {**ANY_MAP, "properties": {}}
    responses = (await sent("openai", request, model="gpt-6-sol"))["tools"]
    assert [tool["strict"] for tool in responses] == [True, False, False]
    anthropic = (await sent("anthropic", request))["tools"]
    assert [tool.get("strict") for tool in anthropic] == [True, True, None]
    others = (await sent("openai", request, official=False))["tools"]
    assert [tool["function"].get("strict") for tool in others] == [None, None, None]
    assert others[0]["function"]["parameters"] == RUN_CODE.input_schema


async def test_no_more_tools_are_strict_than_anthropic_takes() -> None:
    tools = tuple(replace(RUN_CODE, tool=f"t{n}") for n in range(25))
    body = await sent("anthropic", replace(ASKED, tools=tools))
    assert sum(tool.get("strict", False) for tool in body["tools"]) == 20


async def test_sampling_that_a_protocol_does_not_have_is_left_out() -> None:
    sampling = Sampling(
        top_p=0.9,
        seed=1,
        stop=("END",),
        top_k=40,
        min_p=0.1,
        repeat_penalty=1.1,
        frequency_penalty=0.5,
        presence_penalty=0.4,
        logprobs=2,
        max_tokens=9,
    )
    request = replace(PLAIN, sampling=sampling)
    chat = await sent("openai", request)
    assert (chat["frequency_penalty"], chat["presence_penalty"]) == (0.5, 0.4)
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 2)
    assert not {"top_k", "min_p", "repeat_penalty"} & set(chat)
    other = await sent("openai", request, official=False, model="qwen")
    assert (other["top_k"], other["min_p"]) == (40, 0.1)
    assert other["repetition_penalty"] == other["repeat_penalty"] == 1.1
    responses = await sent("openai", request, model="gpt-6-sol")
    assert not {"seed", "stop", "top_k", "logprobs", "top_logprobs", "top_p"} & set(responses)
    assert responses["max_output_tokens"] == 9
    anthropic = await sent("anthropic", request)
    assert (anthropic["top_k"], anthropic["top_p"], anthropic["stop_sequences"]) == (
        40,
        0.9,
        ["END"],
    )
    assert not {"seed", "logprobs", "min_p", "frequency_penalty"} & set(anthropic)


async def test_the_tokens_probabilities_are_told() -> None:
    told = {
        "content": [
            {
                "token": "Hi",
                "logprob": -0.1,
                "bytes": None,
                "top_logprobs": [{"token": "Ho", "logprob": -2.5, "bytes": None}],
            }
        ]
    }
    async with serving("openai", completion({"content": "Hi"}, logprobs=told)) as (model, _):
        _, final = await answer(model, replace(PLAIN, sampling=Sampling(logprobs=1)))
    [token] = final.logprobs
    assert (token.text, token.logprob, token.top) == ("Hi", -0.1, (("Ho", -2.5),))


# --- outputs


async def texts(provider: Provider, reply: Reply, output: Output, **options: Any) -> Any:
    """The streamed texts, the final chunk and the body of a request with an output."""
    request = replace(PLAIN, output=output)
    async with serving(provider, reply, **options) as (model, server):
        told = [chunk async for chunk in model.stream(request)]
    shown = [chunk.text for chunk in told if isinstance(chunk, TextChunk)]
    assert not any(isinstance(chunk, ToolCallChunk) for chunk in told)
    return shown, told[-1], server.bodies[0]


async def test_an_object_is_held_to_its_schema_by_every_protocol() -> None:
    closed = {**PERSON, "additionalProperties": False}
    said = '{"name": "Ann"}'
    output = JsonOutput(PERSON, name="person")
    shown, final, body = await texts("openai", completion({"content": said}), output)
    assert body["response_format"]["json_schema"] == {
        "name": "person",
        "schema": closed,
        "strict": True,
    }
    assert (shown, final.message.content) == ([said], said)
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    part = {"type": "output_text", "text": said, "annotations": []}
    reply = response({**item, "content": [part]})
    shown, final, body = await texts("openai", reply, output, model="gpt-6-sol")
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "person",
        "schema": closed,
        "strict": True,
    }
    assert final.message.content == said
    shown, final, body = await texts("anthropic", message(text_block(said)), output)
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": closed}
    assert (shown, final.message.content) == ([said], said)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("output", "said", "text"),
    [
        (ChoiceOutput(("yes", "no")), '{"choice": "no"}', "no"),
        (JsonOutput(NUMBERS), '{"value": [1, 2]}', "[1, 2]"),
        (JsonOutput({"type": "string"}), '{"value": "ü"}', '"ü"'),
        (ChoiceOutput(("yes", "no")), "no", "no"),
    ],
)
async def test_what_is_no_object_is_unwrapped(
    provider: Provider, output: Output, said: str, text: str
) -> None:
    halves = said[:5], said[5:]
    reply = (
        completion(*({"content": half} for half in halves))
        if provider == "openai"
        else message(text_block(*halves))
    )
    shown, final, _ = await texts(provider, reply, output)
    assert (shown, final.message.content) == ([text], text)
    assert final.stop_reason == "stop"


async def test_what_anthropic_cannot_constrain_is_a_call_of_a_tool() -> None:
    use = {"type": "tool_use", "id": "t1", "name": "corral__answer", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"a": "b"}'}
    reply = message([use, delta], stop="tool_use")
    shown, final, body = await texts("anthropic", reply, JsonOutput(ANY_MAP))
    assert (shown, final.message.content, final.message.tool_calls) == (
        ['{"a": "b"}'],
        '{"a": "b"}',
        [],
    )
    assert final.stop_reason == "stop"
    assert body["tool_choice"] == {"type": "tool", "name": "corral__answer"}
    assert body["tools"][0]["input_schema"] == {**ANY_MAP, "properties": {}}
    old = {"model": "claude-3-haiku"}
    _, _, body = await texts("anthropic", reply, JsonOutput(PERSON), **old)
    assert "output_config" not in body


async def test_references_to_the_whole_follow_it_into_the_wrapping() -> None:
    tree = {"anyOf": [{"type": "array", "items": {"$ref": "#"}}, {"type": "integer"}]}
    _, _, body = await texts("openai", completion({"content": "{}"}), JsonOutput(tree))
    schema = body["response_format"]["json_schema"]["schema"]
    value = schema["properties"]["value"]
    assert value["anyOf"][0]["items"] == {"$ref": "#/properties/value"}


# --- the providers' caches of prompts


def marked(body: dict[str, Any]) -> list[str]:
    """Where the breakpoints stand."""
    places = [
        f"tool {n}" for n, tool in enumerate(body.get("tools", ())) if "cache_control" in tool
    ]
    blocks = [("system", body.get("system") or [])]
    blocks += [(f"message {n}", one["content"]) for n, one in enumerate(body["messages"])]
    for place, content in blocks:
        places += [
            place for block in content if isinstance(block, dict) and "cache_control" in block
        ]
    return places


async def test_breakpoints_stand_where_requests_agree() -> None:
    call = {"name": RUN_CODE.name, "args": {"code": "1"}, "id": "t1"}
    done = [AIMessage("", tool_calls=[call]), ToolMessage("1", tool_call_id="t1")]
    once = await sent("anthropic", ASKED)
    assert marked(once) == ["system"]
    talk = replace(ASKED, conversation="thread-1")
    assert marked(await sent("anthropic", talk)) == ["system", "message 0"]
    later = replace(talk, messages=[*talk.messages, *done])
    assert marked(await sent("anthropic", later)) == ["system", "message 0", "message 2"]
    bare = replace(ASKED, messages=[HumanMessage("hi")])
    assert marked(await sent("anthropic", bare)) == ["tool 1"]
    assert marked(await sent("anthropic", later, prompt_cache=False)) == []


async def test_a_conversation_has_one_key_at_openai() -> None:
    talk = replace(ASKED, conversation="thread-1")
    first = await sent("openai", talk)
    again = await sent("openai", replace(talk, messages=[*talk.messages, HumanMessage("x")]))
    other = await sent("openai", replace(talk, conversation="thread-2"), model="gpt-6-sol")
    assert first["prompt_cache_key"] == again["prompt_cache_key"] != other["prompt_cache_key"]
    assert "thread" not in first["prompt_cache_key"]
    for body in (
        await sent("openai", ASKED),
        await sent("openai", talk, official=False),
        await sent("openai", talk, prompt_cache=False),
    ):
        assert "prompt_cache_key" not in body


async def test_cached_and_written_tokens_are_counted_and_paid_for() -> None:
    usage = {
        "input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 500,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    async with serving("anthropic", message(text_block("x"), usage=usage)) as (model, _):
        _, final = await answer(model)
    used = final.usage
    assert (used.input_tokens, used.output_tokens) == (1600, 50)
    assert (used.cached_tokens, used.cache_write_tokens, used.reasoning_tokens) == (1000, 500, 20)
    assert used.cost_usd == pytest.approx((100 * 1 + 1000 * 0.1 + 500 * 1.25 + 50 * 5) / 1e6)


# --- images and files


def with_block(block: dict[str, Any]) -> ModelRequest:
    return ModelRequest([HumanMessage([{"type": "text", "text": "What is it?"}, block])])


async def test_images_reach_every_protocol() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "image", "base64": PNG, "mime_type": "image/png"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    data = f"data:image/png;base64,{PNG}"
    for block in blocks:
        body = await sent("openai", with_block(block))
        assert body["messages"][0]["content"][1]["image_url"]["url"] == data
        body = await sent("openai", with_block(block), model="gpt-6-sol")
        assert body["input"][0]["content"][1]["image_url"] == data
        body = await sent("anthropic", with_block(block))
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        assert body["messages"][0]["content"][1] == {"type": "image", "source": source}


async def test_files_reach_every_protocol() -> None:
    block = {"type": "file", "base64": PNG, "mime_type": "application/pdf"}
    data = f"data:application/pdf;base64,{PNG}"
    body = await sent("openai", with_block(block))
    assert body["messages"][0]["content"][1]["file"]["file_data"] == data
    body = await sent("openai", with_block(block), model="gpt-6-sol")
    assert body["input"][0]["content"][1]["file_data"] == data
    body = await sent("anthropic", with_block(block))
    assert body["messages"][0]["content"][1]["source"]["data"] == PNG
    text = {"type": "text-plain", "text": "A page.", "mime_type": "text/plain"}
    assert "A page." in str(await sent("openai", with_block(text)))
    assert "A page." in str(await sent("anthropic", with_block(text)))


@pytest.mark.parametrize(
    ("provider", "options", "block", "said"),
    [
        ("openai", {"model": "gpt-3.5-turbo"}, {"type": "image", "url": "x"}, "takes no images"),
        ("openai", {"model": "gpt-3.5-turbo"}, {"type": "file", "base64": "x"}, "takes no files"),
        ("anthropic", {}, {"type": "audio", "base64": "x"}, "is sent no audio"),
        (
            "anthropic",
            {},
            {"type": "image", "base64": PNG, "mime_type": "image/tiff"},
            "image/tiff",
        ),
        ("anthropic", {}, {"type": "image", "base64": PNG}, "no stated type"),
        (
            "anthropic",
            {},
            {"type": "image", "base64": "A" * 8_000_000, "mime_type": "image/png"},
            "5.7 MiB, and the provider takes 5 MiB",
        ),
        ("openai", {}, {"type": "file", "base64": "A" * 50_000_000}, "takes 32 MiB"),
    ],
)
async def test_what_cannot_be_taken_is_refused_before_it_is_sent(
    provider: Provider, options: dict[str, Any], block: dict[str, Any], said: str
) -> None:
    async with serving(provider, shape(f"{provider}_text"), **options) as (model, server):
        with pytest.raises(ModelError, match=said) as caught:
            await answer(model, with_block(block))
    assert caught.value.hint
    assert server.requests == []


async def test_a_system_message_alone_is_no_conversation() -> None:
    request = ModelRequest([SystemMessage("Be brief.")], conversation="c")
    body = await sent("openai", request)
    assert body["messages"] == [{"role": "system", "content": "Be brief."}]
