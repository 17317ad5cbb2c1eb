"""Servers over stdio: starting, calling, dying and ending, with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from corral.errors import ToolServerError
from corral.sandbox.contract import Launch
from corral.tools.contract import CallOptions
from corral.tools.server import Timing
from corral.tools.stdio import StdioServer
from tests.tools.support import OPTIONS, QUICK, SERVERS, MakeServer, alive, notes_in, until


async def test_a_server_starts_when_first_needed_and_stays_warm(
    make: MakeServer, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    server = make("plain", notes)
    assert server.pid is None
    assert not notes_in(notes)
    first = await server.call("pid", {}, OPTIONS)
    second = await server.call("pid", {}, OPTIONS)
    assert first.text == second.text == str(server.pid)


async def test_concurrent_first_uses_start_it_once(make: MakeServer, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    server = make("plain", notes)
    listing = asyncio.create_task(server.list_tools())
    words = [str(number) for number in range(20)]
    calls = (server.call("echo", {"text": word}, OPTIONS) for word in words)
    assert [result.text for result in await asyncio.gather(*calls)] == words
    assert await listing
    assert len(notes_in(notes)) == 1


async def test_the_call_carries_its_idempotency_key(make: MakeServer) -> None:
    result = await make().call("reader", {}, CallOptions("run-7/3"))
    assert json.loads(result.text)["corral/idempotency-key"] == "run-7/3"


@pytest.mark.parametrize("trusted", [True, False])
async def test_hints_are_kept_as_claims(make: MakeServer, trusted: bool) -> None:
    specs = {spec.tool: spec for spec in await make(trusted=trusted).list_tools()}
    reader, echo = specs["reader"], specs["echo"]
    assert (reader.read_only, reader.idempotent, reader.trusted) == (True, True, trusted)
    assert reader.repeatable is trusted
    assert (echo.read_only, echo.destructive, echo.open_world) == (False, True, True)
    assert echo.name == "srv__echo"


async def test_a_server_of_the_older_kind_that_ends_at_the_probe(
    make: MakeServer, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    server = make("old", notes)
    assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"
    assert len(notes_in(notes)) == 2
    with pytest.raises(ToolServerError):
        await server.call("die", {}, OPTIONS)
    assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"
    assert len(notes_in(notes)) == 3, "the verdict is remembered: no second probe"


class TestStarting:
    async def test_the_error_shows_what_the_server_said(self, make: MakeServer) -> None:
        with pytest.raises(ToolServerError, match="no module named flask") as caught:
            await make("broken").list_tools()
        assert "exited with code 1" in caught.value.message
        assert caught.value.hint

    async def test_a_call_to_it_was_certainly_not_made(self, make: MakeServer) -> None:
        result = await make("broken").call("echo", {"text": "hi"}, OPTIONS)
        assert result.is_error
        assert result.text.startswith("The call was not made: Tool server srv could not be started")

    async def test_no_such_command(self) -> None:
        server = StdioServer("srv", Launch(("/no/such/program",), {}))
        with pytest.raises(ToolServerError, match="there is no /no/such/program"):
            await server.list_tools()

    async def test_a_server_that_says_nothing_is_given_up(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        server = make("silent", notes, Timing(startup=0.5, grace=0.2))
        with pytest.raises(ToolServerError, match=r"did not start within 0\.5 s"):
            await server.list_tools()
        assert server.pid is not None
        assert not alive(server.pid)

    @pytest.mark.slow
    async def test_a_server_that_never_lists_is_given_up(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        server = make("deaf", tmp_path / "notes", Timing(startup=3.0, grace=0.2))
        with pytest.raises(ToolServerError, match="did not list its tools within 3 s"):
            await server.list_tools()
        pid = server.pid
        assert pid is not None
        await until(lambda: not alive(pid))

    @pytest.mark.slow
    async def test_one_that_keeps_failing_is_not_started_for_ever(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        server = make("broken", notes)
        for _ in range(5):
            with pytest.raises(ToolServerError, match="could not be started"):
                await server.list_tools()
        starts = len(notes_in(notes))
        with pytest.raises(ToolServerError, match="keeps dying") as caught:
            await server.list_tools()
        assert "flask" in caught.value.message
        assert len(notes_in(notes)) == starts


class TestDying:
    async def test_the_call_fails_at_once_and_the_next_one_starts_it_again(
        self, make: MakeServer
    ) -> None:
        server = make()
        first = (await server.call("pid", {}, OPTIONS)).text
        with pytest.raises(ToolServerError, match="may or may not have happened") as caught:
            await server.call("die", {}, OPTIONS)
        assert "exited with code 3" in caught.value.message
        assert "the database is gone" in caught.value.message
        second = (await server.call("pid", {}, OPTIONS)).text
        assert first != second

    async def test_every_pending_call_is_told(self, make: MakeServer, tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        server = make("plain", notes)
        calls = [asyncio.create_task(server.call("wait", {}, OPTIONS)) for _ in range(3)]
        await until(lambda: notes_in(notes).count("waiting") == 3)
        assert server.pid is not None
        signal_at = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - signal_at < 5
        assert all(isinstance(one, ToolServerError) for one in outcomes)
        assert "was killed by SIGKILL" in str(outcomes[0])

    async def test_one_that_died_while_idle_is_started_again_without_a_word(
        self, make: MakeServer
    ) -> None:
        server = make()
        await server.list_tools()
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: not alive(first))
        await until_replaced(server, first)

    @pytest.mark.slow
    async def test_one_that_keeps_dying_is_not_started_for_ever(self, make: MakeServer) -> None:
        server = make()
        for _ in range(5):
            with pytest.raises(ToolServerError, match="exited with code 3"):
                await server.call("die", {}, OPTIONS)
        result = await server.call("echo", {"text": "hi"}, OPTIONS)
        assert result.is_error
        assert "keeps dying" in result.text


async def until_replaced(server: StdioServer, first: int) -> None:
    """Calls until they go to another process; only the first may meet the old one's end."""
    for _ in range(2):
        try:
            result = await server.call("pid", {}, OPTIONS)
        except ToolServerError:
            continue
        assert result.text != str(first)
        return
    pytest.fail("it was not started again")


