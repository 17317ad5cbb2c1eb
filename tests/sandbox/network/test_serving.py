"""``corral mcp serve`` for a server that reaches out, and what is left when Corral is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.config import Settings
from corral.sandbox.network.rules import NetworkRule
from corral.tools.settings import BUILTIN_SERVERS
from tests.cli.place import Place
from tests.sandbox.network.test_servers import SCRIPT
from tests.sandbox.network.upstream import connected, get, proxy, service


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Place:
    return Place(settings.home, settings.workspace, tmp_path)


def own(tmp_path: Path, text: str) -> None:
    """Write the user's own configuration."""
    folder = tmp_path / "config" / "corral"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)


def test_the_help_names_every_server(place: Place) -> None:
    shown = place.corral("mcp", "serve", "--help").out
    assert [name for name in BUILTIN_SERVERS if name not in shown] == []


async def speak(process: asyncio.subprocess.Process, **message: Any) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write((json.dumps({"jsonrpc": "2.0", "id": 1, **message}) + "\n").encode())
    async with asyncio.timeout(60):
        answer = json.loads(await process.stdout.readline())
    result: dict[str, Any] = answer["result"]
    return result


@pytest.mark.parametrize("end", ["input", signal.SIGTERM])
async def test_a_server_with_a_network_is_served_beside_its_proxy(
    place: Place, tmp_path: Path, end: str | signal.Signals
) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nthe page\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        writer.write(missing if b"robots.txt" in head else page)

    async with service(serve=serve) as up:
        own(tmp_path, f'[web]\nprivate = ["localhost:{up.port}"]\n')
        process = await asyncio.create_subprocess_exec(
            *place.command("mcp", "serve", "web"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}}
        await speak(process, method="initialize", params=hello)
        for port, said in ((up.port, "the page"), (up.port + 1, "web")):
            args = {"url": f"http://localhost:{port}/"}
            given = await speak(
                process, method="tools/call", params={"name": "fetch", "arguments": args}
            )
            assert said in given["content"][0]["text"]
        if isinstance(end, signal.Signals):
            process.send_signal(end)
        else:
            assert process.stdin is not None
            process.stdin.close()
        code = await asyncio.wait_for(process.wait(), 30)
        assert code == (0 if end == "input" else 128 + signal.SIGTERM)


@pytest.fixture
def killed(place: Place, tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Starts a run whose call connects to a port, as a process that can be killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int) -> subprocess.Popen[bytes]:
        own(
            tmp_path,
            f'[mcp.ext]\ncommand = "/usr/bin/python3"\nargs = ["{SCRIPT}"]\n'
            f'grants = ["{SCRIPT.parent}"]\nnetwork = ["localhost:{port} private"]\ntrust = true\n',
        )
        call = {"name": "ext__fetch", "args": {"url": f"http://localhost:{port}/slow"}}
        script = [{"text": "Looking.", "tool_calls": [call]}, {"text": "Done."}]
        (place.scripts / "fetch.yaml").write_text(json.dumps(script))
        argv = place.command("run", "Look.", "--model", place.model("fetch"))
        started.append(subprocess.Popen(argv, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
async def test_a_killed_process_leaves_the_connection_visible_and_no_folder(
    place: Place, killed: Callable[[int], subprocess.Popen[bytes]], own_folders: Path
) -> None:
    seen = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not seen.is_set():
            seen.set()
            await reader.read(-1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with service(serve=silent) as up:
        process = killed(up.port)
        async with asyncio.timeout(60):
            await seen.wait()
        process.send_signal(signal.SIGKILL)
        process.wait()
        trace = await asyncio.to_thread(place.corral, "trace", "last", "--json")
        (before,) = [line for line in trace.lines if line.get("kind") == "connection"]
        assert (before["status"], before["result"]) == ("started", None)
        assert list(own_folders.glob("corral-network-*")), "nobody was there to remove it"
        done = await asyncio.to_thread(place.corral, "resume", "last")
        assert done.code == 0, done.err
        trace = await asyncio.to_thread(place.corral, "trace", "last", "--json")
    states = [line["status"] for line in trace.lines if line.get("kind") == "connection"]
    assert states == ["started", "finished"]
    calls = [line for line in trace.lines if line.get("kind") == "tool"]
    assert [(call["status"], call["attempts"]) for call in calls] == [("finished", 2)]
    assert list(own_folders.glob("corral-network-*")) == [], "the next proxy swept it"
    replayed = await asyncio.to_thread(place.corral, "replay", "last")
    assert replayed.code == 0, replayed.out + replayed.err


async def test_the_folder_of_a_killed_proxy_is_swept_and_a_living_one_is_not() -> None:
    deserted = Path(tempfile.mkdtemp(prefix="corral-network-"))
    server = await asyncio.start_unix_server(lambda _r, _w: None, deserted / "proxy.sock")
    server.close()
    rule = NetworkRule("service.test", (9,), private=True)
    async with proxy(rule) as first, proxy(rule) as second:
        assert not deserted.exists()
        async with connected(first.socket) as client:
            await client.send(get(1))
            assert b" 403 " in await client.head()
        assert second.socket.exists()
