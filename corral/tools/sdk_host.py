"""What servers ask and tell of their own accord, between the SDK's types and ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext, IncomingMessage
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import FileUrl

from corral.jsontypes import JsonObject
from corral.tools.inquiry import MAX_MESSAGE, MAX_QUESTIONS, Inquiry, Reply, Round, Sample, Sampled
from corral.tools.schemas import UnusableSchemaError, checked_schema
from corral.tools.text import clean, one_line
from corral.tools.wire import Host, Refusal

URL_NEEDED: Final = -32042
"""JSON-RPC code of the handshake versions: the user must open an address, then the call again."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_MAX_URL: Final = 4000


class Callbacks:
    """The SDK's callbacks over a ``Host``; a capability is declared by its callback being there."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        """The server asks the user."""
        del context
        found = inquiry(params)
        if found is None:
            return types.ElicitResult(action="decline")
        return elicited(await self._host.asked(found))

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        """The server asks a model."""
        del context
        given = await sampled(self._host, params)
        if isinstance(given, Refusal):
            return types.ErrorData(code=given.code, message=given.message)
        return given

    async def roots(self, context: ClientRequestContext) -> types.ListRootsResult:
        """The server asks which folders it is about."""
        del context
        return roots(self._host)

    async def told(self, message: IncomingMessage) -> None:
        """The server says something of its own accord."""
        if isinstance(message, types.ToolListChangedNotification):
            self._host.changed()


async def listen(client: Client, host: Host) -> None:
    """Hear of changed tools from a server that can be listened to, for as long as it is connected.

    A stream that ends is opened again with growing pauses; meanwhile something may have changed.
    """
    tools = client.server_capabilities.tools
    if client.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS or not (tools and tools.list_changed):
        return
    pause = _FIRST_PAUSE
    while True:
        with contextlib.suppress(SubscriptionLost, MCPError, TimeoutError):
            async with client.listen(tools_list_changed=True) as subscription:
                if not subscription.honored.tools_list_changed:
                    return
                async for _ in subscription:
                    pause = _FIRST_PAUSE
                    host.changed()
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        host.changed()


def inquiry(params: types.ElicitRequestParams) -> Inquiry | None:
    """A question to the user as it can be put to one; ``None`` when it cannot."""
    message = clean(params.message[: 2 * MAX_MESSAGE])[:MAX_MESSAGE]
    if isinstance(params, types.ElicitRequestURLParams):
        return Inquiry("url", message, url=params.url) if _is_plain(params.url) else None
    try:
        schema = checked_schema(_plain(params.requested_schema), of_object=True)
    except UnusableSchemaError:
        return None
    return Inquiry("form", message, schema, fields=tuple(schema.get("properties", ())))


def _is_plain(url: str) -> bool:
    """Whether a person who reads an address sees where it leads.

    A browser takes what is before an ``@`` for a user's name, and a backslash for a slash.
    """
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:  # such as an address of IPv6 that does not end
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc


def _plain(schema: Any) -> JsonObject:
    found: JsonObject = (
        schema
        if isinstance(schema, dict)
        else schema.model_dump(by_alias=True, mode="json", exclude_none=True)
    )
    return found


def elicited(reply: Reply) -> types.ElicitResult:
    """The user's answer as it goes out."""
    return types.ElicitResult(action=reply.action, content=reply.content)


def roots(host: Host) -> types.ListRootsResult:
    """The folders that a server is told of."""
    return types.ListRootsResult(roots=[types.Root(uri=FileUrl(uri)) for uri in host.roots])


async def sampled(
    host: Host, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult | Refusal:
    """What a model answers for a server; images and tools in what it asks are left out."""
    if not host.samples:
        return Refusal(types.INVALID_REQUEST, "asking a model (sampling) is not allowed here")
    wanted = Sample(
        tuple((one.role, _text(one.content)) for one in params.messages),
        params.max_tokens,
        params.system_prompt or "",
        params.temperature,
    )
    given = await host.sampled(wanted)
    return given if isinstance(given, Refusal) else _created(given)


def _created(given: Sampled) -> types.CreateMessageResult:
    return types.CreateMessageResult(
        role="assistant",
        model=given.model,
        stop_reason=given.stop_reason,
        content=types.TextContent(type="text", text=given.text),
    )


def _text(content: Any) -> str:
    blocks = content if isinstance(content, list) else [content]
    return "\n".join(block.text for block in blocks if isinstance(block, types.TextContent))


async def questions(host: Host, requests: Mapping[str, types.InputRequest]) -> Round | str:
    """A round of questions with those answered that need no user; or why it cannot go on."""
    inquiries: dict[str, Inquiry] = {}
    answered: JsonObject = {}
    for key, request in requests.items():
        match request:
            case types.ElicitRequest(params=params):
                found = inquiry(params)
                if found is None:
                    answered[key] = _wire(types.ElicitResult(action="decline"))
                else:
                    inquiries[key] = found
            case types.CreateMessageRequest(params=params):
                given = await sampled(host, params)
                if isinstance(given, Refusal):
                    return f"it needs an answer of a model: {given.message}"
                answered[key] = _wire(given)
            case types.ListRootsRequest():
                answered[key] = _wire(roots(host))
            case _:  # the SDK's union may grow
                return f"it needs what cannot be given here ({one_line(str(key), 60)})"
    return Round(inquiries, answered=answered)


def to_open(refusal: Refusal) -> Round | None:
    """The addresses that the user must open before a call can be made, if that is what is wrong."""
    if refusal.code != URL_NEEDED or not isinstance(refusal.data, dict):
        return None
    listed = refusal.data.get("elicitations")
    found = _addresses(listed[:MAX_QUESTIONS] if isinstance(listed, list) else [])
    return Round(found) if found else None


def _addresses(listed: Iterable[Any]) -> dict[str, Inquiry]:
    found: dict[str, Inquiry] = {}
    for number, one in enumerate(listed):
        with contextlib.suppress(ValueError):
            asked = inquiry(types.ElicitRequestURLParams.model_validate(one))
            if asked is not None:
                found[str(number)] = asked
    return found


def _wire(result: types.Result) -> JsonObject:
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)
