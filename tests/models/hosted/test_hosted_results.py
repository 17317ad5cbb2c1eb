"""Images in the results of tools: which providers are sent them, and what the others are sent."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from langchain_anthropic.data._profiles import _PROFILES as ANTHROPIC
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_openai.data._profiles import _PROFILES as OPENAI

from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.hosted.dialects.call import Target
from corral.runtime.models.hosted.dialects.media import with_results
from corral.runtime.models.hosted.known_models import speaks_responses, takes_images
from corral.runtime.models.media import NOT_SHOWN
from tests.models.wire.hosted import ASKED, Provider, answer, hosted, serving
from tests.models.wire.server import shape
from tests.models.wire.shapes import response

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def looked(name: str = "call_1", data: str = PNG) -> list[BaseMessage]:
    """A call and its result with an image."""
    call = {"name": "python__run_code", "args": {"code": "plot()"}, "id": name}
    image = {"type": "image", "mime_type": "image/png", "base64": data}
    content: list[str | dict[Any, Any]] = [{"type": "text", "text": "A plot."}, image]
    return [AIMessage("", tool_calls=[call]), ToolMessage(content, tool_call_id=name)]


async def sent(provider: Provider, **options: Any) -> dict[str, Any]:
    reply = response() if options.get("model") == "gpt-6-sol" else shape(f"{provider}_text")
    request = ModelRequest([HumanMessage("Plot it."), *looked()], tools=ASKED.tools)
    async with serving(provider, reply, **options) as (model, server):
        await answer(model, request)
        return server.bodies[0]


async def test_anthropic_and_responses_are_sent_the_image() -> None:
    body = await sent("anthropic")
    (block,) = body["messages"][2]["content"]
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    assert block["type"] == "tool_result"
    assert block["content"][1] == {"type": "image", "source": source}
    body = await sent("openai", model="gpt-6-sol")
    (result,) = [item for item in body["input"] if item.get("type") == "function_call_output"]
    text, image = result["output"]
    assert (text["type"], text["text"]) == ("input_text", "A plot.")
    assert (image["type"], image["image_url"]) == ("input_image", f"data:image/png;base64,{PNG}")


async def test_chat_completions_and_models_that_are_not_known_are_sent_a_note() -> None:
    for body in (await sent("openai"), await sent("openai", official=False, model="gpt-5-mini")):
        assert body["messages"][2]["content"] == f"A plot.\n{NOT_SHOWN}"
    body = await sent("anthropic", official=False, model="my-own")
    assert NOT_SHOWN in str(body["messages"][2]["content"])
    assert PNG not in str(body)


def test_a_model_says_whether_it_takes_them() -> None:
    assert hosted("anthropic", "http://127.0.0.1:9").takes_images
    assert hosted("openai", "http://127.0.0.1:9", model="gpt-6-sol").takes_images
    assert not hosted("openai", "http://127.0.0.1:9").takes_images, "it is asked in another way"


def test_the_newest_images_are_sent_and_of_the_others_notes() -> None:
    target = Target("messages", "claude-haiku-4-5")
    many = [message for n in range(25) for message in looked(f"call_{n}")]
    shown = [isinstance(one.content, list) for one in with_results(many, target)[1::2]]
    assert shown == [False] * 5 + [True] * 20
    large = [message for n in range(6) for message in looked(f"call_{n}", "A" * 4 * 2**20)]
    shown = [isinstance(one.content, list) for one in with_results(large, target)[1::2]]
    assert shown == [False] * 2 + [True] * 4


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        *((name, profile) for name, profile in OPENAI.items() if speaks_responses(name)),
        *ANTHROPIC.items(),
    ],
)
def test_what_is_known_of_models_agrees_with_their_profiles(model: str, profile: Any) -> None:
    if profile.get("image_inputs") is not None:
        assert takes_images(model) == profile["image_inputs"]
