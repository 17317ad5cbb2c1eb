"""Models that run on somebody else's machine: OpenAI, Anthropic, and what speaks like OpenAI.

A thin layer over langchain's chat models: they convert messages and speak the protocols, the
SDKs below them retry. This module decides what the runtime must rely on: a plain ``AIMessage``
with strictly parsed tool calls, told-apart stop reasons, counted tokens, and errors that say
what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk

from corral.errors import CorralError
from corral.policies.prices import FREE, Price
from corral.runtime.budgets.prices import listed_price
from corral.runtime.models.contract import Chunk, ModelRequest, Sampling, TextChunk
from corral.runtime.models.endpoint import Endpoint
from corral.runtime.models.hosted_answer import Expected, final_chunk
from corral.runtime.models.hosted_errors import explain
from corral.runtime.models.hosted_request import (
    ToolNames,
    function_schemas,
    merged,
    messages_for,
    sampling_for,
    tool_choice_for,
)
from corral.runtime.models.known_models import (
    DEFAULT_WINDOWS,
    Provider,
    window_of,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True)
class HostedOptions:
    """How a hosted model is used.

    ``sampling`` holds where a request says nothing. ``timeout`` is the longest silence, in
    seconds. ``context_window`` and ``price`` override what is known of the model.
    """

    sampling: Sampling = field(default_factory=Sampling)
    context_window: int | None = None
    price: Price | None = None
    timeout: float = 120.0
    max_retries: int = 3


@dataclass(frozen=True)
class _Link:
    chat: BaseChatModel
    close: Callable[[], Awaitable[None]]


class HostedModel:
    """A ``ChatModel`` over a langchain chat model.

    The SDKs are imported, and the client is made, at the first request.
    """

    def __init__(
        self,
        open_link: Callable[[], Awaitable[_Link]],
        name: str,
        options: HostedOptions,
        endpoint: Endpoint | None,
    ) -> None:
        """Not for callers: use ``from_endpoint`` or ``from_langchain``."""
        self._open_link = open_link
        self._name = name
        self._options = options
        self._endpoint = endpoint
        self._link: _Link | None = None
        self._opening = asyncio.Lock()

    @classmethod
    def from_endpoint(
        cls, endpoint: Endpoint, *, name: str, options: HostedOptions | None = None
    ) -> HostedModel:
        """The model at ``endpoint``. Nothing is imported or sent yet."""
        options = options or HostedOptions()

        def load() -> _Link:
            # Imported here: it brings both SDKs along, more than a second of start-up.
            from corral.runtime.models.hosted_clients import connect

            made = connect(endpoint, timeout=options.timeout, max_retries=options.max_retries)
            return _Link(made.chat, made.close)

        return cls(lambda: asyncio.to_thread(load), name, options, endpoint)

    @classmethod
    def from_langchain(
        cls, chat_model: BaseChatModel, name: str, *, options: HostedOptions | None = None
    ) -> HostedModel:
        """Any langchain chat model. It stays the caller's: ``aclose`` does not close it.

        Its own retries and timeouts hold, not those of ``options``.
        """

        async def close() -> None:
            return None

        async def ready() -> _Link:
            return _Link(chat_model, close)

        return cls(ready, name, options or HostedOptions(), None)

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        return self._name

    @property
    def context_window(self) -> int:
        """How many tokens a request and its answer may have together, as far as is known."""
        if self._options.context_window:
            return self._options.context_window
        if self._endpoint is None:
            return DEFAULT_WINDOWS["openai"]
        return window_of(self._endpoint.provider, self._endpoint.model)

    @property
    def price(self) -> Price | None:
        """What it costs: as given, or as listed for where it runs; ``None``: nobody knows."""
        if self._options.price is not None or self._endpoint is None:
            return self._options.price
        if self._endpoint.official:
            return listed_price(self._endpoint.model, provider=self._endpoint.provider)
        return listed_price(self._endpoint.model, url=self._endpoint.base_url)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer: the text as it comes, then the whole message with its usage.

        A tool call whose arguments are not a JSON object has ``args`` that ``invalid_args``
        recognises. Raises ``ModelError``.
        """
        chunks: list[AIMessageChunk] = []
        names = ToolNames.of(request.tools)
        try:
            link = await self._opened()
            # Closing in this order ends the HTTP request at once when the caller stops early.
            async with aclosing(self._ask(link.chat, request)) as answer:
                async for chunk in answer:
                    chunks.append(chunk)
                    if text := str(chunk.text):
                        yield TextChunk(text)
            yield final_chunk(chunks, self._expected(request, names))
        except CorralError:
            raise
        except Exception as error:  # noqa: BLE001  the border to the SDKs, which raise anything
            raise explain(error, self._name, self._endpoint) from self._cause(error)

    def check_complete(self, turns: int) -> None:
        """Nothing to check: a hosted model has no script."""

    async def aclose(self) -> None:
        """Close the connections. A later request opens them again."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _opened(self) -> _Link:
        async with self._opening:
            if self._link is None:
                self._link = await self._open_link()
            return self._link

    @property
    def _provider(self) -> Provider | None:
        return self._endpoint.provider if self._endpoint else None

    async def _ask(
        self, chat: BaseChatModel, request: ModelRequest
    ) -> AsyncGenerator[AIMessageChunk, None]:
        profile: Mapping[str, Any] = chat.profile or {}
        sampling = merged(request.sampling, self._options.sampling)
        settings = sampling_for(sampling, self._provider, profile)
        model = self._endpoint.model if self._endpoint else ""
        runnable: Any = chat
        if request.tools and not (request.tool_choice == "none" and self._provider is None):
            choice = tool_choice_for(request.tool_choice, self._provider, model)
            given: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
            runnable = chat.bind_tools(function_schemas(request.tools), **given)
        async with aclosing(runnable.astream(messages_for(request.messages), **settings)) as chunks:
            async for chunk in chunks:
                yield chunk if isinstance(chunk, AIMessageChunk) else _as_chunk(chunk)

    def _expected(self, request: ModelRequest, names: ToolNames) -> Expected:
        return Expected(request, names, self.price or FREE, ends=self._endpoint is not None)

    def _cause(self, error: Exception) -> Exception | None:
        """The cause to show in a traceback, unless the server's words repeat the key."""
        key = self._endpoint.key if self._endpoint else ""
        return None if key and key in str(error) else error


def _as_chunk(message: AIMessage) -> AIMessageChunk:
    """The answer of a langchain model that does not stream."""
    return AIMessageChunk(
        content=message.content,
        tool_calls=message.tool_calls,
        invalid_tool_calls=message.invalid_tool_calls,
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
    )
