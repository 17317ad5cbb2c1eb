"""Sessions of the python server: several at once, interrupts, displays, fresh runs, packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.client import ENVELOPE, FOLDER, RawClient
from tests.sandbox.inside import wait_until

SPIN = "open('started', 'w').close()\nwhile True: pass"
STUBBORN = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
PICTURE = """
class Picture:
    def _repr_png_(self):
        return b"\\x89PNG picture"
"""
PLOTS = """
import sys, types
plots = types.ModuleType("matplotlib.pyplot")
plots.open = [1, 2]
class Figure:
    def savefig(self, buffer, format, dpi, bbox_inches):
        buffer.write(b"\\x89PNG plot")
plots.get_fignums = lambda: plots.open
plots.figure = lambda number: Figure()
plots.close = lambda which: plots.open.clear()
sys.modules["matplotlib.pyplot"] = plots
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


def configured(folder: Path, **config: Any) -> RawClient:
    start = [sys.executable, "-I", "-S", str(FOLDER), "python"]
    return RawClient([*start, "--root", str(folder), "--config", json.dumps(config)])


class TestInterrupts:
    def test_a_time_limit_keeps_what_was_defined(self, python: RawClient) -> None:
        python.text("run_code", code="kept = 1")
        result = python.call("run_code", code="late = 2\nwhile True: pass", timeout=0.3)
        assert result["structuredContent"]["status"] == "timeout"
        text = result["content"][0]["text"]
        assert "line 2, in <module>" in text
        assert "not done after 0.3 s and was interrupted" in text
        assert "kernel" not in text
        assert python.text("run_code", code="kept + late") == "3"

    def test_code_that_ignores_it_is_killed(self, python: RawClient) -> None:
        python.text("run_code", code="kept = 1")
        result = python.call("run_code", code=STUBBORN, timeout=0.2)
        assert result["structuredContent"]["status"] == "timeout"
        assert "Its variables are gone" in result["content"][0]["text"]
        assert "NameError" in python.fault("run_code", code="kept")

    def test_a_cancelled_call_keeps_what_was_defined(self, python: RawClient, folder: Path) -> None:
        python.text("run_code", code="kept = 1")
        number = python.send("tools/call", {"name": "run_code", "arguments": {"code": SPIN}})
        wait_until((folder / "started").exists, "the code's start")
        python.notify("notifications/cancelled", {"requestId": number})
        assert python.text("run_code", code="kept") == "1"

    def test_an_awaiting_call_is_interrupted_too(self, python: RawClient) -> None:
        code = "import asyncio\nawait asyncio.sleep(600)"
        result = python.call("run_code", code=code, timeout=0.5)
        assert result["structuredContent"]["status"] == "timeout"
        assert python.text("run_code", code="await asyncio.sleep(0, 'still here')") == (
            "'still here'"
        )


class TestNames:
    def test_each_session_has_variables_of_its_own(self, python: RawClient) -> None:
        python.text("run_code", code="x = 1")
        python.text("run_code", code="x = 2", session="other")
        assert python.text("run_code", code="x") == "1"
        assert python.text("run_code", code="x", session="other") == "2"
        found = python.call("list_sessions")["structuredContent"]["sessions"]
        assert found == [
            {"session": "main", "runs": 2, "busy": False},
            {"session": "other", "runs": 2, "busy": False},
        ]

    def test_one_runs_while_another_waits(self, python: RawClient) -> None:
        waiting = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n'gone on'"
        codes = {"slow": waiting, "quick": "open('go', 'w').close(); 'quick'"}
        sent = {
            python.send(
                "tools/call", {"name": "run_code", "arguments": {"code": code, "session": name}}
            ): name
            for name, code in codes.items()
        }
        answers = [python.receive() for _ in sent]
        values = {sent[one["id"]]: one["result"]["structuredContent"]["value"] for one in answers}
        assert values == {"slow": "'gone on'", "quick": "'quick'"}

    def test_there_is_a_bound(self, python: RawClient) -> None:
        for number in range(8):
            python.text("run_code", code="1", session=f"s{number}")
        assert "restart_session" in python.fault("run_code", code="1", session="one more")
        python.text("restart_session", session="s3")
        python.text("run_code", code="1", session="one more")

    @pytest.mark.parametrize("name", ["", "x" * 41, "a\nb"])
    def test_a_name_is_checked(self, python: RawClient, name: str) -> None:
        assert "name" in python.fault("run_code", code="1", session=name)

    def test_a_restart_forgets_and_ends_what_runs(self, python: RawClient, folder: Path) -> None:
        number = python.send("tools/call", {"name": "run_code", "arguments": {"code": SPIN}})
        wait_until((folder / "started").exists, "the code's start")
        restart = python.send("tools/call", {"name": "restart_session", "arguments": {}})
        answers = {
            message["id"]: message["result"] for message in (python.receive(), python.receive())
        }
        assert answers[number]["structuredContent"]["status"] == "crashed"
        assert not answers[restart].get("isError")
        assert python.fault("restart_session", session="never") == "There is no session 'never'."


