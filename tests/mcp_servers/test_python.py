"""The python server: a session that lasts, and ends well whatever the code does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.client import RawClient
from tests.sandbox.inside import wait_until

JUNK = """
import contextlib, os
for number in range(3, 50):
    with contextlib.suppress(OSError):
        os.write(number, b"junk\\n")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def python(folder: Path) -> Iterator[RawClient]:
    with RawClient.of("python", folder) as client:
        yield client


def run(python: RawClient, code: str, **more: Any) -> dict[str, Any]:
    structured: dict[str, Any] = python.call("run_code", code=code, **more)["structuredContent"]
    return structured


def test_what_is_printed_and_the_last_value(python: RawClient) -> None:
    assert python.text("run_code", code="print(6 * 7)") == "42"
    assert python.text("run_code", code="6 * 7") == "42"
    assert python.text("run_code", code="print('a')\n'b'") == "a\n'b'"
    assert python.text("run_code", code="x = 1") == "(no output)"
    assert python.text("run_code", code="") == "(no output)"
    assert python.text("run_code", code="_") == "'b'"
    assert run(python, "import sys; print('e', file=sys.stderr); 1") == {
        "status": "ok",
        "stdout": "",
        "stderr": "e\n",
        "value": "1",
        "error": None,
        "dropped_bytes": 0,
        "images": 0,
        "files": [],
    }


def test_the_session_lasts(python: RawClient, folder: Path) -> None:
    (folder / "mine.py").write_text("ANSWER = 42\n")
    python.text("run_code", code="import os, math\ndef double(x):\n    return 2 * x\nn = 4")
    assert python.text("run_code", code="double(n) + math.floor(2.5)") == "10"
    assert python.text("run_code", code="import mine; mine.ANSWER") == "42"
    python.text("run_code", code="os.mkdir('sub'); os.chdir('sub')")
    python.text("run_code", code="open('file', 'w').write('x')")
    assert (folder / "sub" / "file").read_text() == "x"


def test_code_sees_itself_as_the_main_module(python: RawClient) -> None:
    code = """
import json, pickle
class Point:
    pass
pickle.loads(pickle.dumps(Point())).__class__ is Point, __name__
"""
    assert python.text("run_code", code=code) == "(True, '__main__')"


def test_a_traceback_shows_the_code_and_nothing_of_ours(python: RawClient) -> None:
    text = python.fault("run_code", code="def f():\n    return 1 / 0\n\nf()\n")
    assert text.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<run 1>", line 4, in <module>',
        "    f()",
        '  File "<run 1>", line 2, in f',
        "    return 1 / 0",
        "           ~~^~~",
        "ZeroDivisionError: division by zero",
    ]
    assert python.text("run_code", code="f.__name__") == "'f'"
    syntax = python.fault("run_code", code="if:")
    assert syntax.startswith('  File "<run 3>", line 1')
    assert "SyntaxError" in syntax
    assert "kernel" not in syntax


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E"),
        ("class R:\n    def __repr__(self): raise ValueError('no')\nR()", "ValueError: no"),
        ("def f(): f()\nf()", "RecursionError"),
        ("'\\ud800'.encode()", "UnicodeEncodeError"),
        ("input()", "EOFError"),
        ("a = [1", "SyntaxError"),
        ("x = '\0'", "null bytes"),
    ],
)
def test_what_code_raises_does_not_end_the_session(
    python: RawClient, code: str, words: str
) -> None:
    python.text("run_code", code="kept = 1")
    assert words in python.fault("run_code", code=code)
    assert python.text("run_code", code="kept") == "1"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        (JUNK, ""),
        ("import os; os.closerange(0, 100)", ""),
    ],
)
def test_a_broken_interpreter_is_replaced(python: RawClient, code: str, words: str) -> None:
    python.text("run_code", code="kept = 1")
    outcome = python.call("run_code", code=code + "\nprint('after')", timeout=20)
    assert outcome["isError"]
    assert outcome["structuredContent"]["status"] == "crashed"
    assert words in outcome["content"][0]["text"]
    assert "starts with a new interpreter" in outcome["content"][0]["text"]
    assert "NameError" in python.fault("run_code", code="kept")


