"""One tool server of ours as a service: its tools called as they are, with no agent and no run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import mcp_types as types

from corral.errors import NotFoundError
from corral.mcp_servers.agents.recent import Recent
from corral.mcp_servers.serving.contract import (
    Caller,
    Exchange,
    Identity,
    TaskState,
    structured,
)
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.version import VERSION

_FRESH = 60.0
"""Seconds for which a server of ours is not asked for its tools again: they are always the same."""


class _ToolsOnly:
    """What a ``Service`` answers that has no tasks, resources and prompts."""

    async def task(self, *_: Any, **__: Any) -> TaskState:
        """There are none."""
        raise NotFoundError("There are no tasks.", hint="Calls are answered at once here.")

    async def answer_task(self, *_: Any, **__: Any) -> None:
        """There are none."""
        await self.task()

    async def cancel_task(self, *_: Any, **__: Any) -> None:
        """There are none."""
        await self.task()

    async def resources(self, *_: Any, **__: Any) -> Sequence[types.Resource]:
        """There are none."""
        return ()

    async def templates(self, *_: Any, **__: Any) -> Sequence[types.ResourceTemplate]:
        """There are none."""
        return ()

    async def read(self, *_: Any, **__: Any) -> Sequence[types.TextResourceContents]:
        """There is nothing to read."""
        raise NotFoundError("There are no resources.", hint="Call a tool.")

    async def prompts(self, *_: Any, **__: Any) -> Sequence[types.Prompt]:
        """There are none."""
        return ()

    async def prompt(self, *_: Any, **__: Any) -> types.GetPromptResult:
        """There are none."""
        raise NotFoundError("There are no prompts.", hint="Call a tool.")

    async def complete(self, *_: Any, **__: Any) -> Sequence[str]:
        """There is nothing to complete."""
        return ()


class ProvidedTools(_ToolsOnly):
    """``Service`` over a ``ToolProvider``. ``timeout`` is that of a call, in seconds."""

    def __init__(self, provider: ToolProvider, timeout: float) -> None:
        self._provider = provider
        self._timeout = timeout
        self._tools = Recent(self._defined, _FRESH)

    @property
    def identity(self) -> Identity:
        """Who is serving."""
        name = self._provider.name
        return Identity(f"corral-{name}", f"Corral {name}", VERSION)

    async def tools(self, caller: Caller) -> Sequence[types.Tool]:  # noqa: ARG002  # as the protocol names it
        """The server's tools, by its own names for them."""
        return await self._tools.get()

    async def _defined(self) -> list[types.Tool]:
        return [_tool(spec) for spec in await self._provider.list_tools()]

    async def call(
        self,
        caller: Caller,  # noqa: ARG002  # as the protocol names it
        tool: str,
        args: dict[str, Any],
        exchange: Exchange,
    ) -> types.CallToolResult:
        """Call a tool."""
        progress = exchange.progress if exchange.followed else None
        options = CallOptions(secrets.token_hex(16), self._timeout, progress)
        return _result(await self._provider.call(tool, args, options))


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.tool,
        description=spec.description,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.idempotent,
            open_world_hint=spec.open_world,
        ),
    )


def _result(result: ToolResult) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=result.text)]
    content += [
        types.ImageContent(type="image", data=image.base64, mime_type=image.mime_type)
        for image in result.images
    ]
    return types.CallToolResult(
        content=content,
        structured_content=None if result.structured is None else structured(result.structured),
        is_error=result.is_error,
    )
