"""The MCP SDK behind ``corral.tools.wire``; with the transports, the only modules that import it.

Calls go through the SDK's session and not its ``call_tool``: that one lists tools on its own and
raises on a result that breaks the tool's own schema, which here becomes a result that says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar, cast

import mcp_types as types
from mcp import Client, MCPError
from mcp.client import Transport
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from corral.tools import sdk_host
from corral.tools.images import Images
from corral.tools.inquiry import MAX_QUESTIONS, Answers, Round
from corral.tools.relay import Relay
from corral.tools.sdk_host import Callbacks
from corral.tools.text import one_line
from corral.tools.wire import (
    CLOSED,
    Answer,
    Declared,
    Hints,
    Host,
    Page,
    Refusal,
    Request,
    Session,
)
from corral.version import VERSION

logging.getLogger("mcp").addHandler(logging.NullHandler())  # else its warnings hit the terminal

_PARSE_ERROR: Final = -32700
_MAX_BLOCKS: Final = 1000
_MAX_ROUNDS: Final = 10
_MAX_STATE: Final = 256 * 1024
_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)
_INPUT: TypeAdapter[types.InputResponse] = TypeAdapter(types.InputResponse)


@asynccontextmanager
async def open_session(transport: Transport, mode: str, host: Host) -> AsyncIterator[Session]:
    """A session over ``transport``; ``mode`` is ``auto`` or ``legacy`` as the SDK names them."""
    callbacks = Callbacks(host)
    client = Client(
        transport,
        mode=mode,
        client_info=types.Implementation(name="corral", version=VERSION),
        cache=None,
        elicitation_callback=callbacks.elicit,
        sampling_callback=callbacks.sample if host.samples else None,
        list_roots_callback=callbacks.roots if host.roots else None,
        message_handler=callbacks.told,
    )
    async with client:
        listening = asyncio.create_task(sdk_host.listen(client, host))
        try:
            yield SdkSession(client, host)
        finally:
            listening.cancel()
            await asyncio.wait({listening}, timeout=1.0)


class SdkSession:
    """``Session`` over an SDK client."""

    def __init__(self, client: Client, host: Host) -> None:
        self._client = client
        self._host = host

    @property
    def legacy(self) -> bool:
        """Whether the handshake of before 2026-07-28 was used."""
        return self._client.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS

    @property
    def instructions(self) -> str:
        """What the server says of itself."""
        return self._client.instructions or ""

    async def list_page(self, cursor: str | None) -> Page | Refusal:
        """One page of the tools on offer."""
        params = types.PaginatedRequestParams(cursor=cursor)

        async def ask() -> Page:
            result = await self._client.session.list_tools(params=params)
            return Page([_declared(tool) for tool in result.tools], result.next_cursor)

        return await _answered(ask)

    async def call(self, request: Request) -> Answer | Round | Refusal:
        """Call a tool."""
        relay = Relay(request.progress) if request.progress else None
        try:
            return await self._rounds(request, relay)
        finally:
            if relay:
                await relay.finish()

    async def _rounds(self, request: Request, relay: Relay | None) -> Answer | Round | Refusal:
        """Call, and again for as long as the server asks what needs no user."""
        for _ in range(_MAX_ROUNDS):
            result = await _answered(partial(self._send, self._message(request), relay))
            if isinstance(result, Refusal):
                return sdk_host.to_open(result) or result
            if isinstance(result, types.CallToolResult):
                return _answer(result)
            asked = await self._asked(result)
            if not isinstance(asked, Round) or asked.inquiries:
                return asked
            request = replace(request, answers=Answers(asked, {}))
        return _stuck(f"it asked {_MAX_ROUNDS} times for more")

    async def _send(
        self, message: types.CallToolRequest, relay: Relay | None
    ) -> types.CallToolResult | types.InputRequiredResult:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            assert relay is not None
            relay.tell(progress, total, message)

        told = tell if relay else None
        return await self._client.session.send_request(message, _RESULT, progress_callback=told)

    def _message(self, request: Request) -> types.CallToolRequest:
        params = types.CallToolRequestParams(
            name=request.tool,
            arguments=request.args,
            _meta=cast("types.RequestParamsMeta", request.meta),
        )
        if request.answers and not self.legacy:
            params.input_responses = _responses(request.answers)
            params.request_state = request.answers.round.state
        return types.CallToolRequest(params=params)

    async def _asked(self, result: types.InputRequiredResult) -> Answer | Round:
        requests = result.input_requests or {}
        if len(requests) > MAX_QUESTIONS or len(result.request_state or "") > _MAX_STATE:
            return _stuck("it asks too much at once")
        asked = await sdk_host.questions(self._host, requests)
        if isinstance(asked, str):
            return _stuck(asked)
        return replace(asked, state=result.request_state)


T = TypeVar("T")


async def _answered(ask: Callable[[], Awaitable[T]]) -> T | Refusal:
    try:
        return await ask()
    except MCPError as error:
        return Refusal(error.code, one_line(error.message, 500), error.data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Refusal(_PARSE_ERROR, one_line(f"not valid MCP: {where}: {first['msg']}", 500))
    except RuntimeError as error:  # the SDK's word for a session that was left in the meantime
        return Refusal(CLOSED, one_line(str(error)))


def _declared(tool: types.Tool) -> Declared:
    hints = tool.annotations or types.ToolAnnotations()
    return Declared(
        name=tool.name,
        description=tool.description or tool.title or hints.title or "",
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        title=tool.title or hints.title or "",
        hints=Hints(
            read_only=hints.read_only_hint,
            destructive=hints.destructive_hint,
            idempotent=hints.idempotent_hint,
            open_world=hints.open_world_hint,
        ),
    )


def _responses(answers: Answers) -> types.InputResponses:
    """All answers of a round as they go out."""
    given = {key: sdk_host.elicited(reply) for key, reply in answers.replies.items()}
    answered = answers.round.answered
    return {**given, **{key: _INPUT.validate_python(one) for key, one in answered.items()}}


def _stuck(why: str) -> Answer:
    return Answer(f"The call did not go on: {why}.", is_error=True)


def _answer(result: types.CallToolResult) -> Answer:
    images = Images()
    return Answer(
        text=_words(result.content, images),
        structured=result.structured_content,
        has_structured="structured_content" in result.model_fields_set,
        is_error=result.is_error,
        images=images.taken,
    )


def _words(content: Sequence[types.ContentBlock], images: Images) -> str:
    parts = [_block(block, images) for block in content[:_MAX_BLOCKS]]
    if len(content) > _MAX_BLOCKS:
        parts.append(f"[{len(content) - _MAX_BLOCKS:,} more blocks left out]")
    return "\n".join(parts)


def _block(block: types.ContentBlock, images: Images) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent():
            return images.note(block.mime_type, block.data)
        case types.AudioContent():
            return _not_shown("audio", block.mime_type, block.data)
        case types.ResourceLink():
            return f"[resource {one_line(block.uri)}: {one_line(block.title or block.name)}]"
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return f"[resource {one_line(resource.uri)}]\n{resource.text}"
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            kind = resource.mime_type or "binary"
            return _not_shown(f"resource {one_line(resource.uri)}", kind, resource.blob)
        case _:  # the SDK's union may grow
            return "[content of an unknown kind, not shown]"


def _not_shown(what: str, mime_type: str, base64: str) -> str:
    return f"[{what}, {one_line(mime_type)}, {len(base64) * 3 // 4:,} bytes, not shown]"