def test_what_was_printed_before_the_end_is_kept(python: RawClient) -> None:
    code = "import os\nprint('so far', flush=True)\nos._exit(1)"
    assert python.fault("run_code", code=code).startswith("so far\nThe interpreter ended")


@pytest.mark.slow
def test_a_time_limit_ends_the_code_and_all_that_it_started(
    python: RawClient, folder: Path
) -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open("daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists("daemon") or not open("daemon").read():
    time.sleep(0.01)
while True:
    pass
"""
    result = python.call("run_code", code=code, timeout=3)
    assert result["structuredContent"]["status"] == "timeout"
    assert "not done after 3 s" in result["content"][0]["text"]
    daemon = int((folder / "daemon").read_text())
    wait_until(lambda: not Path(f"/proc/{daemon}").exists(), "the daemon's end")
    assert python.text("run_code", code="1") == "1"


def test_a_flood_of_output_is_cut_to_its_ends(python: RawClient) -> None:
    code = "print('start')\nfor _ in range(3000): print('x' * 1000)\nprint('end')"
    outcome = run(python, code)
    assert outcome["stdout"].startswith("start\nxxx")
    assert outcome["stdout"].endswith("xxx\nend\n")
    assert len(outcome["stdout"]) < 40_000
    assert outcome["dropped_bytes"] == 6 + 3000 * 1001 + 4 - 32_768
    assert f"[... {outcome['dropped_bytes']} bytes left out ...]" in outcome["stdout"]


def test_an_endless_flood_is_stopped_in_time(python: RawClient) -> None:
    code = "while True: print('x' * 10_000)"
    outcome = run(python, code, timeout=1)
    assert outcome["status"] == "timeout"
    assert outcome["dropped_bytes"] > 0
    assert len(outcome["stdout"]) < 40_000


def test_a_huge_value_is_cut(python: RawClient) -> None:
    value = run(python, "'x' * 10**6")["value"]
    assert len(value) < 40_000
    assert "characters left out" in value


def test_a_large_piece_of_code_arrives(python: RawClient) -> None:
    assert python.text("run_code", code=f"len({'x' * 2_000_000!r})") == "2000000"


def test_a_cancelled_call_is_ended(python: RawClient, folder: Path) -> None:
    code = "open('started', 'w').close()\nwhile True: pass"
    number = python.send("tools/call", {"name": "run_code", "arguments": {"code": code}})
    wait_until((folder / "started").exists, "the code's start")
    python.notify("notifications/cancelled", {"requestId": number})
    assert python.text("run_code", code="'next'") == "'next'"


def test_calls_wait_for_each_other(python: RawClient) -> None:
    python.text("run_code", code="seen = []")
    codes = [f"import time; time.sleep(0.05); seen.append({n})" for n in range(4)]
    sent = [
        python.send("tools/call", {"name": "run_code", "arguments": {"code": code}})
        for code in codes
    ]
    assert {python.receive()["id"] for _ in sent} == set(sent)
    assert python.text("run_code", code="sorted(seen)") == "[0, 1, 2, 3]"


def test_the_end_of_the_server_ends_the_interpreter(python: RawClient) -> None:
    kernel = int(python.text("run_code", code="import os; os.getpid()"))
    os.kill(kernel, 0)
    assert python.process.stdin is not None
    python.process.stdin.close()
    assert python.process.wait(20) == 0
    wait_until(lambda: not Path(f"/proc/{kernel}").exists(), "the interpreter's end")


def test_the_declaration_tells_the_truth(python: RawClient) -> None:
    tools = {tool["name"]: tool for tool in python.request("tools/list")["result"]["tools"]}
    assert set(tools) == {"run_code", "restart_session", "list_sessions", "install_packages"}
    assert tools["list_sessions"]["annotations"]["readOnlyHint"]
    assert tools["install_packages"]["annotations"]["openWorldHint"]
    assert tools["run_code"]["annotations"] == {
        "title": "Run Python code",
        "readOnlyHint": False,
        "destructiveHint": True,
        "idempotentHint": False,
        "openWorldHint": False,
    }
    assert "at most 600" in python.fault("run_code", code="1", timeout=601)
