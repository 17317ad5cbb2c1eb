"""Nothing of a sandbox outlives its end, whichever way that comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from corral.sandbox import host
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.backends.unconfined import UnconfinedBackend
from tests.sandbox.inside import Inside, wait_until

STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").close()
        while True:
            time.sleep(60)
    os._exit(0)
while not os.path.exists("daemon"):
    time.sleep(0.01)
print("ready", flush=True)
if LEAVE:
    sys.exit(7)
while True:
    pass
"""


def code(*, leave: bool = False) -> str:
    return f"LEAVE = {leave}\n{STUBBORN}"


def until_gone(inside: Inside) -> None:
    wait_until(lambda: not inside.alive(), "the end of every process inside")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_before_the_launcher_is_gone(
    inside: Inside, number: signal.Signals
) -> None:
    with inside.start(code()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(inside.alive()) >= 2
        process.send_signal(number)
        assert process.wait(timeout=15) == 128 + number
        assert not inside.alive()


def test_killing_the_launcher_ends_everything(inside: Inside) -> None:
    with inside.start(code()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        until_gone(inside)


@pytest.mark.slow
def test_killing_the_launcher_while_it_starts_leaves_nothing(inside: Inside) -> None:
    """bubblewrap alone leaves its first process behind when it is killed at the wrong moment."""
    command = (str(host.interpreter()), "-I", "-S", "-c", code(), inside.token)
    launch = inside.backend.launch(command, inside.profile())
    for step in range(24):
        with subprocess.Popen(
            launch.argv, env=dict(launch.env), stdout=subprocess.PIPE, start_new_session=True
        ) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.03 + 0.01 * step)  # a moment of its start, later each time
            os.killpg(process.pid, signal.SIGKILL)
    until_gone(inside)


def test_the_end_of_the_command_ends_its_daemon(inside: Inside) -> None:
    done = inside.run(code(leave=True))
    assert done.returncode == 7
    assert not inside.alive()


def test_the_death_of_the_parent_ends_everything(inside: Inside) -> None:
    command = (str(host.interpreter()), "-I", "-S", "-c", code(), inside.token)
    launch = inside.backend.launch(command, inside.profile())
    starter = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", starter, *launch.argv],
        env=dict(launch.env),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        parent.kill()
        until_gone(inside)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killing_the_group_as_the_mcp_client_does(inside: Inside, number: signal.Signals) -> None:
    command = (str(host.interpreter()), "-I", "-S", "-c", code(), inside.token)
    launch = inside.backend.launch(command, inside.profile())
    with subprocess.Popen(
        launch.argv,
        env=dict(launch.env),
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)
        process.wait(timeout=15)
        until_gone(inside)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 11)", 128 + 11),
    ],
)
def test_the_exit_status_is_passed_on(inside: Inside, body: str, status: int) -> None:
    assert inside.run(body).returncode == status


def test_a_sandbox_that_cannot_start_says_so(inside: Inside) -> None:
    missing = inside.folder / "no-such-bwrap"
    done = BubblewrapBackend(host.Bubblewrap(missing)).launch(("/bin/true",), inside.profile())
    ended = subprocess.run(
        done.argv, env=dict(done.env), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 125
    assert "corral-sandbox: cannot start:" in ended.stderr
    assert "no-such-bwrap" in ended.stderr


def test_without_a_sandbox_the_tree_ends_as_well(inside: Inside) -> None:
    inside.backend = UnconfinedBackend()
    with inside.start(code()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(inside.alive()) >= 2
        process.terminate()
        assert process.wait(timeout=15) == 128 + signal.SIGTERM
        assert not inside.alive()
