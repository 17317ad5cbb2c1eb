"""Many sandboxes, one after the other and at once, and the death of who started them."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from corral.sandbox.contract import Command
from tests.sandbox.boxes import LOCAL, box, processes_with, skip_unless_here
from tests.sandbox.inside import wait_until

ROOT = Path(__file__).resolve().parents[2]

ORPHANS = """
import asyncio, sys
from corral.sandbox.contract import Command, Profile
from corral.sandbox.registry import select_backend

async def main():
    backend, token = sys.argv[1:]
    sandbox = await select_backend(backend).open(Profile(env={"TOKEN": token}))
    await sandbox.run_code("import subprocess; subprocess.Popen(['sleep', '600'])")
    command = Command(["sh", "-c", "setsid sleep 600 & echo up; sleep 600"])
    async with sandbox.stream(command) as pieces:
        await anext(pieces)
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def leftovers() -> set[str]:
    """Mounts, folders and descriptors that sandboxes use."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    mounts = {line for line in lines if "corral" in line}
    folders = {str(path) for path in Path(tempfile.gettempdir()).glob("corral-[!pt]*")}
    return mounts | folders


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "times"), [("bubblewrap", 100), ("landlock", 20)])
async def test_starting_and_stopping_leaves_nothing(backend: str, times: int) -> None:
    token = secrets.token_hex(8)
    async with box(backend):
        pass  # the launcher of this process stays
    before, open_before = leftovers(), descriptors()
    for _ in range(times):
        async with box(backend, env={"TOKEN": token}) as sandbox:
            assert (await sandbox.run(Command(["true"]))).code == 0
        assert not processes_with(token)
    assert leftovers() <= before
    assert descriptors() <= open_before + 2


@pytest.mark.slow
async def test_fifty_at_once() -> None:
    token = secrets.token_hex(8)

    async def one(number: int) -> bytes:
        async with box("bubblewrap", env={"TOKEN": token}) as sandbox:
            return (await sandbox.run(Command(["echo", str(number)]))).stdout

    said = await asyncio.gather(*(one(number) for number in range(50)))
    assert said == [f"{number}\n".encode() for number in range(50)]
    assert not processes_with(token)


@pytest.mark.parametrize("backend", LOCAL)
def test_killing_corral_leaves_no_orphan(backend: str) -> None:
    skip_unless_here(backend)
    token, before = secrets.token_hex(8), leftovers()
    with subprocess.Popen(
        [sys.executable, "-c", ORPHANS, backend, token],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as corral:
        assert corral.stdout is not None
        assert b"up\n" in iter(corral.stdout.readline, b"")
        assert processes_with(token)
        corral.send_signal(signal.SIGKILL)
        corral.wait()
    wait_until(lambda: not processes_with(token), "the end of everything inside")
    wait_until(lambda: leftovers() <= before, "the removal of every folder")
