"""What takes more than it may is stopped, in every back end that says so."""

from __future__ import annotations

import asyncio
import secrets
import struct
import time
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox.capabilities import DECLARED
from corral.sandbox.contract import Command
from tests.sandbox.abuse import ABUSES, DAEMON, LARGE, MANY_ALLOCATIONS
from tests.sandbox.boxes import LOCAL, PYTHON, backends, box, processes_with, python

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", ["bubblewrap", "landlock", "gvisor", "none"])
def test_every_declared_limit_is_abused(backend: str) -> None:
    assert DECLARED[backend].limits <= {abuse.limit for abuse in ABUSES.values()}


@pytest.mark.parametrize("backend", LOCAL)
@pytest.mark.parametrize("name", ABUSES)
async def test_what_takes_too_much_is_stopped(backend: str, name: str, tmp_path: Path) -> None:
    abuse, token = ABUSES[name], secrets.token_hex(8)
    if abuse.limit not in DECLARED[backend].limits:
        pytest.skip(f"{backend} does not declare {abuse.limit}")
    folder = tmp_path if abuse.granted else None
    async with box(backend, folder, limits=abuse.limits) as sandbox:
        done = await python(sandbox, abuse.code, *abuse.args, token, seconds=abuse.timeout)
        assert abuse.held(done), done
        assert not processes_with(token)


@pytest.mark.parametrize("backend", LOCAL)
async def test_memory_is_stopped_within_a_tenth_of_its_limit(backend: str, tmp_path: Path) -> None:
    async with box(backend, tmp_path, limits=LARGE) as sandbox:
        done = await python(sandbox, MANY_ALLOCATIONS)
        assert done.reason == "memory"
    taken = sum(struct.unpack("16q", (tmp_path / "taken").read_bytes()[:128]))
    assert LARGE.memory / 2 < taken <= 1.1 * LARGE.memory


@pytest.mark.parametrize("backend", backends("bubblewrap", "landlock"))
async def test_after_too_much_memory_the_sandbox_goes_on(backend: str) -> None:
    async with box(backend, limits=LARGE) as sandbox:
        await sandbox.files.write("kept", b"work")
        assert (await python(sandbox, MANY_ALLOCATIONS)).reason == "memory"
        assert (await sandbox.run(Command(["cat", "kept"]))).stdout == b"work"


async def test_where_processes_cannot_be_told_apart_too_much_memory_ends_the_sandbox() -> None:
    async with box("gvisor", limits=LARGE) as sandbox:
        assert (await python(sandbox, MANY_ALLOCATIONS)).reason == "memory"
        with pytest.raises(SandboxError, match="more than the limit of 1024 MiB"):
            await sandbox.run(Command(["true"]))


@pytest.mark.parametrize("backend", backends("bubblewrap", "landlock"))
async def test_a_time_out_leaves_nothing_alive_50_ms_later(backend: str) -> None:
    token = secrets.token_hex(8)
    async with box(backend) as sandbox:
        began = time.monotonic()
        done = await python(sandbox, DAEMON, "stay", token, seconds=0.4)
        took = time.monotonic() - began
        assert not processes_with(token)
    assert done.reason == "timeout"
    assert took < 0.4 + 0.05 * 10  # ten times the aim: other tests run beside this one


@pytest.mark.parametrize("backend", backends("bubblewrap", "landlock", "none"))
async def test_cancelling_ends_that_command_and_no_other(backend: str) -> None:
    cancelled, other = secrets.token_hex(8), secrets.token_hex(8)
    async with box(backend) as sandbox:
        code = f"print('up', flush=True)\n{DAEMON}"
        up = asyncio.Event()
        command = [PYTHON, "-I", "-S", "-c", code, "stay"]
        first = asyncio.create_task(
            sandbox.run(Command([*command, cancelled], output=lambda name, data: up.set()))
        )
        await up.wait()
        async with sandbox.stream(Command([*command, other])) as pieces:
            await anext(pieces)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert not processes_with(cancelled)
            assert processes_with(other)
        assert not processes_with(other)


@pytest.mark.parametrize("number", ["KILL", "STOP"])
@pytest.mark.parametrize("backend", backends("bubblewrap", "gvisor"))
async def test_whoever_ends_or_stops_everything_inside_gains_nothing(
    backend: str, number: str
) -> None:
    """The guest's own processes can be killed or stopped by what they run; the sandbox ends."""
    token = secrets.token_hex(8)
    code = f"import os, signal\nos.kill(-1, signal.SIG{number})\nwhile True: pass"
    async with box(backend) as sandbox:
        done = await python(sandbox, code, token, seconds=0.5)
        assert done.code == 137
        assert done.reason in ("timeout", "killed")
    assert not processes_with(token)
