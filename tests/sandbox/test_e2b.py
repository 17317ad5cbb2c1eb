"""The back end ``e2b`` by the service's own SDK, against the stand-in."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.errors import SandboxError
from corral.sandbox.backends.e2b.sandbox import E2BSandbox
from corral.sandbox.contract import Command, Grant, Limits, Profile, Snapshot
from corral.sandbox.network.rules import Forward, Network, NetworkRule
from tests.sandbox.e2b.service import StandIn, running
from tests.sandbox.e2b.standin import KEY


@pytest.fixture(scope="module")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with running(tmp_path_factory.mktemp("stand-in")) as found:
        yield found


@pytest.fixture
async def sandbox(standin: StandIn) -> AsyncIterator[E2BSandbox]:
    opened = await standin.backend().open(Profile(env={"SECRET_COLOUR": "blue"}))
    yield opened
    await opened.stop()


def _asked(standin: StandIn, path: str) -> list[dict[str, Any]]:
    return [one for one in standin.requests() if one["path"].endswith(path)]


def _body(request: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request["body"][2:-1])
    return found


async def _created(standin: StandIn, profile: Profile, **options: Any) -> dict[str, Any]:
    """What the service is asked for when a sandbox with this profile is opened."""
    opened = await standin.backend(**options).open(profile)
    await opened.stop()
    return _body(_asked(standin, "/v2/sandboxes")[-1])


async def test_a_sandbox_is_asked_for_with_what_the_profile_grants_and_nothing_else(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "canary")
    asked = await _created(standin, Profile(env={"A": "1"}), template="mine", timeout=120.0)
    assert asked["templateID"] == "mine"
    assert asked["timeout"] == 120
    assert asked["envVars"] == {"A": "1"}
    assert asked["allow_internet_access"] is False
    assert "network" not in asked
    assert "canary" not in json.dumps(asked)


async def test_a_network_becomes_hosts_that_are_allowed_and_all_others_denied(
    standin: StandIn,
) -> None:
    rules = (
        NetworkRule("pypi.org"),
        NetworkRule("api.example.com", inject={"Authorization": "Bearer x"}),
    )
    asked = await _created(standin, Profile(network=Network(rules)))
    assert asked["allow_internet_access"] is True
    assert asked["network"]["allowOut"] == ["pypi.org", "api.example.com"]
    assert asked["network"]["denyOut"] == ["0.0.0.0/0"]
    injected = asked["network"]["rules"]["api.example.com"][0]["transform"]["headers"]
    assert injected == {"Authorization": "Bearer x"}
    everything = await _created(standin, Profile(network=Network((NetworkRule("*"),))))
    assert everything["allow_internet_access"] is True


@pytest.mark.parametrize(
    "profile",
    [
        Profile(grants=(Grant(Path("/srv")),)),
        Profile(workdir=Path("/srv")),
        Profile(packages=(Path("/srv"),)),
        Profile(network=Network(forwards=(Forward(5432, "db", 5432),))),
        Profile(network=Network((NetworkRule("a.example", methods=("GET",)),))),
        Profile(network=Network((NetworkRule("a.example", private=True),))),
        Profile(network=Network((NetworkRule("a.example", ports=(22,)),))),
        Profile(network=Network((NetworkRule("*", inject={"A": "b"}),))),
    ],
)
async def test_what_the_service_cannot_keep_to_is_refused_before_anything_is_sent(
    standin: StandIn, profile: Profile
) -> None:
    before = len(standin.requests())
    with pytest.raises(SandboxError, match=r"E2B c?an"):
        await standin.backend().open(profile)
    assert len(standin.requests()) == before


# the key


async def test_the_key_goes_to_the_control_plane_in_its_header_and_nowhere_else(
    standin: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    start = len(standin.requests())
    opened = await standin.backend().open(Profile())
    await opened.run(Command(("true",)))
    await opened.run_code("1")
    await opened.files.write("a", b"1")
    seen = await opened.run(Command(("sh", "-c", "env; cat /proc/*/environ")))
    await opened.stop()
    for request in standin.requests()[start:]:
        headers = {name.lower(): value for name, value in request["headers"].items()}
        holders = [name for name, value in headers.items() if KEY in value]
        assert holders == ([] if "e2b-sandbox-id" in headers else ["x-api-key"])
        assert KEY not in request["path"] + request["body"]
    assert KEY.encode() not in seen.stdout
    assert KEY not in caplog.text
    assert KEY not in repr(standin.backend())


async def test_without_a_key_nothing_is_asked(standin: StandIn) -> None:
    before = len(standin.requests())
    with pytest.raises(SandboxError, match="needs a key") as told:
        await standin.backend(api_key="").open(Profile())
    assert "api_key_env" in told.value.hint
    assert len(standin.requests()) == before


async def test_a_wrong_key_is_told_without_the_key(standin: StandIn) -> None:
    with pytest.raises(SandboxError, match="refuses the key") as told:
        await standin.backend(api_key="e2b_wrong").open(Profile())
    assert "e2b_wrong" not in str(told.value)
    assert "[the key]" in str(told.value)


# errors


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        (401, "refuses the key", "api_key_env"),
        (403, "reported an error", "limits"),
        (404, "reported an error", ""),
        (429, "limit is reached", "Wait"),
        (500, "reported an error", "status"),
        (503, "busy", "try again"),
    ],
)
async def test_an_error_of_the_service_says_what_to_do(
    standin: StandIn, status: int, words: str, hint: str
) -> None:
    standin.fail("/v2/sandboxes$", status=status, says="the quota\x1b[31m is used up")
    with pytest.raises(SandboxError, match=words) as told:
        await standin.backend().open(Profile())
    assert "start a sandbox" in told.value.message
    assert "\x1b" not in told.value.message
    assert hint in told.value.hint


@pytest.mark.slow
async def test_a_service_that_is_not_there_is_told(standin: StandIn) -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(SandboxError, match="cannot be reached"):
        await standin.backend(api_url=nowhere, sandbox_url=nowhere).open(Profile())


async def test_a_snapshot_that_is_gone_is_told(standin: StandIn) -> None:
    with pytest.raises(SandboxError, match="not found"):
        await standin.backend().open(Profile(), Snapshot("e2b", "snap-gone"))


async def test_a_connection_that_breaks_in_a_command_is_told(
    standin: StandIn, sandbox: E2BSandbox
) -> None:
    standin.fail("Process/Start", cut=2)
    with pytest.raises(SandboxError, match="run the command to its end"):
        await sandbox.run(Command(("sh", "-c", "echo a; sleep 0.2; echo b; sleep 0.2; echo c")))
    assert (await sandbox.run(Command(("echo", "on")))).stdout == b"on\n"


_SLOWLY = "import time\nfor n in range(50): print(n, flush=True); time.sleep(0.02)"
"""Writes in many pieces, of which not all can be sent as one."""


async def test_a_connection_that_breaks_in_a_session_is_told_and_the_next_call_works(
    standin: StandIn, sandbox: E2BSandbox
) -> None:
    session = await sandbox.session()
    await session.run("x = 1")
    standin.fail("/execute", cut=1)
    with pytest.raises(SandboxError, match="run the code"):
        await session.run(_SLOWLY)
    assert (await session.run("x")).value == "1"


async def test_a_slow_start_of_a_command_counts_for_nothing(
    standin: StandIn, sandbox: E2BSandbox
) -> None:
    standin.fail("Process/Start", slow=0.5)
    done = await sandbox.run(Command(("echo", "late"), timeout=0.4))
    assert (done.reason, done.stdout) == ("exited", b"late\n")


async def test_code_that_writes_without_end_is_stopped(sandbox: E2BSandbox) -> None:
    session = await sandbox.session()
    done = await session.run("line = 'x' * 100_000\nwhile True: print(line)", seconds=60)
    assert done.status == "crashed"
    assert "32 MiB" in (done.error or "")
    assert done.note
    assert (await session.run("6 * 7")).value == "42"


async def test_code_that_is_cancelled_is_interrupted_and_leaves_its_state(
    sandbox: E2BSandbox,
) -> None:
    session = await sandbox.session()
    await session.run("x = 'kept'")
    code = "open('begun', 'w').close()\nwhile True: pass"
    task = asyncio.ensure_future(session.run(code, seconds=None))
    while not await sandbox.files.listing():  # noqa: ASYNC110  nothing tells of it
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await session.run("x")).value == "'kept'"


async def test_a_session_can_be_closed_after_its_sandbox(standin: StandIn) -> None:
    opened = await standin.backend().open(Profile())
    sessions = [await opened.session("python"), await opened.session("shell")]
    for session in sessions:
        await session.run("1")
    await opened.stop()
    for session in sessions:
        await session.aclose()


# how long it lives


async def test_a_sandbox_lives_on_while_it_is_used(standin: StandIn) -> None:
    opened = await standin.backend(timeout=100.0).open(Profile())
    try:
        await opened.run(Command(("true",), timeout=30))
        assert _asked(standin, f"{opened.id}/timeout") == []
        await opened.run(Command(("true",), timeout=80))
        asked = [_body(one)["timeout"] for one in _asked(standin, f"{opened.id}/timeout")]
        assert asked == [180]
    finally:
        await opened.stop()


async def test_a_call_without_a_limit_is_given_what_any_account_may_have(
    standin: StandIn, sandbox: E2BSandbox
) -> None:
    for _ in range(2):
        await sandbox.run(Command(("true",), timeout=None))
    asked = [_body(one)["timeout"] for one in _asked(standin, f"{sandbox.id}/timeout")]
    assert asked == [3600]


async def test_no_use_makes_a_sandbox_outlive_its_wall_time(standin: StandIn) -> None:
    profile = Profile(limits=Limits(wall_seconds=20))
    assert (await _created(standin, profile, timeout=100.0))["timeout"] == 20
    opened = await standin.backend(timeout=100.0).open(profile)
    try:
        await opened.run(Command(("true",), timeout=600))
        assert _asked(standin, f"{opened.id}/timeout") == []
    finally:
        await opened.stop()


async def test_a_sandbox_that_the_service_has_ended_is_gone(standin: StandIn) -> None:
    opened = await standin.backend().open(Profile(limits=Limits(wall_seconds=1)))

    async def told() -> str:
        try:
            await opened.run(Command(("true",)))
        except SandboxError as error:
            return error.message
        return ""

    async with asyncio.timeout(15):
        # A command under way at its end is only cut off; the next one finds nothing.
        while "gone" not in await told():  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0.05)
    await opened.stop()


async def test_a_paused_sandbox_goes_on_in_another_process(
    standin: StandIn, sandbox: E2BSandbox
) -> None:
    await sandbox.files.write("note", b"from the first")
    await sandbox.pause()
    with pytest.raises(SandboxError, match="gone, or paused"):
        await sandbox.run(Command(("true",)))
    script = (
        "import asyncio, sys\n"
        "from tests.sandbox.e2b.service import StandIn\n"
        "async def main():\n"
        "    found = await StandIn(sys.argv[1]).backend().connect(sys.argv[2])\n"
        "    sys.stdout.write((await found.files.read('note')).decode())\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, standin.url, sandbox.id],
        capture_output=True,
        text=True,
        cwd=root,
        check=True,
    )
    assert done.stdout == "from the first"
    assert (await sandbox.files.read("note")) == b"from the first"


async def test_there_is_nothing_to_connect_to_after_a_stop(standin: StandIn) -> None:
    opened = await standin.backend().open(Profile())
    await opened.stop()
    with pytest.raises(SandboxError, match="gone"):
        await standin.backend().connect(opened.id)


# what it says of itself


def test_the_probe_says_what_holds(standin: StandIn) -> None:
    health = standin.backend().probe()
    assert health.ok, health.detail
    assert health.capabilities is not None
    assert {"isolation:remote", "wall", "output", "stateful", "pause"} <= health.capabilities.names
    assert "memory" not in health.capabilities.names


def test_the_probe_says_why_not(standin: StandIn) -> None:
    health = standin.backend(api_key="e2b_wrong").probe()
    assert not health.ok
    assert "refuses the key" in health.detail
    assert health.hint


@pytest.mark.slow
def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, corral.tools.code_provider, corral.agents.services\n"
        "heavy = {'e2b', 'e2b_code_interpreter', 'pyqwest', 'pydantic_monty'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
