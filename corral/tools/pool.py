"""All tools of a run behind two calls: what there is, and do this."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import structlog

from corral.errors import ConfigError, CorralError, NotFoundError
from corral.jsontypes import JsonObject
from corral.tools.config import check_server_name
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.tools.schemas import validate_args
from corral.tools.text import cap, clean

__all__ = ["Catalog", "ToolPool", "validate_args"]

MAX_CHARS = 40_000
"""How much of a result a model reads, in characters, unless the pool is told otherwise."""

_CLOSE_SECONDS = 15.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Catalog:
    """The tools on offer, in the order of the providers; ``problems`` says in words what is not."""

    tools: tuple[ToolSpec, ...]
    problems: tuple[str, ...] = ()

    def find(self, name: str) -> ToolSpec | None:
        """The tool that the model knows as ``name``."""
        return next((tool for tool in self.tools if tool.name == name), None)


class ToolPool:
    """Providers of tools, listed and called concurrently and closed together.

    ``max_chars`` bounds the text of every result. An async context manager that closes itself.
    """

    def __init__(self, providers: Sequence[ToolProvider], *, max_chars: int = MAX_CHARS) -> None:
        self._providers: dict[str, ToolProvider] = {}
        self._max_chars = max_chars
        self._warming: set[asyncio.Task[list[ToolSpec]]] = set()
        for provider in providers:
            check_server_name(provider.name)
            if provider.name in self._providers:
                raise ConfigError(
                    f"two tool servers are named {provider.name!r}", hint="Rename one of them."
                )
            self._providers[provider.name] = provider

    @property
    def servers(self) -> tuple[str, ...]:
        """The providers' names."""
        return tuple(self._providers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def warm(self) -> None:
        """Start every server in the background; what fails is told by the next ``catalog``."""
        for provider in self._providers.values():
            task = asyncio.create_task(provider.list_tools())
            self._warming.add(task)
            task.add_done_callback(self._warmed)

    async def catalog(self) -> Catalog:
        """Every provider's tools, asked for anew and concurrently.

        A server that cannot be started or listed becomes a problem and leaves the others alone.
        """
        listings = await asyncio.gather(*map(_listed, self._providers.values()))
        return Catalog(
            tuple(tool for tools, _ in listings for tool in tools),
            tuple(problem for _, problems in listings for problem in problems),
        )

    async def call(self, spec: ToolSpec, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call a tool and bound what it gave.

        Arguments that do not fit the tool's schema give an error result and no call. Structured
        content that is longer than the limit is left out. Raises ``NotFoundError`` for a server
        that is not in the pool and ``ToolServerError`` when the outcome is unknown.
        """
        provider = self._providers.get(spec.server)
        if provider is None:
            raise NotFoundError(
                f"There is no tool server named {spec.server!r}.",
                hint=f"Configured are: {', '.join(self._providers) or 'none'}.",
            )
        if wrong := validate_args(spec, args):
            return self._bounded(ToolResult(wrong, is_error=True))
        return self._bounded(await provider.call(spec.tool, args, options))

    async def aclose(self) -> None:
        """Close every provider, all at once and in bounded time. Safe to call twice."""
        for warming in self._warming:
            warming.cancel()
        closing = [asyncio.create_task(p.aclose(), name=n) for n, p in self._providers.items()]
        if not closing:
            return
        done, late = await asyncio.wait(closing, timeout=_CLOSE_SECONDS)
        for task in late:
            task.cancel()
            _log.warning("tool server did not close in time", server=task.get_name())
        for task in done:
            if error := task.exception():
                _log.warning("closing failed", server=task.get_name(), error=repr(error))

    def _bounded(self, result: ToolResult) -> ToolResult:
        text, dropped = cap(clean(result.text), self._max_chars, result.dropped)
        structured = result.structured
        if structured is not None and len(json.dumps(structured)) > self._max_chars:
            structured = None
        return replace(result, text=text, structured=structured, dropped=dropped)

    def _warmed(self, task: asyncio.Task[list[ToolSpec]]) -> None:
        self._warming.discard(task)
        if not task.cancelled():
            task.exception()


async def _listed(provider: ToolProvider) -> tuple[list[ToolSpec], tuple[str, ...]]:
    try:
        tools = await provider.list_tools()
    except CorralError as error:
        return [], (f"{provider.name}: {error}",)
    return tools, tuple(getattr(provider, "problems", ()))
