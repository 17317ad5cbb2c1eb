"""MCP over streamable HTTP with the SDK's transport made to survive; loaded on the first use.

The SDK ends its whole client when one request meets a network error, and reads JSON answers of any
length. So network errors become JSON-RPC errors here, below it, and answers are bounded. Source:
the streamable HTTP transport of the MCP specification.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from mcp.client.auth import OAuthFlowError
from mcp.client.streamable_http import streamable_http_client

from corral.tools.address import Address
from corral.tools.oauth.provider import open_login
from corral.tools.oauth.transport import Authorized, failure_in_words
from corral.tools.process import MAX_LINE
from corral.tools.sdk import open_session
from corral.tools.text import one_line
from corral.tools.wire import CLOSED, INVALID_REQUEST, LOST, NOT_SENT, Host, Session

_CONNECT_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0


@asynccontextmanager
async def open_http(name: str, address: Address, host: Host) -> AsyncIterator[Session]:
    """A session with the server ``name`` at ``address``."""
    client = httpx2.AsyncClient(
        # an answer may take as long as the call may: the caller's timeout is the limit
        timeout=httpx2.Timeout(_CONNECT_SECONDS, read=None),
        headers={**address.headers, "accept-encoding": "identity"},
        transport=SafeTransport(_inner(name, address), name),
    )
    async with (
        client,
        open_session(
            streamable_http_client(address.url, http_client=client, max_sse_event_size=MAX_LINE),
            "auto",
            host,
        ) as session,
    ):
        yield session


def _inner(name: str, address: Address) -> httpx2.AsyncBaseTransport:
    """The network, with a token on every request if there is a login."""
    network = httpx2.AsyncHTTPTransport()
    login = address.login
    file = login.file(name, address.url)
    return Authorized(network, open_login(file, login.entry, login.person)) if file else network


class SafeTransport(httpx2.AsyncBaseTransport):
    """Answers every request: what cannot be had from the network is a JSON-RPC error.

    ``Refusal.data`` then tells a request that never left (``NOT_SENT``) from one whose answer was
    lost (``LOST``).
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, name: str) -> None:
        self._inner = inner
        self._name = name

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; the body of a JSON answer has been read when this returns."""
        if request.method == "DELETE":  # the end of a session, for which nobody waits long
            times = {**request.extensions.get("timeout", {}), "read": _GOODBYE_SECONDS}
            request.extensions = {**request.extensions, "timeout": times}
        try:
            response = await self._inner.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _refusal(request, f"cannot be reached: {one_line(str(error))}", NOT_SENT)
        except httpx2.TransportError as error:
            return _refusal(request, f"broke off: {type(error).__name__}", LOST)
        except OAuthFlowError as error:
            why = f"refused the login ({failure_in_words(error)}): {self._login_first}"
            return _refusal(request, why, NOT_SENT)
        if response.status_code in (401, 403):
            await response.aclose()
            why = f"refused the request (HTTP {response.status_code})"
            way = self._login_first if _wants_a_login(response) else "check its headers"
            return _refusal(request, f"{why}: {way}", NOT_SENT)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return _refusal(request, "answered compressed, which was not asked for", LOST)
        if response.headers.get("content-type", "").lower().startswith("application/json"):
            return await _read(request, response)
        if response.status_code >= 500:
            await response.aclose()
            return _refusal(request, f"failed (HTTP {response.status_code})", LOST)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    @property
    def _login_first(self) -> str:
        return f"run `corral mcp login {self._name}`"


def _wants_a_login(response: httpx2.Response) -> bool:
    challenge = response.headers.get("www-authenticate", "").lower()
    return response.status_code == 401 and challenge.startswith("bearer")


async def _read(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    body = bytearray()
    try:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_LINE:
                why = f"answered with more than {MAX_LINE // 2**20} MiB"
                return _refusal(request, why, LOST)
    except httpx2.TransportError as error:
        return _refusal(request, f"broke off: {type(error).__name__}", LOST)
    finally:
        await response.aclose()
    return httpx2.Response(
        response.status_code, headers=response.headers, content=bytes(body), request=request
    )


def _refusal(request: httpx2.Request, why: str, data: Mapping[str, str]) -> httpx2.Response:
    code = CLOSED if data is LOST else INVALID_REQUEST
    error = {"code": code, "message": why, "data": data}
    body = {"jsonrpc": "2.0", "id": None, "error": error}
    return httpx2.Response(503, json=body, request=request)
