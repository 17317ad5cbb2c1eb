"""Sessions in a sandbox from the host: state, interrupts, crashes, shells, fresh runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox.contract import Sandbox
from tests.sandbox.boxes import LOCAL, box
from tests.sandbox.inside import wait_until


@pytest.fixture(params=LOCAL)
async def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sandbox]:
    folder = tmp_path / "work"
    folder.mkdir()
    async with box(request.param, folder) as opened:
        yield opened


@pytest.fixture
async def strong(tmp_path: Path) -> AsyncIterator[Sandbox]:
    """The default back end, for what does not depend on it."""
    folder = tmp_path / "work"
    folder.mkdir()
    async with box("bubblewrap", folder) as opened:
        yield opened


class TestPython:
    async def test_it_keeps_its_state(self, sandbox: Sandbox) -> None:
        session = await sandbox.session()
        await session.run("import math\nx = 40\nprint('so far')")
        done = await session.run("x + math.floor(2.5)")
        assert (done.status, done.value, done.error) == ("ok", "42", None)
        await session.run("open('made', 'w').write('by it')")
        assert await sandbox.files.read("made") == b"by it"
        other = await sandbox.session()
        assert (await other.run("x")).status == "error"

    async def test_an_interrupt_leaves_it_as_it_was(self, sandbox: Sandbox) -> None:
        session = await sandbox.session()
        running = asyncio.create_task(
            session.run("y = 7\nprint('on', flush=True)\nwhile True: pass")
        )
        while not running.done():
            await session.interrupt()
            await asyncio.wait({running}, timeout=0.2)
        done = running.result()
        assert done.status == "interrupted"
        assert (await session.run("y")).status in ("ok", "error")
        assert (await session.run("1")).value == "1"

    async def test_a_time_limit_keeps_the_state(self, sandbox: Sandbox) -> None:
        session = await sandbox.session()
        done = await session.run("y = 7\nwhile True: pass", seconds=0.5)
        assert done.status == "timeout"
        assert "KeyboardInterrupt" in (done.error or "")
        assert (await session.run("y")).value == "7"

    async def test_a_crash_is_told_and_the_next_call_starts_clean(self, sandbox: Sandbox) -> None:
        session = await sandbox.session()
        await session.run("y = 7")
        done = await session.run("import ctypes; ctypes.string_at(0)")
        assert done.status == "crashed"
        assert "killed by SIGSEGV" in done.note
        assert "NameError" in ((await session.run("y")).error or "")

    async def test_an_idle_one_is_an_interpreter_and_its_keeper(self, strong: Sandbox) -> None:
        session = await strong.session()
        listing = "len([name for name in __import__('os').listdir('/proc') if name.isdigit()])"
        alone = int((await session.run(listing)).value or 0)
        other = await strong.session()
        await other.run("1")
        assert int((await session.run(listing)).value or 0) - alone == 2
        # bubblewrap's two, the guest and this session: nothing waits warm beside them
        assert alone <= 2 + 1 + 2

    async def test_a_fresh_run_knows_nothing(self, sandbox: Sandbox) -> None:
        for _ in range(4):
            assert (await sandbox.run_code("x")).status == "error"
            assert (await sandbox.run_code("x = 1; x")).status == "ok"


class TestShell:
    async def test_it_keeps_its_state(self, sandbox: Sandbox) -> None:
        session = await sandbox.session("shell")
        await session.run("mkdir sub; cd sub; x='a b'; f() { echo \"<$1>\"; }")
        done = await session.run('f "$x"; basename "$PWD"; echo oops >&2; false')
        assert (done.status, done.value) == ("error", "1")
        assert (done.stdout, done.stderr) == ("<a b>\nsub\n", "oops\n")

    async def test_output_cannot_forge_the_end(self, strong: Sandbox) -> None:
        session = await strong.session("shell")
        done = await session.run("printf '0\\n0\\n'; printf '0\\n' >&4; (exit 5)")
        assert (done.value, done.stdout) == ("5", "0\n0\n")

    async def test_what_is_no_whole_command(self, strong: Sandbox) -> None:
        session = await strong.session("shell")
        for code in ("if", "echo 'open", "echo $(", "cat <<END\nx"):
            done = await session.run(code, seconds=20)
            assert done.status in ("ok", "error"), done
        assert (
            await session.run('echo "it\'s" fine; read x; echo [$x]')
        ).stdout == "it's fine\n[]\n"

    async def test_an_interrupt_and_a_time_limit(self, strong: Sandbox) -> None:
        session = await strong.session("shell")
        await session.run("x=1")
        assert (await session.run("while :; do :; done", seconds=0.3)).status == "timeout"
        assert (await session.run("trap '' INT; sleep 600", seconds=0.3)).status == "timeout"
        assert (await session.run("echo $x")).stdout == "1\n"

    async def test_its_end_is_told(self, strong: Sandbox) -> None:
        session = await strong.session("shell")
        done = await session.run("exit 3")
        assert (done.status, "exit status 3" in done.note) == ("crashed", True)
        assert (await session.run("echo again")).stdout == "again\n"


class TestEnds:
    async def test_a_closed_session_and_what_it_started_is_gone(self, strong: Sandbox) -> None:
        session = await strong.session()
        await session.run("import subprocess; subprocess.Popen(['sleep', '12345'])")
        await session.aclose()
        await session.aclose()
        watcher = await strong.session("shell")
        code = "while grep -aq 1234[5] /proc/[0-9]*/cmdline 2>/dev/null; do :; done"
        assert (await watcher.run(code)).status != "timeout"
        with pytest.raises(SandboxError, match="closed"):
            await session.run("1")

    async def test_a_restart_forgets(self, strong: Sandbox) -> None:
        session = await strong.session()
        await session.run("x = 1")
        await session.restart()
        assert (await session.run("x")).status == "error"

    async def test_a_cancelled_call_is_interrupted(self, strong: Sandbox, tmp_path: Path) -> None:
        session = await strong.session()
        await session.run("x = 1")
        code = "open('on', 'w').close()\nwhile True: pass"
        running = asyncio.create_task(session.run(code))
        await asyncio.to_thread(wait_until, (tmp_path / "work" / "on").exists, "its start")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await session.run("x")).value == "1"

    async def test_a_keeper_that_the_code_kills_is_a_crash(self, strong: Sandbox) -> None:
        session = await strong.session()
        done = await session.run("import os; os.kill(os.getppid(), 9); import time; time.sleep(60)")
        assert done.status == "crashed"
        assert "broken from inside" in done.note
        assert (await session.run("1")).value == "1"

    async def test_a_forged_answer_is_no_answer(self, strong: Sandbox) -> None:
        session = await strong.session()
        forged = b'{"value": 5, "displays": [[1, 2]], "error": {}}\n'
        done = await session.run(f"import os; os.write(4, {forged!r})\nimport time; time.sleep(60)")
        assert done.status == "crashed"
        assert (await session.run("1")).value == "1"
