"""The synchronous façade: plain code, threads, an early exit, Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import corral
from corral.errors import ConflictError, UsageError
from corral.runtime.config import Settings
from corral.runtime.events import RunFinished, TextDelta
from tests.runtime.agents import Ledger, scripted, turn


def test_a_run_with_an_approval_from_plain_code(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted([turn("Pay.", pay={"amount": 2}), turn("Paid.")], *ledger.tools())
    options = corral.RunOptions(agent=agent)
    with corral.open_sync(settings) as c:
        paused = c.run("Pay.", options)
        assert [a.tool for a in c.approvals()] == ["functions__pay"]
        c.approve(paused.approvals[0].id)
        done = c.resume(paused.run, options)
        assert (done.status, done.output, ledger.paid) == ("completed", "Paid.", [2])
        assert c.replay(done.run).status == "identical"
        assert [run.run for run in c.runs()] == [done.run]
        assert c.trace(done.run)
        with pytest.raises(ConflictError, match="completed"):
            c.resume(done.run, options)
        with pytest.raises(UsageError, match="empty"):
            c.run(" ")


def test_inside_a_running_event_loop_as_well(settings: Settings) -> None:
    async def main() -> str:
        with corral.open_sync(settings) as c:
            return c.run("Hi.", corral.RunOptions(agent=scripted([turn("Hello.")]))).output

    assert asyncio.run(main()) == "Hello."


def test_a_value_of_a_type_from_plain_code(settings: Settings) -> None:
    answers = [turn('{"answer": "many"}'), turn('{"answer": [1, 2]}')]
    options = corral.RunOptions(agent=scripted(answers))
    with corral.open_sync(settings) as c:
        assert c.extract(list[int], "Which?", options) == [1, 2]
        assert [run.steps for run in c.runs()] == [2]
        with pytest.raises(UsageError, match="JSON Schema"):
            c.extract(threading.Thread, "Which?", options)


def test_leaving_a_stream_early_stops_its_run(settings: Settings) -> None:
    threads = set(threading.enumerate())
    options = corral.RunOptions(agent=scripted([turn("A long answer."), turn("x")]))
    with corral.open_sync(settings) as c:
        for event in c.stream("Talk.", options):
            if isinstance(event, TextDelta):
                break
        (run,) = c.runs()
        assert run.status in ("stopped", "failed")
        events = c.stream("Talk.", options)
        next(events)
    with corral.open_sync(settings) as c:
        assert {run.status for run in c.runs()} <= {"stopped", "failed"}
    with pytest.raises(UsageError, match="closed"):
        next(events)
    with pytest.raises(UsageError, match="closed"):
        c.runs()
    assert set(threading.enumerate()) <= threads


def test_two_threads_use_one_corral(settings: Settings) -> None:
    def ask(n: int) -> str:
        options = corral.RunOptions(agent=scripted([turn(f"Answer {n}.")]))
        last = list(c.stream(f"{n}", options))[-1]
        assert isinstance(last, RunFinished)
        return last.result.output

    with corral.open_sync(settings) as c, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == [f"Answer {n}." for n in range(12)]


PROGRAM = """
import sys, corral
from corral.runtime.models.contract import TextChunk

class Endless:
    name, context_window = "endless", 8000
    async def stream(self, request):
        import asyncio
        while True:
            yield TextChunk("and ")
            await asyncio.sleep(0.001)
    def check_complete(self, turns): pass
    async def aclose(self): pass

agent = corral.Agent(servers=(), chat_model=Endless(), facts=0)
options = corral.RunOptions(agent=agent)
with corral.open_sync() as c:
    try:
        if sys.argv[1] == "stream":
            for event in c.stream("Talk.", options):
                print(event.to_json()["type"], flush=True)
        else:
            print("text", flush=True)
            c.run("Talk.", options)
    except KeyboardInterrupt:
        print("interrupted", [run.status for run in c.runs()], flush=True)
print("closed", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stream", "run"])
def test_ctrl_c_stops_the_run_and_the_program_goes_on(
    settings: Settings, tmp_path: Path, how: str
) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=tmp_path,
    ) as program:
        assert program.stdout is not None
        while program.stdout.readline().strip() != "text":
            assert program.poll() is None, program.stderr and program.stderr.read()
        if how == "run":
            wait_for_a_run(settings)
        program.send_signal(signal.SIGINT)
        out, errors = program.communicate(timeout=60)
    told = [line for line in out.splitlines() if line != "text"]
    assert told == ["interrupted ['stopped']", "closed"], errors
    assert errors == ""
    assert program.returncode == 0


def wait_for_a_run(settings: Settings) -> None:
    deadline = time.monotonic() + 30
    with corral.open_sync(settings) as c:
        while not c.runs():
            assert time.monotonic() < deadline
