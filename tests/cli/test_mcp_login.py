"""``corral mcp login`` and ``logout`` at a server that wants one."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from tests.cli.place import Place
from tests.tools.oauth.provider import Provider, browse, open_provider

_BROWSER = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=60).read()"
_PATIENCE = 60
UNATTENDED = """
url = "https://far.example/mcp"
oauth = {unattended = true, client_id = "me", client_secret = "s", issuer = "https://far.example"}
"""


@contextmanager
def in_a_thread() -> Iterator[Provider]:
    """The provider, beside commands that have an event loop of their own."""
    opened: list[Provider] = []
    ready, loop, end = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with open_provider() as provider:
            opened.append(provider)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(_PATIENCE)
        yield opened[0]
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(_PATIENCE)
        loop.close()


@pytest.fixture
def provider(place: Place) -> Iterator[Provider]:
    """A server called ``docs`` in the project's configuration, and who logs in at it."""
    with in_a_thread() as opened:
        (place.workspace / "corral.toml").write_text(f'[mcp.docs]\nurl = "{opened.url}"\n')
        yield opened


def logging_in(place: Place, *options: str, **env: str) -> pexpect.spawn[str]:
    argv = place.command("mcp", "login", "docs", *options)
    return pexpect.spawn(
        argv[0], argv[1:], env={**place.env, **env}, encoding="utf-8", timeout=_PATIENCE
    )


def test_whoever_opens_the_address_is_logged_in_until_they_log_out(
    place: Place, provider: Provider
) -> None:
    child = logging_in(place, "--no-browser")
    child.expect_exact("Log in here; this waits until you come back:")
    child.expect(r"(http://127\.0\.0\.1:\d+/authorize\S+)\r\n")
    assert isinstance(child.match, re.Match)
    asyncio.run(browse(child.match[1]))
    child.expect_exact("logged in at docs")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    inspected = place.corral("mcp", "inspect", "docs")
    assert (inspected.code, "hello" in inspected.out) == (0, True), inspected.err

    assert place.corral("mcp", "logout", "docs").err == "logged out of docs\n"
    refused = place.corral("mcp", "inspect", "docs")
    assert refused.code == 1
    assert "corral mcp login docs" in refused.err
    assert place.corral("mcp", "logout", "docs").err == "nobody was logged in at docs\n"
    assert "tok-" not in inspected.out + refused.err


@pytest.mark.slow
def test_a_browser_that_stays_open_does_not_keep_the_login_from_ending(
    place: Place, provider: Provider
) -> None:
    child = logging_in(place, BROWSER=f"{shlex.join([sys.executable, '-c', _BROWSER])} %s")
    child.expect_exact("logged in at docs")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert provider.grants == ["authorization_code"]


def test_a_login_that_is_refused_is_said(place: Place, provider: Provider) -> None:
    provider.refuses = "access_denied"
    child = logging_in(place, BROWSER=f"{shlex.join([sys.executable, '-c', _BROWSER])} %s")
    child.expect_exact("error: The login at docs did not succeed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ('command = "x"', "docs is a command: there is nowhere to log in."),
        (UNATTENDED, "docs is logged in at without a person"),
    ],
)
def test_where_nobody_can_log_in_it_says_why(place: Place, entry: str, told: str) -> None:
    config = place.home.parent / "own.toml"
    config.write_text(f"[mcp.docs]\n{entry}\n")
    done = place.corral("--config", str(config), "mcp", "login", "docs")
    assert (done.code, told in done.err) == (2, True), done.err
