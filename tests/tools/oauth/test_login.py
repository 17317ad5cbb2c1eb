"""Logging in at a server over HTTP: what is kept, what is refreshed, and what is never shown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
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


async def test_a_refresh_token_is_used_once_however_many_need_a_new_one(
    provider: Provider, tmp_path: Path
) -> None:
    """Each pool is what a process of its own would have: they share nothing but the file."""
    file = file_of(provider, tmp_path)
    await log_in(file, ENTRY, browse)
    file.update(expires_at=time.time() - 1)
    said = await asyncio.gather(*(says_hello(provider, tmp_path) for _ in range(4)))
    assert said == ["hello"] * 4
    assert provider.grants == ["authorization_code", "refresh_token"]


async def test_a_token_that_another_process_has_renewed_is_taken_over(
    provider: Provider, tmp_path: Path
) -> None:
    file = file_of(provider, tmp_path)
    await log_in(file, ENTRY, browse)
    async with pool(provider, tmp_path) as tools:
        (spec,) = (await tools.catalog()).tools
        file.update(expires_at=time.time() - 1)
        assert await says_hello(provider, tmp_path) == "hello"
        assert (await tools.call(spec, {}, OPTIONS)).text == "hello"
        await file.remove()
        provider.valid.clear()
        assert "corral mcp login web" in (await tools.call(spec, {}, OPTIONS)).text
    assert provider.grants == ["authorization_code", "refresh_token"]


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


@pytest.mark.parametrize(
    "query", ["code=stolen&state=guessed", "code=stolen", "error=access_denied", "code=a&state="]
)
async def test_a_foreign_return_is_no_login_and_ends_none(
    provider: Provider, tmp_path: Path, query: str
) -> None:
    """A page that the user has open guesses the port, but not the state."""

    async def attacked(url: str) -> None:
        back = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        async with httpx2.AsyncClient() as client:
            refused = await client.get(f"{back}?{query}")
        assert refused.status_code == 400
        assert "not the login" in refused.text
        await browse(url)

    await log_in(file_of(provider, tmp_path), ENTRY, attacked)
    assert provider.grants == ["authorization_code"]
    assert await says_hello(provider, tmp_path) == "hello"


async def test_a_server_that_wants_no_login(provider: Provider, tmp_path: Path) -> None:
    provider.valid.add("")
    with pytest.raises(ToolServerError, match="did not ask for a login"):
        await log_in(file_of(provider, tmp_path), ENTRY, browse)


async def test_who_logs_out_waits_for_a_refresh_that_would_log_in_again(
    provider: Provider, tmp_path: Path
) -> None:
    file = file_of(provider, tmp_path)
    await log_in(file, ENTRY, browse)
    async with file.locked():
        leaving = asyncio.create_task(file.remove())
        await asyncio.sleep(0)
        file.update(tokens=file.read()["tokens"])
        assert not leaving.done()
    assert await leaving
    assert file.read() == {}


async def test_a_damaged_file_is_no_login(tmp_path: Path) -> None:
    file = LoginFile(tmp_path, "web", "http://127.0.0.1/mcp")
    for content in ("", "{", "[]", '{"url": "http://other/mcp", "tokens": {}}'):
        file.path.write_text(content)
        assert file.read() == {}
    assert await file.remove()
    assert not await file.remove()
