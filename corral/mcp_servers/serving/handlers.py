"""The protocol's requests, answered by a service."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import mcp_types as types
from mcp import MCPError

from corral.errors import CorralError, NotFoundError
from corral.mcp_servers.serving.arguments import unfit
from corral.mcp_servers.serving.callers import TASKS, Context, Door, caller_of, is_modern
from corral.mcp_servers.serving.contract import AskFirst, AsTask, Caller, Service
from corral.mcp_servers.serving.exchange import Call
from corral.mcp_servers.serving.faults import crashed, failed, said
from corral.mcp_servers.serving.rounds import closed, opened
from corral.mcp_servers.serving.tasks import created, missing
from corral.mcp_servers.serving.work import Work
from corral.tools.text import one_line

_MOST_COMPLETIONS = 100  # the protocol's own limit
_LONGEST_URI = 2_048
RESOURCE_NOT_FOUND = -32002
"""Before 2026-07-28, which has it under invalid params (SEP-2164)."""

_Page = types.PaginatedRequestParams | None


class Handlers:
    """What the SDK's server calls, for the clients of one door."""

    def __init__(self, service: Service, door: Door, work: Work) -> None:
        self._service = service
        self._door: Door = door
        self._work = work

    async def list_tools(self, ctx: Context, page: _Page) -> types.ListToolsResult:
        """``tools/list``."""
        return types.ListToolsResult(tools=list(await self._service.tools(self._caller(ctx, page))))

    async def call_tool(
        self, ctx: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        """``tools/call``: a result, the questions of a round, or a task."""
        caller = self._caller(ctx)
        tool = await self._tool(caller, params.name)
        args = params.arguments or {}
        if (wrong := unfit(tool, args)) is not None:
            return failed(wrong)
        call = Call(ctx, opened(params))
        try:
            working = self._service.call(caller, tool.name, args, call)
            outcome = await self._work.run(ctx, call, working)
        except AskFirst as ask:
            if caller.asks != "rounds":
                raise missing(elicitation=types.ElicitationCapability()) from None
            return closed(ask)
        except CorralError as error:
            return failed(said(error))
        except MCPError:
            raise
        except Exception as error:  # noqa: BLE001  # the border to a service
            return failed(crashed(tool.name, error))
        return await self._as_task(caller, outcome) if isinstance(outcome, AsTask) else outcome

    async def _tool(self, caller: Caller, name: str) -> types.Tool:
        tools = {tool.name: tool for tool in await self._service.tools(caller)}
        if name not in tools:
            known = one_line(", ".join(sorted(tools)), 1_000)
            raise MCPError(
                types.INVALID_PARAMS,
                f"There is no tool {one_line(name, 80)!r}. There are: {known}.",
            )
        return tools[name]

    async def _as_task(self, caller: Caller, begun: AsTask) -> Any:
        if not caller.takes_tasks:
            raise missing(extensions={TASKS: {}})
        return created(await self._service.task(caller, begun.task))

    async def list_resources(self, ctx: Context, page: _Page) -> types.ListResourcesResult:
        """``resources/list``."""
        found = await self._service.resources(self._caller(ctx, page))
        return types.ListResourcesResult(resources=list(found))

    async def list_templates(self, ctx: Context, page: _Page) -> types.ListResourceTemplatesResult:
        """``resources/templates/list``."""
        found = await self._service.templates(self._caller(ctx, page))
        return types.ListResourceTemplatesResult(resource_templates=list(found))

    async def read_resource(
        self, ctx: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """``resources/read``. An address that climbs out of its place is one that is not there."""
        try:
            if not _is_plain(params.uri):
                raise NotFoundError("There is no resource under that address.")
            contents = await self._service.read(self._caller(ctx), params.uri)
        except NotFoundError as error:
            code = types.INVALID_PARAMS if is_modern(ctx) else RESOURCE_NOT_FOUND
            uri = one_line(params.uri, 400)
            raise MCPError(code, said(error), {"uri": uri}) from None
        return types.ReadResourceResult(contents=list(contents))

    async def list_prompts(self, ctx: Context, page: _Page) -> types.ListPromptsResult:
        """``prompts/list``."""
        found = await self._service.prompts(self._caller(ctx, page))
        return types.ListPromptsResult(prompts=list(found))

    async def get_prompt(
        self, ctx: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult:
        """``prompts/get``."""
        return await self._service.prompt(self._caller(ctx), params.name, params.arguments or {})

    async def complete(
        self, ctx: Context, params: types.CompleteRequestParams
    ) -> types.CompleteResult:
        """``completion/complete``."""
        argument = params.argument
        found = await self._service.complete(
            self._caller(ctx), params.ref, argument.name, argument.value
        )
        shown = list(found)[:_MOST_COMPLETIONS]
        more = len(found) > len(shown)
        return types.CompleteResult(
            completion=types.Completion(values=shown, total=len(found), has_more=more)
        )

    def _caller(self, ctx: Context, page: _Page = None) -> Caller:
        if page is not None and page.cursor is not None:
            raise MCPError(
                types.INVALID_PARAMS, "There is no such page: the first one holds everything."
            )
        return caller_of(ctx, self._door)


def _is_plain(uri: str) -> bool:
    """Whether an address says where it leads, however often it is decoded."""
    if len(uri) > _LONGEST_URI:
        return False
    text = unquote(unquote(uri))
    return ".." not in text.replace("\\", "/").split("/") and text.isprintable()
