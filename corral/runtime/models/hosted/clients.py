"""langchain's chat models over the official SDKs, each with an HTTP client of its own.

Importing this module costs more than a second of CPU; ``hosted`` does so at the first request.
langchain shares one HTTP client between all models of a process, which breaks when a second
event loop runs (``asyncio.run`` twice) and cannot be closed by one of them. Redirects are not
followed: the key would go along. The SDKs retry nothing: ``retrying`` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import SecretStr

from corral.runtime.models.hosted.dialects.messages import REASONING_FIELDS
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.errors import NotTheProtocol
from corral.runtime.models.hosted.known_models import speaks_responses
from corral.runtime.models.hosted.wire import PLAIN, Hear, hooks

_NO_KEY = "none"
"""Sent where a server needs no key: the SDKs insist on one, and look for others without."""

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """A langchain chat model and how to free what it holds."""

    chat: BaseChatModel
    close: Callable[[], Awaitable[None]]


def connect(endpoint: Endpoint, *, timeout: float, hear: Hear | None = None) -> Connection:
    """The chat model at ``endpoint``. Nothing is sent yet.

    ``timeout`` is the longest silence in seconds; ``hear`` is told the headers of every answer.
    """
    wait = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
    client: dict[str, Any] = {
        "timeout": wait,
        "follow_redirects": False,
        "proxy": endpoint.proxy,
        "event_hooks": hooks(hear),
        "headers": PLAIN,
    }
    if endpoint.provider == "anthropic":
        return _anthropic(endpoint, wait, anthropic.DefaultAsyncHttpxClient(**client))
    return _openai(endpoint, wait, openai.DefaultAsyncHttpxClient(**client))


def _openai(
    endpoint: Endpoint, wait: httpx2.Timeout, http: openai.DefaultAsyncHttpxClient
) -> Connection:
    settings: dict[str, Any] = {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "api_key": SecretStr(endpoint.key or _NO_KEY),
        "timeout": wait,
        "max_retries": 0,
        "http_async_client": http,
        "stream_usage": True,
        # A server that sends signs of life is alive; the runtime bounds that.
        "stream_chunk_timeout": None,
        "openai_proxy": None,
        "output_version": None,
    }
    if endpoint.official:
        responses = speaks_responses(endpoint.model)
        # Nothing is to be kept at the provider.
        chat = _OpenAI(**settings, store=False, use_responses_api=responses)
        return Connection(chat, http.aclose)
    # Other servers speak Chat Completions, and know its older name for the answer's length.
    return Connection(_OpenAIShaped(**settings, use_responses_api=False), http.aclose)


def _anthropic(
    endpoint: Endpoint, wait: httpx2.Timeout, http: anthropic.DefaultAsyncHttpxClient
) -> Connection:
    key = endpoint.key or _NO_KEY
    settings: dict[str, Any] = {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "api_key": SecretStr(key),
        "timeout": wait.read,
        "max_retries": 0,
        "anthropic_proxy": None,
    }
    chat = ChatAnthropic(**settings)
    client = anthropic.AsyncAnthropic(
        api_key=key, base_url=endpoint.base_url, timeout=wait, max_retries=0, http_client=http
    )
    # A cached property: what is stored under its name is what it gives.
    vars(chat)["_async_client"] = client
    return Connection(chat, client.close)


class _ChatCompletions(BaseChatOpenAI):
    """Chat Completions with what langchain drops: other servers' reasoning, and refusals."""

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], *args: Any, **kwargs: Any
    ) -> ChatGenerationChunk | None:
        delta = _mended_delta(chunk)
        generation = super()._convert_chunk_to_generation_chunk(chunk, *args, **kwargs)
        if generation is not None and isinstance(generation.message, AIMessageChunk):
            for name in (*REASONING_FIELDS, "refusal"):
                if isinstance(delta.get(name), str):
                    generation.message.additional_kwargs[name] = delta[name]
        return generation

    def _get_request_payload(self, input_: Any, **kwargs: Any) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, **kwargs)
        asked = self._convert_input(input_).to_messages()
        for message, sent in zip(asked, payload.get("messages", ()), strict=False):
            if isinstance(message, AIMessage):
                thoughts = {n: message.additional_kwargs.get(n) for n in REASONING_FIELDS}
                sent |= {name: thought for name, thought in thoughts.items() if thought}
        return payload


class _OpenAI(_ChatCompletions, ChatOpenAI):
    """OpenAI itself."""


class _OpenAIShaped(_ChatCompletions):
    """Any other server that speaks Chat Completions."""


def _mended_delta(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """What a chunk adds to the answer, with what servers leave out of calls put in.

    Raises ``NotTheProtocol`` for what is no chunk.
    """
    choices = chunk.get("choices") or ()
    if not choices:
        return {}
    choice = choices[0] if isinstance(choices, list) else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict | None):
        raise NotTheProtocol("A chunk of the answer has no delta.")
    choice["delta"] = delta = delta or {}
    calls = [call for call in delta.get("tool_calls") or () if isinstance(call, dict)]
    for place, call in enumerate(calls):
        call["index"] = place if call.get("index") is None else call["index"]
        call["function"] = call.get("function") or {}
    delta["tool_calls"] = calls
    return delta
