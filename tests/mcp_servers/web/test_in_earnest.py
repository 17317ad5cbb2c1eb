"""The web server as it runs in earnest: in the sandbox, behind the proxy, for any MCP client."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from corral.errors import ConfigError
from corral.sandbox.network.gateway import open_proxy
from corral.sandbox.registry import select_backend
from corral.tools.builtin import builtin_server
from corral.tools.networked import Networked, confined
from corral.tools.settings import BuiltinSettings, SearchSettings, WebSettings
from corral.tools.web import web_addition
from tests.mcp_servers.test_sandboxed import MODES, connected
from tests.mcp_servers.web.site import Reply, Sites, redirect, serving
from tests.sandbox.network.upstream import Trust


@pytest.fixture
def sites() -> Iterator[Sites]:
    with serving() as served:
        yield served


@pytest.fixture
def site(sites: Sites) -> str:
    return sites.proxy


@asynccontextmanager
async def served(folder: Path, mode: str = "auto", **web: Any) -> AsyncIterator[Client]:
    settings = BuiltinSettings(web=WebSettings(**web))
    launch = confined(select_backend(), builtin_server("web", folder, settings))
    if not isinstance(launch, Networked):
        async with connected(launch, mode) as client:
            yield client
        return
    async with open_proxy(launch.reach) as socket, connected(launch.launch(socket), mode) as client:
        yield client


@asynccontextmanager
async def commanded(
    folder: Path, settings: str, home: Path, **environ: str
) -> AsyncIterator[Client]:
    """A client of ``corral mcp serve web``, in a process of its own."""
    (folder / "settings.toml").write_text(settings)
    work = folder / "served"
    work.mkdir()
    options = ["--config", str(folder / "settings.toml"), "--workspace", str(work)]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "corral.cli", *options, "mcp", "serve", "web"],
        env={"CORRAL_HOME": str(home), "PATH": os.environ["PATH"], **environ},
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    text = "\n".join(block.text for block in result.content if block.type == "text")
    return f"failed: {text}" if result.is_error else text


def host(site: str) -> str:
    return site.removeprefix("http://")


@pytest.mark.parametrize("mode", MODES)
async def test_a_page_a_file_and_its_links(
    sites: Sites, site: str, tmp_path: Path, mode: str
) -> None:
    sites.at(f"{site}/a", "<p>hello <a href=/b>b</a>")
    async with served(tmp_path, mode, private=[host(site)]) as client:
        assert f"hello [b]({site}/b)" in await call(client, "fetch", url=f"{site}/a")
        assert f"- {site}/b  b" in await call(client, "links", url=f"{site}/a")
        await call(client, "download", url=f"{site}/a", path="in/a.html")
    assert (tmp_path / "in" / "a.html").read_text() == "<p>hello <a href=/b>b</a>"
    assert (tmp_path / "in" / "a.html").stat().st_uid == os.getuid()


async def test_nothing_is_reached_that_is_not_allowed(
    sites: Sites, site: str, tmp_path: Path
) -> None:
    sites.at(f"{site}/out", redirect("http://localhost:1/"))
    async with served(tmp_path) as client:
        assert f'private = ["{host(site)}"]' in await call(client, "fetch", url=f"{site}/a")
        assert 'allow = ["docs.python.org"]' in await call(
            client, "fetch", url="https://docs.python.org/3/"
        )
    assert sites.requests == []
    async with served(tmp_path, allow=["*"], private=[host(site)]) as client:
        says = await call(client, "fetch", url=f"{site}/out")
        assert "localhost:1 was not visited" in says
        says = await call(client, "fetch", url="https://no-such-host.invalid/")
        assert says.startswith("failed: https://no-such-host.invalid/ ")


@pytest.mark.slow
async def test_what_is_encrypted_is_read_by_the_proxy_and_checked(
    tmp_path: Path, own_home: Path
) -> None:
    trust, asked = Trust(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = b"<p>over tls"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        writer.close()

    authority = tmp_path / "authority.pem"
    authority.write_bytes(trust.authority.trusted())
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=trust.server("localhost"))
    port = server.sockets[0].getsockname()[1]
    settings = f'[web]\nrobots = false\nprivate = ["localhost:{port}"]\n'
    url = f"https://localhost:{port}/"
    async with server:
        async with served(tmp_path, private=[f"localhost:{port}"], robots=False) as client:
            assert "not trusted" in await call(client, "fetch", url=url)
        assert asked == []
        trusting = commanded(tmp_path, settings, own_home, SSL_CERT_FILE=str(authority))
        async with trusting as client:
            assert "over tls" in await call(client, "fetch", url=url)
    assert asked[0].startswith("GET / HTTP/1.1\r\n")


async def test_the_key_of_a_search_provider_stays_outside(
    sites: Sites, site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret-key")
    found = {"results": [{"title": "One", "url": "https://a.example/", "content": "first"}]}
    sites.at(f"{site}/search", Reply(json.dumps(found).encode()))
    search = SearchSettings(provider="searxng", url=site, api_key_env="MY_KEY")
    command = builtin_server("web", tmp_path, BuiltinSettings(web=WebSettings(search=search)))
    assert "s3cret-key" not in repr((command.argv, command.profile))
    async with served(tmp_path, search=search) as client:
        assert "https://a.example/" in await call(client, "search", query="one")
        says = await call(client, "fetch", url=f"{site}/search?q=x&format=json")
        assert "with the tool search" in says
    assert [one.headers["authorization"] for one in sites.requests] == ["Bearer s3cret-key"]


async def test_any_client_is_served_by_a_command(
    sites: Sites, site: str, tmp_path: Path, own_home: Path
) -> None:
    sites.at(f"{site}/a", "<p>hello")
    async with commanded(tmp_path, f'[web]\nprivate = ["{host(site)}"]\n', own_home) as client:
        assert "hello" in await call(client, "fetch", url=f"{site}/a")


class TestSettings:
    def test_rules_are_for_reading_alone(self) -> None:
        web = WebSettings(allow=("docs.python.org", "*.wiki.example:8080"), private=("nas:80",))
        rules = web_addition(web).network.rules
        assert [(rule.host, rule.ports, rule.private) for rule in rules] == [
            ("docs.python.org", (80, 443), False),
            ("*.wiki.example", (8080,), False),
            ("nas", (80,), True),
        ]
        assert {rule.methods for rule in rules} == {("GET", "HEAD")}

    def test_nothing_is_allowed_by_itself(self) -> None:
        assert not web_addition(WebSettings()).network

    @pytest.mark.parametrize("entry", ["", "a b", "docs.python.org POST", "http://x/", "127.1"])
    def test_what_is_no_host(self, entry: str) -> None:
        with pytest.raises(ConfigError):
            web_addition(WebSettings(allow=(entry,)))

    def test_a_provider_needs_its_key_and_its_address(self) -> None:
        brave = WebSettings(search=SearchSettings(provider="brave"))
        with pytest.raises(ConfigError, match="BRAVE_API_KEY is not set"):
            web_addition(brave, {})
        (rule,) = web_addition(brave, {"BRAVE_API_KEY": "k"}).network.rules
        assert (rule.host, rule.private) == ("api.search.brave.com", False)
        assert rule.inject == {"X-Subscription-Token": "k"}
        with pytest.raises(ConfigError, match="needs the address"):
            web_addition(WebSettings(search=SearchSettings(provider="searxng")), {})
        tavily = WebSettings(search=SearchSettings(provider="tavily"))
        (rule,) = web_addition(tavily, {"TAVILY_API_KEY": "k"}).network.rules
        assert (rule.methods, rule.inject) == (("POST",), {"Authorization": "Bearer k"})