class TestTimeouts:
    async def test_a_slow_call_is_cancelled_on_the_server(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        server = make("plain", notes)
        pid = (await server.call("pid", {}, OPTIONS)).text
        with pytest.raises(ToolServerError, match=r"did not answer wait within 0\.2 s"):
            await server.call("wait", {}, CallOptions("key", timeout=0.2))
        await until(lambda: "cancelled" in notes_in(notes))
        assert (await server.call("pid", {}, OPTIONS)).text == pid, "it serves on"

    async def test_the_entry_s_own_timeout_holds_by_default(self, make: MakeServer) -> None:
        server = make(timing=Timing(call=0.2))
        with pytest.raises(ToolServerError, match=r"within 0\.2 s"):
            await server.call("wait", {}, OPTIONS)

    async def test_a_server_that_hangs_is_replaced(self, make: MakeServer) -> None:
        server = make()
        await server.list_tools()
        pid = server.pid
        assert pid is not None
        with pytest.raises(ToolServerError, match="did not answer hang"):
            await server.call("hang", {}, CallOptions("key", timeout=0.2))
        await until(lambda: not alive(pid))
        assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"

    async def test_cancelling_the_caller_cancels_the_call_and_nothing_else(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        server = make("plain", notes)
        other = asyncio.create_task(server.call("wait", {}, OPTIONS))
        call = asyncio.create_task(server.call("wait", {}, OPTIONS))
        await until(lambda: notes_in(notes).count("waiting") == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: notes_in(notes).count("cancelled") == 1)
        assert not other.done()
        other.cancel()

    async def test_a_cancelled_first_caller_does_not_stop_the_start(
        self, make: MakeServer, tmp_path: Path
    ) -> None:
        notes = tmp_path / "notes"
        server = make("plain", notes)
        impatient = asyncio.create_task(server.list_tools())
        patient = asyncio.create_task(server.list_tools())
        await until(lambda: bool(notes_in(notes)))
        impatient.cancel()
        assert await patient
        assert sum("started" in note for note in notes_in(notes)) == 1


class TestFloods:
    async def test_an_endless_line(self, make: MakeServer) -> None:
        server = make()
        with pytest.raises(ToolServerError, match="more than 16 MiB and was stopped"):
            await server.call("flood", {}, OPTIONS)
        assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"

    async def test_it_takes_bounded_memory(self, make: MakeServer) -> None:
        server = make()
        await server.list_tools()
        tracemalloc.start()
        try:
            with pytest.raises(ToolServerError):
                await server.call("flood", {}, OPTIONS)
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()

    async def test_endless_progress_leaves_room_for_everything_else(self, make: MakeServer) -> None:
        server = make()
        reported = asyncio.Event()
        running = 0

        async def progress(done: float, total: float | None, message: str) -> None:
            nonlocal running
            running += 1
            assert running == 1, "one report at a time"
            reported.set()
            await asyncio.sleep(0)
            running -= 1

        call = asyncio.create_task(server.call("spam", {}, CallOptions("k", progress=progress)))
        await reported.wait()
        assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_a_result_of_100_megabytes(self, make: MakeServer) -> None:
        with pytest.raises(ToolServerError, match="more than 16 MiB"):
            await make().call("big", {"size": 100_000_000}, OPTIONS)

    async def test_a_result_below_the_limit_passes(self, make: MakeServer) -> None:
        result = await make().call("big", {"size": 5_000_000}, OPTIONS)
        assert len(result.text) <= 1_000_000
        assert 4_000_000 <= result.dropped < 4_000_100

    async def test_endless_garbage(self, make: MakeServer) -> None:
        with pytest.raises(ToolServerError, match="not MCP") as caught:
            await make().call("garbage", {}, OPTIONS)
        assert "progress: 10%" in caught.value.message

    async def test_endless_questions(self, make: MakeServer) -> None:
        with pytest.raises(ToolServerError, match="asks more than it reads answers for"):
            await make().call("pings", {}, OPTIONS)

    async def test_some_garbage_and_much_chatter_do_no_harm(
        self, make: MakeServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert (await make().call("chatter", {}, OPTIONS)).text == "fine"
        out, err = capfd.readouterr()
        assert "oh no" not in out + err


class TestClosing:
    async def test_no_process_is_left_not_even_one_that_left_the_session(
        self, make: MakeServer
    ) -> None:
        server = make()
        child = int((await server.call("daemon", {}, OPTIONS)).text)
        pid = server.pid
        assert pid is not None
        assert alive(child)
        await server.aclose()
        await until(lambda: not alive(pid) and not alive(child))

    async def test_a_server_that_died_leaves_no_children_either(self, make: MakeServer) -> None:
        server = make()
        child = int((await server.call("daemon", {}, OPTIONS)).text)
        with pytest.raises(ToolServerError):
            await server.call("die", {}, OPTIONS)
        await until(lambda: not alive(child))

    async def test_one_that_ignores_every_hint_is_killed(self, make: MakeServer) -> None:
        server = make("stubborn")
        await server.list_tools()
        pid = server.pid
        assert pid is not None
        began = time.monotonic()
        await server.aclose()
        assert not alive(pid)
        assert time.monotonic() - began < 8

    async def test_while_it_starts(self, make: MakeServer, tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        server = make("silent", notes)
        listing = asyncio.create_task(server.list_tools())
        await until(lambda: "hanging" in notes_in(notes))
        await server.aclose()
        with pytest.raises(ToolServerError, match="closed"):
            await listing
        assert server.pid is not None
        assert not alive(server.pid)

    async def test_during_a_call(self, make: MakeServer, tmp_path: Path) -> None:
        notes = tmp_path / "notes"
        server = make("plain", notes)
        call = asyncio.create_task(server.call("wait", {}, OPTIONS))
        await until(lambda: "waiting" in notes_in(notes))
        await server.aclose()
        with pytest.raises(ToolServerError, match="may or may not have happened"):
            await call

    async def test_twice_and_for_good(self, make: MakeServer) -> None:
        server = make()
        await server.list_tools()
        await asyncio.gather(server.aclose(), server.aclose())
        await server.aclose()
        with pytest.raises(ToolServerError, match="is closed"):
            await server.list_tools()


async def test_a_server_on_the_sdk() -> None:
    launch = Launch((sys.executable, str(SERVERS / "sdk_stdio.py")), {})
    server = StdioServer("good", launch, timing=QUICK)
    reports: list[tuple[float, float | None, str]] = []

    async def progress(done: float, total: float | None, message: str) -> None:
        reports.append((done, total, message))

    try:
        specs = {spec.tool: spec for spec in await server.list_tools()}
        assert specs["add"].read_only
        assert specs["add"].input_schema["properties"]["a"]["minimum"] == 0
        added = await server.call("add", {"a": 2, "b": 3}, OPTIONS)
        assert added.structured == {"total": 5}
        counted = await server.call("count", {"steps": 50}, CallOptions("k", progress=progress))
        assert counted.text == "counted 50"
        assert reports[-1] == (50, 50, "step 50")
        failed = await server.call("boom", {}, OPTIONS)
        assert failed.is_error
        wrong = await server.call("add", {"a": -1}, OPTIONS)
        assert wrong.is_error
    finally:
        await server.aclose()


async def test_the_environment_is_the_launch_s_own(make: MakeServer) -> None:
    found = json.loads((await make().call("environment", {}, OPTIONS)).text)
    assert set(found) <= {"CORRAL_TOOL_SERVER", "LC_CTYPE", "cwd"}
