"""A whole sandbox with a network: commands in it reach what its profile names."""

from __future__ import annotations

import asyncio
import shutil
import tempfile

import pytest

from corral.sandbox.contract import Command, Profile
from corral.sandbox.network.rules import Forward, Network, NetworkRule
from corral.sandbox.registry import select_backend
from tests.sandbox.boxes import backends
from tests.sandbox.network.upstream import service

ASK = """
import socket, sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=20).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
with socket.create_connection(("127.0.0.1", 5555), timeout=20) as sock:
    sock.sendall(b"hello")
    print(sock.recv(5).decode())
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print("no way out:", error.strerror)
"""


@pytest.mark.parametrize("backend", backends("bubblewrap", "gvisor"))
async def test_commands_reach_what_is_named_and_nothing_else(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "gvisor" and shutil.which("runsc") is None:
        pytest.skip("gVisor is not installed here")

    monkeypatch.setattr(tempfile, "tempdir", None)  # gVisor's bundle is made in the usual one
    monkeypatch.delenv("TMPDIR")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(5))

    async with service() as up, service(serve=echo) as tcp:
        network = Network(
            (NetworkRule("localhost", (up.port,), ("GET",), private=True),),
            (Forward(5555, "localhost", tcp.port, private=True),),
        )
        sandbox = await select_backend(backend).open(Profile(network=network))
        try:
            urls = (f"http://localhost:{up.port}/", f"http://localhost:{tcp.port}/")
            done = await sandbox.run(Command(("/usr/bin/python3", "-c", ASK, *urls)))
        finally:
            await sandbox.stop()
    said = done.stdout.decode().splitlines()
    assert said[:3] == ["hello", "403", "hello"], done
    assert said[3].startswith("no way out:")
