"""Code in Monty: what it may call, and that nothing in it goes on for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import SandboxError
from corral.sandbox.backends.monty import MontyBackend, MontySandbox
from corral.sandbox.contract import Grant, Limits, MiB, Profile, Snapshot
from corral.sandbox.network.rules import Network, NetworkRule
from tests.sandbox.inside import wait_until

SMALL = Profile(limits=Limits(memory=64 * MiB, output=2000, file_size=1000, written=1500))


async def _double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def _fail() -> None:
    raise ValueError("no such order")


@pytest.fixture
async def sandbox() -> AsyncIterator[MontySandbox]:
    opened = await MontyBackend({"double": _double, "fail": _fail}).open(SMALL)
    yield opened
    await opened.stop()


async def test_code_calls_the_functions_that_it_is_given(sandbox: MontySandbox) -> None:
    done = await sandbox.run_code(
        "import asyncio\nsum(await asyncio.gather(double(1), double(20)))"
    )
    assert (done.status, done.value) == ("ok", "42")


async def test_what_a_function_raises_can_be_caught(sandbox: MontySandbox) -> None:
    done = await sandbox.run_code(
        "try:\n    await fail()\nexcept ValueError as e:\n    said = str(e)\nsaid"
    )
    assert done.value == "'no such order'"


async def test_code_calls_nothing_else(sandbox: MontySandbox) -> None:
    done = await sandbox.run_code("triple(1)")
    assert done.status == "error"
    assert "NameError" in (done.error or "")


async def test_a_session_keeps_what_its_calls_of_functions_gave(sandbox: MontySandbox) -> None:
    session = await sandbox.session()
    await session.run("x = await double(4)")
    assert (await session.run("x + await double(1)")).value == "10"


@pytest.mark.parametrize(
    "code",
    [
        "2 ** (10**9)",
        "x = 10 ** 9999999\nstr(x)",
        "while True: pass",
        "while True: print('x' * 1000)",
        "while True: await double(1)",
    ],
)
async def test_what_does_not_stop_is_stopped(sandbox: MontySandbox, code: str) -> None:
    session = await sandbox.session()
    await session.run("x = 1")
    before = time.monotonic()
    done = await session.run(code, seconds=0.3)
    assert time.monotonic() - before < 5
    assert done.status in ("timeout", "error")
    assert len(done.stdout) < 3000
    assert (await session.run("x")).value == "1"


async def test_a_worker_that_is_stopped_is_gone(sandbox: MontySandbox) -> None:
    def busy() -> list[int]:
        return [pid for pid in _workers() if _cpu(pid) > before.get(pid, 0) + 20]

    before = {pid: _cpu(pid) for pid in _workers()}
    done = await sandbox.run_code("3 ** (10**8)", seconds=0.3)
    assert done.status in ("timeout", "error")
    wait_until(lambda: not busy(), "the worker is gone")


async def test_memory_is_bounded(sandbox: MontySandbox) -> None:
    for code in ("[0] * (10**9)", "x = []\nwhile True: x.append('y' * 1000)"):
        done = await sandbox.run_code(code, seconds=20)
        assert done.status == "error"
        assert "MemoryError" in (done.error or "")


async def test_recursion_is_bounded(sandbox: MontySandbox) -> None:
    done = await sandbox.run_code("def f():\n    return f()\nf()")
    assert "RecursionError" in (done.error or "")


async def test_the_time_of_the_whole_sandbox_is_bounded() -> None:
    sandbox = await MontyBackend().open(Profile(limits=Limits(wall_seconds=0.2)))
    done = await sandbox.run_code("while True: pass", seconds=30)
    assert done.status == "timeout"
    await sandbox.stop()


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "import os\nos.listdir('/')",
        "import os\nos.environ['HOME']",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "import subprocess",
        "import socket",
        "import ctypes",
        "__import__('os').system('id')",
        "().__class__.__base__.__subclasses__()",
    ],
)
async def test_there_is_no_operating_system(sandbox: MontySandbox, code: str) -> None:
    assert (await sandbox.run_code(code)).status == "error"


async def test_code_reads_files_and_changes_only_its_copy(sandbox: MontySandbox) -> None:
    await sandbox.files.write("a.csv", b"1,2")
    done = await sandbox.run_code("files['a.csv'] = b'x'\nfiles['b'] = b'y'\nlen(files)")
    assert done.status == "ok"
    assert (await sandbox.run_code("files")).value == "{'a.csv': b'1,2'}"


async def test_files_take_no_more_room_than_they_may(sandbox: MontySandbox) -> None:
    await sandbox.files.write("a", b"x" * 1000)
    for name, size in (("b", 501), ("a", 1001)):
        with pytest.raises(SandboxError, match="there is room for"):
            await sandbox.files.write(name, b"x" * size)
    await sandbox.files.write("b", b"x" * 500)
    await sandbox.files.write("a", b"y" * 1000)
    assert [one.size for one in await sandbox.files.listing()] == [1000, 500]


async def test_a_file_is_moved_onto_another(sandbox: MontySandbox) -> None:
    await sandbox.files.write("a", b"1")
    await sandbox.files.write("b", b"2")
    await sandbox.files.move("a", "b")
    await sandbox.files.move("b", "b")
    assert await sandbox.files.read("b") == b"1"
    assert len(await sandbox.files.listing()) == 1


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        (Profile(grants=(Grant(Path("/srv")),)), "folders"),
        (Profile(workdir=Path("/srv")), "folders"),
        (Profile(env={"A": "1"}), "an environment"),
        (Profile(network=Network((NetworkRule("*"),))), "a network"),
        (Profile(packages=(Path("/srv"),)), "packages"),
    ],
)
async def test_what_it_cannot_have_is_refused(profile: Profile, what: str) -> None:
    with pytest.raises(SandboxError, match=f"cannot have {what}"):
        await MontyBackend().open(profile)


async def test_it_does_not_start_from_a_snapshot() -> None:
    with pytest.raises(SandboxError, match="no snapshots"):
        await MontyBackend().open(Profile(), Snapshot("monty", "x"))


@pytest.mark.slow
async def test_a_program_opens_it_and_says_what_must_hold() -> None:
    async with corral.open_sandbox(MontyBackend(), require=("memory", "kill_tree")) as sandbox:
        assert (await sandbox.run_code("6 * 7")).value == "42"
    with pytest.raises(SandboxError, match="monty does not enforce pause"):
        async with corral.open_sandbox(MontyBackend(), require=("pause",)):
            raise AssertionError("it was opened")


def test_the_probe_says_what_holds() -> None:
    health = MontyBackend().probe()
    assert health.ok, health.detail
    assert health.capabilities is not None
    assert health.capabilities.isolation == "interpreter"


def test_the_probe_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **options: Any) -> None:
        raise ImportError("No module named 'pydantic_monty'")

    monkeypatch.setattr("corral.sandbox.backends.monty._pool", missing)
    health = MontyBackend().probe()
    assert not health.ok
    assert "pip install" in health.hint


def _workers() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "monty":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _cpu(pid: int) -> int:
    """Processor time in ticks of a hundredth of a second."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])
