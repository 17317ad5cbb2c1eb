"""Logging in at a server over HTTP: what is kept, what is refreshed, and what is never shown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.errors import ToolServerError
from corral.tools.address import Address
from corral.tools.http import HttpServer
from corral.tools.oauth.login import log_in
from corral.tools.oauth.logins import Login, LoginFile
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.pool import ToolPool
from tests.tools.oauth.provider import Provider, browse, open_provider
from tests.tools.support import OPTIONS, QUICK

ENTRY = OAuthEntry()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with open_provider() as opened:
        yield opened


def file_of(provider: Provider, place: Path) -> LoginFile:
    return LoginFile(place / "logins", "web", provider.url)


def pool(provider: Provider, place: Path) -> ToolPool:
    address = Address(provider.url, login=Login(ENTRY, place / "logins"))
    return ToolPool([HttpServer("web", address, timing=QUICK)])


async def says_hello(provider: Provider, place: Path) -> str:
    async with pool(provider, place) as tools:
        found = await tools.catalog()
        if not found.tools:
            return found.problems[0]
        return (await tools.call(found.tools[0], {}, OPTIONS)).text


async def test_a_login_is_kept_for_its_owner_alone(provider: Provider, tmp_path: Path) -> None:
    file = file_of(provider, tmp_path)
    await log_in(file, ENTRY, browse)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.folder.stat().st_mode & 0o777 == 0o700
    assert await says_hello(provider, tmp_path) == "hello"
    assert provider.grants == ["authorization_code"]
    assert "tok-" not in repr(file)


async def test_nobody_is_there_to_log_in(provider: Provider, tmp_path: Path) -> None:
    said = await says_hello(provider, tmp_path)
    assert "HTTP 401" in said
    assert "corral mcp login web" in said
    assert provider.grants == []


async def test_tokens_that_ended_are_refreshed_where_they_were_issued(
    provider: Provider, tmp_path: Path
) -> None:
    """After a restart only the file knows when the token ends, and by whom it was issued."""
    file = file_of(provider, tmp_path)
    await log_in(file, ENTRY, browse)
    kept = json.loads(file.path.read_text())
    file.update(expires_at=time.time() - 1)
    provider.seen.clear()
    assert await says_hello(provider, tmp_path) == "hello"
    assert provider.grants == ["authorization_code", "refresh_token"]
    assert provider.seen[0] == "POST /token", "no request went out with the old one"
    now = json.loads(file.path.read_text())
    assert now["tokens"] != kept["tokens"]
    assert now["expires_at"] > time.time()


async def test_a_login_that_was_revoked_says_what_to_do(provider: Provider, tmp_path: Path) -> None:
    await log_in(file_of(provider, tmp_path), ENTRY, browse)
    provider.valid.clear()
    said = await says_hello(provider, tmp_path)
    assert "corral mcp login web" in said
    assert "tok-" not in said


async def test_calls_do_not_wait_for_each_other(provider: Provider, tmp_path: Path) -> None:
    await log_in(file_of(provider, tmp_path), ENTRY, browse)
    async with pool(provider, tmp_path) as tools:
        (spec,) = (await tools.catalog()).tools
        results = await asyncio.gather(*(tools.call(spec, {}, OPTIONS) for _ in range(10)))
    assert {result.text for result in results} == {"hello"}


async def test_tokens_go_to_no_other_address(provider: Provider, tmp_path: Path) -> None:
    await log_in(file_of(provider, tmp_path), ENTRY, browse)
    async with open_provider() as other:
        said = await says_hello(other, tmp_path)
    assert "corral mcp login web" in said


@pytest.mark.parametrize(
    "trick",
    [
        {"says_issuer": "https://evil.example"},
        {"called": "https://evil.example"},
        {"refuses": "access_denied"},
    ],
    ids=["mix-up", "metadata-of-another", "refused"],
)
async def test_a_login_that_is_not_what_it_should_be(
    provider: Provider, tmp_path: Path, trick: dict[str, str]
) -> None:
    vars(provider).update(trick)
    file = file_of(provider, tmp_path)
    with pytest.raises(ToolServerError, match="did not succeed") as caught:
        await log_in(file, ENTRY, browse)
    assert "tok-" not in str(caught.value)
    assert "tokens" not in file.read()
    assert provider.grants == []


async def test_a_foreign_return_is_no_login(provider: Provider, tmp_path: Path) -> None:
    """A page that the user has open guesses the port, but not the state."""

    async def attacked(url: str) -> None:
        target = url.partition("redirect_uri=")[2].partition("&")[0]
        port = int(target.partition("127.0.0.1%3A")[2].partition("%2F")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /callback?code=stolen&state=guessed HTTP/1.1\r\n\r\n")
        assert b"200 OK" in await reader.read()
        writer.close()

    with pytest.raises(ToolServerError, match="State parameter mismatch"):
        await log_in(file_of(provider, tmp_path), ENTRY, attacked)
    assert provider.grants == []


async def test_a_server_that_wants_no_login(provider: Provider, tmp_path: Path) -> None:
    provider.valid.add("")
    with pytest.raises(ToolServerError, match="did not ask for a login"):
        await log_in(file_of(provider, tmp_path), ENTRY, browse)


def test_a_damaged_file_is_no_login(tmp_path: Path) -> None:
    file = LoginFile(tmp_path, "web", "http://127.0.0.1/mcp")
    for content in ("", "{", "[]", '{"url": "http://other/mcp", "tokens": {}}'):
        file.path.write_text(content)
        assert file.read() == {}
    assert file.remove()
    assert not file.remove()
