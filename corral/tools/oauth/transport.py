"""HTTP requests with a token, beneath the MCP transport.

The SDK's client holds one lock from a request to the head of its answer, so that calls would wait
for each other. Here only a request that needs a login, or a new token, goes through it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
from mcp.client.auth import OAuthFlowError

from corral.sandbox.network.addresses import (
    RefusedAddressError,
    checked_addresses,
    system_resolve,
)
from corral.tools.oauth.provider import Stored
from corral.tools.text import one_line

_MAX_BODY = 1024 * 1024
_SECONDS = 30.0
_Flow = AsyncGenerator[httpx2.Request, httpx2.Response]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Authorized(httpx2.AsyncBaseTransport):
    """Sends requests with the token of a login.

    Raises ``OAuthFlowError`` when there is none and none can be had.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, login: Stored) -> None:
        self._inner = inner
        self._login = login
        self._origin = httpx2.URL(login.file.url)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``AsyncBaseTransport``."""
        response = await self._with_its_token(request)
        if response is None and self._login.take_over():  # another process has renewed it
            response = await self._with_its_token(request)
        return await self._through_a_login(request) if response is None else response

    async def _with_its_token(self, request: httpx2.Request) -> httpx2.Response | None:
        """``None`` where there is no token that counts any more."""
        context = self._login.provider.context
        if context.current_tokens is None or not context.is_token_valid():
            return None
        request.headers["Authorization"] = f"Bearer {context.current_tokens.access_token}"
        response = await self._inner.handle_async_request(request)
        if response.status_code not in (401, 403):
            return response
        await response.aclose()
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _through_a_login(self, request: httpx2.Request) -> httpx2.Response:
        flow = self._login.provider.async_auth_flow(request)
        try:
            outgoing = await self._refreshed(flow, request)
            while True:
                response = await self._send(outgoing, is_own=outgoing is request)
                try:
                    outgoing = await flow.asend(response)
                except StopAsyncIteration:
                    return response
                await response.aclose()
        finally:
            await flow.aclose()

    async def _refreshed(self, flow: _Flow, request: httpx2.Request) -> httpx2.Request:
        """What goes out after the token was refreshed, if it can be: by one process at a time."""
        async with self._login.file.locked():
            self._login.take_over()
            outgoing = await anext(flow)
            while outgoing is not request:
                outgoing = await flow.asend(await self._send(outgoing, is_own=False))
            return outgoing

    async def _send(self, request: httpx2.Request, *, is_own: bool) -> httpx2.Response:
        if is_own:
            return await self._inner.handle_async_request(request)
        await self._check(request.url)
        request.headers["accept-encoding"] = "identity"
        request.extensions["timeout"] = dict.fromkeys(
            ("connect", "read", "write", "pool"), _SECONDS
        )
        response = await self._inner.handle_async_request(request)
        body = bytearray()
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise OAuthFlowError("its login answers with too much")
        finally:
            await response.aclose()
        return httpx2.Response(
            response.status_code, headers=response.headers, content=bytes(body), request=request
        )

    async def _check(self, url: httpx2.URL) -> None:
        """What a server names as its login is its own word: it gets no secret in the clear, and
        one on the internet reaches nothing of this machine or its network by it.
        """
        if (url.host, url.port) == (self._origin.host, self._origin.port):
            return
        if not is_private(url):
            raise OAuthFlowError(f"its login is at {url.host} without encryption")
        if not await _is_public(url) and await _is_public(self._origin):
            raise OAuthFlowError(f"its login is at {url.host}, where only this network leads")


async def _is_public(url: httpx2.URL) -> bool:
    try:
        await checked_addresses(url.host, url.port or 443, system_resolve, private=False)
    except RefusedAddressError:
        return False
    except OSError:  # nobody is there at all
        return True
    return True


def is_private(url: httpx2.URL) -> bool:
    """Whether nobody on the way can read what is sent there."""
    return url.scheme == "https" or (url.scheme == "http" and url.host in _LOOPBACK)


def failure_in_words(error: Exception) -> str:
    """Why a login failed, without what the other side has answered: that may hold a token."""
    said = str(error).partition(": ")[0]
    return one_line(said or type(error).__name__, 200).rstrip(".")
