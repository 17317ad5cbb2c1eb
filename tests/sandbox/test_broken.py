"""Code that turns against what looks after it: with signals, memory, and forged answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox.local import session
from tests.sandbox.boxes import box, processes_with
from tests.sandbox.inside import wait_until

FORGED = {
    "status": "ok",
    "stdout": "forged",
    "stderr": "",
    "note": "",
    "dropped": 0,
    "reply": {"value": "forged", "displays": [], "error": None},
}
SECOND_ANSWER = f"""
import os, time
os.write(4, b'null}}\\n' + {json.dumps(FORGED)[:-1].encode()!r} + b'\\n')
time.sleep(5)
"""
STATUS_IN_THE_REPLY = """
import os, time
try:
    time.sleep(60)
except KeyboardInterrupt:
    os.write(4, b'null, "status": "ok", "note": ""\\n')
    os.kill(os.getpid(), 19)
"""
AGAINST_ITS_KEEPER = """
import os, signal, subprocess, time
subprocess.Popen(["sleep", "{token}"], start_new_session=True)
os.kill(os.getppid(), signal.{name})
time.sleep(60)
"""
INTO_OTHERS = """
import os
def reach(pid):
    for name, mode in (("mem", os.O_RDWR), ("environ", os.O_RDONLY), ("fd", os.O_RDONLY)):
        try:
            os.close(os.open(f"/proc/{pid}/{name}", mode))
            yield f"{name} of {pid}"
        except OSError:
            pass
others = [int(name) for name in os.listdir("/proc") if name.isdigit()]
others = [pid for pid in others if pid not in (1, os.getpid())]  # 1 has no more rights than this
[found for pid in others for found in reach(pid)] if len(others) > 2 else others
"""


async def test_code_cannot_answer_for_code_that_runs_later(tmp_path: Path) -> None:
    async with box("bubblewrap", tmp_path) as sandbox:
        kept = await sandbox.session()
        for run in (kept.run, sandbox.run_code):
            assert (await run(SECOND_ANSWER)).status == "crashed"
            for _ in range(3):
                done = await run("1 + 1")
                assert (done.value, done.stdout) == ("2", "")


async def test_code_cannot_say_that_it_was_in_time(tmp_path: Path) -> None:
    async with box("bubblewrap", tmp_path) as sandbox:
        one = await sandbox.session()
        await one.run("'it is there'")
        done = await one.run(STATUS_IN_THE_REPLY, seconds=0.2)
        assert done.status == "timeout"


async def test_sessions_cannot_reach_into_each_other_or_the_guest(tmp_path: Path) -> None:
    async with box("bubblewrap", tmp_path) as sandbox:
        await (await sandbox.session()).run("secret = 1")
        assert (await (await sandbox.session()).run(INTO_OTHERS)).value == "[]"


async def test_who_kills_its_keeper_leaves_nothing(tmp_path: Path) -> None:
    token = "86411"
    async with box("bubblewrap", tmp_path) as sandbox:
        one = await sandbox.session()
        code = AGAINST_ITS_KEEPER.format(token=token, name="SIGKILL")
        assert (await one.run(code)).status == "crashed"
        wait_until(lambda: not processes_with(token), "the end of what it left")
        assert (await one.run("1")).value == "1"


@pytest.mark.slow
async def test_who_stops_its_keeper_ends_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_OVERDUE", 0.2)
    token = "86412"
    async with box("bubblewrap", tmp_path) as sandbox:
        one = await sandbox.session()
        code = AGAINST_ITS_KEEPER.format(token=token, name="SIGSTOP")
        assert (await one.run(code, seconds=0.2)).status == "crashed"
        wait_until(lambda: not processes_with(token), "the end of what it left")
        with pytest.raises(SandboxError, match="has ended"):
            await sandbox.run_code("1")