class TestFreshRuns:
    def test_nothing_comes_in_and_nothing_stays(self, python: RawClient) -> None:
        python.text("run_code", code="x = 1")
        for _ in range(3):
            assert "NameError" in python.fault("run_code", code="x", fresh=True)
            python.text("run_code", code="x = y = 2", fresh=True)
            assert "NameError" in python.fault("run_code", code="y", fresh=True)
        assert python.text("run_code", code="x") == "1"

    def test_a_broken_one_is_replaced(self, python: RawClient) -> None:
        assert "killed by SIGKILL" in python.fault(
            "run_code", code="import os; os.kill(os.getpid(), 9)", fresh=True
        )
        assert python.text("run_code", code="1", fresh=True) == "1"


class TestDisplays:
    def test_an_image(self, python: RawClient) -> None:
        result = python.call("run_code", code=PICTURE + "Picture()")
        image = result["content"][1]
        assert image["type"] == "image"
        assert image["mimeType"] == "image/png"
        assert result["structuredContent"]["images"] == 1

    def test_plots_are_shown_once_and_closed(self, python: RawClient) -> None:
        result = python.call("run_code", code=PLOTS)
        assert [block["type"] for block in result["content"]] == ["text", "image", "image"]
        assert len(python.call("run_code", code="1")["content"]) == 1

    def test_one_that_is_too_large_is_left_out(self, python: RawClient) -> None:
        code = PICTURE.replace('picture"', '" + bytes(3_000_000)') + "Picture()"
        result = python.call("run_code", code=code)
        assert len(result["content"]) == 1
        assert "Picture object" in result["content"][0]["text"]

    def test_display_in_the_middle(self, python: RawClient) -> None:
        code = PICTURE + "display(Picture(), 5)\nprint('end')"
        result = python.call("run_code", code=code)
        assert result["content"][0]["text"] == "5\nend"
        assert result["content"][1]["type"] == "image"

    def test_a_method_that_fails_is_an_error_of_the_code(self, python: RawClient) -> None:
        code = "class Bad:\n    def _repr_html_(self): return 1 / 0\nBad()"
        assert "ZeroDivisionError" in python.fault("run_code", code=code)

    def test_an_object_that_answers_to_every_name_is_no_display(self, python: RawClient) -> None:
        code = "from unittest.mock import MagicMock\nrepr(MagicMock()) and MagicMock(name='m')"
        assert python.text("run_code", code=code).startswith("<MagicMock")


def test_input_says_that_nobody_is_there(python: RawClient) -> None:
    text = python.fault("run_code", code="name = input('Name? ')")
    assert text.splitlines()[-1] == (
        "EOFError: input() has nobody to ask here; put the value into the code"
    )
    assert "kernel" not in text


def test_code_awaits_at_top_level(python: RawClient) -> None:
    code = "import asyncio\nx = await asyncio.sleep(0, 40)\nawait asyncio.sleep(0, x + 2)"
    assert python.text("run_code", code=code) == "42"
    fault = python.fault("run_code", code="async def f(): 1 / 0\nawait f()")
    assert fault.splitlines()[:2] == [
        "Traceback (most recent call last):",
        '  File "<run 2>", line 2, in <module>',
    ]


def test_a_fork_of_the_code_answers_nothing(python: RawClient) -> None:
    python.text("run_code", code="import os\nchild = os.fork()")
    assert python.text("run_code", code="os.waitpid(child, 0)[0] == child") == "True"


