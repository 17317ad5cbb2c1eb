"""Logging in: the browser is sent to the server's login, and the tokens that it brings are kept.

Loaded by the command that does it: it needs the MCP SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import httpx2
from mcp.client.auth import OAuthFlowError

from corral.errors import ToolServerError
from corral.tools.oauth.logins import LoginFile, Person
from corral.tools.oauth.loopback import Returns, open_loopback
from corral.tools.oauth.provider import open_login
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.oauth.transport import Authorized, failure_in_words, is_private

PATIENCE = 300.0
"""Seconds that a person has to log in."""

_PROBE = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
_HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-06-18",  # from this version on a token names its resource
}
_SECONDS = 30.0


async def log_in(
    file: LoginFile, entry: OAuthEntry, show: Callable[[str], Awaitable[None]]
) -> None:
    """Log in anew at the server of ``file``; ``show`` is given the address to open.

    What was kept before is forgotten first. Raises ``ToolServerError``.
    """
    await file.remove()
    async with open_loopback() as returns:
        person = Person(returns.uri, partial(_shown, returns, show), partial(_brought, returns))
        login = open_login(file, entry, person)
        transport = Authorized(httpx2.AsyncHTTPTransport(), login)
        try:
            async with httpx2.AsyncClient(transport=transport, timeout=_SECONDS) as client:
                await client.post(file.url, json=_PROBE, headers=_HEADERS)
        except (OAuthFlowError, httpx2.HTTPError) as error:
            raise ToolServerError(
                f"The login at {file.name} did not succeed: {failure_in_words(error)}.",
                hint="Try it again.",
            ) from None
    if "tokens" not in file.read():
        raise ToolServerError(
            f"{file.name} did not ask for a login.", hint="It can be used as it is."
        )


async def _shown(returns: Returns, show: Callable[[str], Awaitable[None]], url: str) -> None:
    page = httpx2.URL(url)
    if not is_private(page):
        raise OAuthFlowError("its login page is not encrypted")
    returns.expect(page.params.get_list("state")[-1])  # what stands before is the server's own
    await show(url)


async def _brought(returns: Returns) -> dict[str, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            return await returns.fields()
    except TimeoutError:
        raise OAuthFlowError(f"nobody came back from it within {PATIENCE:g} s") from None
