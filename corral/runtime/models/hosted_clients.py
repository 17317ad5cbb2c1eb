"""langchain's chat models over the official SDKs, each with an HTTP client of its own.

Importing this module costs more than a second of CPU; ``hosted`` does so at the first request.
langchain shares one HTTP client between all models of a process, which breaks when a second
event loop runs (``asyncio.run`` twice) and cannot be closed by one of them. Redirects are not
followed: the key would go along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI
from pydantic import SecretStr

from corral.runtime.models.endpoint import Endpoint

_NO_KEY = "none"
"""Sent where a server needs no key: the SDKs insist on one, and look for others without."""

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Connection:
    """A langchain chat model and how to free what it holds."""

    chat: BaseChatModel
    close: Callable[[], Awaitable[None]]


def connect(endpoint: Endpoint, *, timeout: float, max_retries: int) -> Connection:
    """The chat model at ``endpoint``. Nothing is sent yet.

    ``timeout`` is the longest silence in seconds. 408, 409, 429 and 5xx answers and lost
    connections are tried again ``max_retries`` times, after what ``retry-after`` asks for or an
    exponential backoff; never once an answer has begun.
    """
    wait = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS))
    if endpoint.provider == "anthropic":
        return _anthropic(endpoint, wait, max_retries)
    return _openai(endpoint, wait, max_retries)


def _openai(endpoint: Endpoint, wait: httpx2.Timeout, max_retries: int) -> Connection:
    http = openai.DefaultAsyncHttpxClient(
        timeout=wait, follow_redirects=False, proxy=endpoint.proxy
    )
    settings: dict[str, Any] = {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "api_key": SecretStr(endpoint.key or _NO_KEY),
        "timeout": wait,
        "max_retries": max_retries,
        "http_async_client": http,
        "stream_usage": True,
        "stream_chunk_timeout": wait.read,
        "openai_proxy": None,
        "output_version": None,
    }
    if endpoint.official:
        # langchain picks the Responses API for the models that need it. Nothing is to be kept
        # at the provider.
        return Connection(ChatOpenAI(**settings, store=False), http.aclose)
    # Other servers speak Chat Completions, and know its older name for the answer's length.
    return Connection(BaseChatOpenAI(**settings, use_responses_api=False), http.aclose)


def _anthropic(endpoint: Endpoint, wait: httpx2.Timeout, max_retries: int) -> Connection:
    key = endpoint.key or _NO_KEY
    settings: dict[str, Any] = {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "api_key": SecretStr(key),
        "timeout": wait.read,
        "max_retries": max_retries,
        "anthropic_proxy": None,
    }
    chat = ChatAnthropic(**settings)
    client = anthropic.AsyncAnthropic(
        api_key=key,
        base_url=endpoint.base_url,
        timeout=wait,
        max_retries=max_retries,
        http_client=anthropic.DefaultAsyncHttpxClient(
            timeout=wait, follow_redirects=False, proxy=endpoint.proxy
        ),
    )
    # A cached property: what is stored under its name is what it gives.
    vars(chat)["_async_client"] = client
    return Connection(chat, client.close)