def test_causes_are_shown_without_our_frames(python: RawClient) -> None:
    code = "try:\n    input()\nexcept EOFError as error:\n    raise ValueError('no') from error"
    text = python.fault("run_code", code=code)
    assert "direct cause" in text
    assert "ValueError: no" in text
    assert "kernel.py" not in text


def test_an_interpreter_that_ended_between_calls_is_told_of(
    python: RawClient, folder: Path
) -> None:
    code = "import os, threading\nthreading.Timer(0.05, os._exit, [3]).start()\nos.getpid()"
    pid = python.text("run_code", code=code)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its end")
    result = python.call("run_code", code="'new'")
    text = result["content"][0]["text"]
    assert text.startswith("'new'")
    assert "had ended since (exit status 3)" in text


def test_files_that_were_written_are_named(python: RawClient, folder: Path) -> None:
    (folder / "old").write_text("x")
    code = "import os\nos.makedirs('d/e')\nopen('d/e/new', 'w').close()\nopen('odd\\nname', 'w')"
    wait_until(
        lambda: python.call("run_code", code="1")["structuredContent"]["files"] == [], "a tick"
    )
    result = python.call("run_code", code=code)
    assert sorted(result["structuredContent"]["files"]) == ["'odd\\nname'", "d/e/new"]
    assert "[files written: " in result["content"][0]["text"]


def test_output_is_told_as_progress(python: RawClient) -> None:
    code = "import time\nfor n in range(3):\n    print('step', n)\n    time.sleep(0.15)"
    params = {"name": "run_code", "arguments": {"code": code}}
    envelope = {**params, "_meta": {**ENVELOPE, "progressToken": "t"}}
    message = {"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": envelope}
    python.write(json.dumps(message).encode() + b"\n")
    told = []
    while "result" not in (received := python.receive()):
        assert received["method"] == "notifications/progress"
        told.append(received["params"]["message"])
    assert told[0] == "step 0\n"
    assert received["result"]["content"][0]["text"] == "step 0\nstep 1\nstep 2"


class TestPackages:
    def layer(self, home: Path, name: str, *requested: str) -> Path:
        folder = home / name
        (folder / "shapes").mkdir(parents=True)
        (folder / "shapes" / "__init__.py").write_text(f"WHERE = {name!r}")
        python = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"
        record = {"requested": requested, "installed": {"shapes": "1.0"}, "python": python}
        (folder / "layer.json").write_text(json.dumps(record))
        return folder

    def test_a_layer_is_imported_from_at_once(self, folder: Path, tmp_path: Path) -> None:
        home = tmp_path / "packages"
        home.mkdir()
        with configured(folder, packages_home=str(home), allowed=["shapes"]) as python:
            python.text("run_code", code="kept = 1")
            says = python.fault("run_code", code="import shapes.round")
            assert says.endswith("install_packages can make it importable.")
            assert "install_packages" not in python.fault("run_code", code="import nothing")
            refused = python.fault("install_packages", packages=["nothing"])
            assert "nothing is not allowed" in refused
            assert "corral packages install" not in refused
            assert "corral packages install shapes" in python.fault(
                "install_packages", packages=["shapes"]
            )
            self.layer(home, "one", "shapes", "other")
            text = python.text("install_packages", packages=["Shapes"])
            assert "shapes 1.0" in text
            assert python.text("run_code", code="import shapes; kept, shapes.WHERE") == "(1, 'one')"
            assert python.text("run_code", code="import shapes; 1", fresh=True) == "1"

    def test_the_one_of_the_settings_is_there_from_the_start(
        self, folder: Path, tmp_path: Path
    ) -> None:
        one = self.layer(tmp_path, "one", "shapes")
        config = {"packages_home": str(tmp_path), "packages": str(one), "preload": ["shapes"]}
        with configured(folder, **config) as python:
            code = "import sys; 'shapes' in sys.modules, __import__('shapes').WHERE"
            assert python.text("run_code", code=code) == "(True, 'one')"

    def test_without_any_it_says_so(self, python: RawClient) -> None:
        assert "no packages are allowed" in python.fault("install_packages", packages=["x"])
