"""The idempotency key that a tool server is given: the same on every attempt of a call."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.shell import ROOT, Shell, turn, until

LEDGER = ROOT / "bench" / "_ledger.py"


@contextlib.contextmanager
def http_server(log: Path) -> Iterator[str]:
    """The address of a server of its own, which outlives whoever calls it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-SE", str(LEDGER), str(log), str(port)])
    try:
        until(lambda: listens(port))
        yield f'url = "http://127.0.0.1:{port}/mcp"\n'
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def stdio_server(log: Path) -> Iterator[str]:
    """How Corral starts one itself."""
    yield f'command = "{sys.executable}"\nargs = ["-SE", "{LEDGER}", "{log}"]\nsandbox = false\n'


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("serve", [stdio_server, http_server])
def test_every_attempt_of_a_call_has_the_same_key(shell: Shell, serve: type) -> None:
    """Killed in two calls: one may be made again, the other only when a human says so."""
    log = shell.home.parent / "ledger.log"
    config = shell.home.parent / "config" / "corral" / "config.toml"
    config.parent.mkdir(parents=True)
    model = shell.model(
        "payer",
        turn("First.", ledger__pay={"what": "rent"}),
        turn(
            "Both.",
            ledger__pay={"what": "power", "stall": 60},
            ledger__put={"what": "note", "stall": 60},
        ),
        turn("All is paid."),
    )
    with serve(log) as where:
        config.write_text(
            f"[mcp.ledger]\n{where}trust = true\n"
            '[agents.assistant]\nservers = ["ledger"]\nfacts = 0\n'
            '[[rules]]\ntool = "ledger__*"\naction = "allow"\n'
        )
        process = shell.start("run", "Pay.", "--json", "--model", model)
        try:
            until(lambda: len(calls(log)) == 3)  # written down, and not answered yet
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        asked = shell.quick("resume", "last")
        assert asked.code == 3, asked.err
        (question,) = shell.quick("approvals", "--json").lines
        assert (question["kind"], question["args"]["what"]) == ("in_doubt", "power")
        assert shell.quick("approve", question["id"]).code == 0
        done = shell.quick("resume", "last", "--json")
        assert (done.code, done.last["output"]) == (0, "All is paid."), done.err

    made = calls(log)
    assert sorted(what for what, _ in made) == ["note", "note", "power", "power", "rent"]
    keys = dict(made)
    assert len(set(keys.values())) == 3, "each call has a key of its own"
    assert set(made) == set(keys.items()), "and the same one on both attempts"
    run = shell.runs()[0]["run"]
    assert all(key.startswith(run) for key in keys.values())


def calls(log: Path) -> list[tuple[str, str]]:
    """What was done, with the key that came with it."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line["what"], line["key"]) for line in map(json.loads, lines)]
