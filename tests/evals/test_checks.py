from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from corral.evals.checks import CHECKS, AnyCheck, Check
from corral.evals.grading import CaseOutcome, Evidence
from corral.runtime.views import EffectView, RunResult, RunStatus, Totals

READ: TypeAdapter[Check] = TypeAdapter(AnyCheck)


def call(name: str, args: dict[str, Any], *, failed: bool = False, status: str = "finished") -> Any:
    return EffectView(
        seq=1,
        kind="tool",
        name=name,
        status=status,
        request={"tool": name, "args": args},
        result={"text": "", "is_error": failed} if status == "finished" else None,
        started_at="",
        duration_ms=1.0,
        input_tokens=0,
        output_tokens=0,
        cost_usd=0.0,
        path="tools",
    )


CALLS = [
    call("files__read_file", {"path": "a.txt", "options": {"lines": [1, 2], "raw": True}}),
    call("files__read_file", {"path": "b.txt"}, failed=True),
    call("files__write_file", {"path": "c.txt"}, status="waiting"),
]


def evidence(
    output: str = "", workspace: Path = Path("/nonexistent"), status: RunStatus = "completed"
) -> Evidence:
    result = RunResult("r", "t", status, output, Totals(90, 10), 3, error="it broke")
    return Evidence(CaseOutcome(result, CALLS), workspace)


def why(check: dict[str, Any], found: Evidence) -> str | None:
    return READ.validate_python(check).failure(found)


ANSWERS: list[tuple[dict[str, Any], str, bool]] = [
    ({"equals": "42"}, " 42\n", True),
    ({"equals": 42}, "42", True),
    ({"equals": "42"}, "42.", False),
    ({"equals": "Yes", "ignore_case": True}, "yES", True),
    ({"equals": "Yes"}, "yes", False),
    ({"contains": "hay"}, "buy hay", True),
    ({"contains": ["hay", "oats"]}, "buy hay", False),
    ({"contains": {"all": ["hay", "oats"]}}, "oats, hay", True),
    ({"contains": {"any": ["hay", "oats"]}}, "buy hay", True),
    ({"contains": {"any": ["rope", "oats"]}}, "buy hay", False),
    ({"contains": {"any": ["rope", "hay"], "all": ["buy", "now"]}}, "buy hay", False),
    ({"contains": "STRASSE", "ignore_case": True}, "Hauptstraße", True),
    ({"not_contains": "sorry"}, "Sorry, no", True),
    ({"not_contains": "sorry", "ignore_case": True}, "Sorry, no", False),
    ({"not_contains": ["a", "b"]}, "b", False),
    ({"regex": r"^\d+ bales$"}, "We need:\n12 bales", True),
    ({"regex": r"^\d+ bales$"}, "12 bales, please", False),
    ({"json_equals": {"a": 1, "b": [True]}}, '{"b": [true], "a": 1.0}', True),
    ({"json_equals": {"a": 1}}, '{"a": true}', False),
    ({"json_equals": {"a": 1}}, '{"a": 1, "b": 2}', False),
    ({"json_equals": {"a": 1}}, 'Here:\n```json\n{"a": 1}\n```', True),
    ({"json_equals": [1, 2]}, "[1, 2, 3]", False),
    ({"json_equals": None}, "null", True),
    ({"json_equals": {"a": 1}}, "none at all {", False),
    ({"json_path": {"path": "$.a[1].b", "equals": "x"}}, '{"a": [0, {"b": "x"}]}', True),
    ({"json_path": {"path": "a[1]", "equals": "x"}}, '{"a": [0]}', False),
    ({"json_path": {"path": '$["a b"]', "equals": 0}}, '{"a b": 0}', True),
    ({"json_path": {"path": "$.a"}}, '{"a": 0}', True),
    ({"json_path": {"path": "$.a"}}, '{"a": null}', False),
    ({"json_path": {"path": "$.a", "equals": None}}, '{"a": null}', True),
    ({"json_path": {"path": "$.a"}}, '["a"]', False),
    ({"numeric": 7006652}, "1234 x 5678 is 7,006,652.", True),
    ({"numeric": {"value": -0.5, "tolerance": 0.01}}, "about -0.505", True),
    ({"numeric": {"value": -0.5}}, "about -0.505", False),
    ({"numeric": 12}, "12 of 30", False),
    ({"numeric": {"value": 12, "pick": "first"}}, "12 of 30", True),
    ({"numeric": {"value": 30, "pick": "any"}}, "12 of 30 or 7", True),
    ({"numeric": 3}, "version v3 of e5", False),
    ({"numeric": -5}, "it is \u22125 outside", True),
    ({"numeric": 2000}, "2e3", True),
    ({"numeric": 2}, "5-3=2", True),
]


@pytest.mark.parametrize(("check", "output", "holds"), ANSWERS)
def test_checks_of_the_answer(check: dict[str, Any], output: str, holds: bool) -> None:
    assert (why(check, evidence(output)) is None) == holds


RUNS: list[tuple[dict[str, Any], bool]] = [
    ({"tool_called": "files__read_file"}, True),
    ({"tool_called": {"name": "files__read_file", "times": 2}}, True),
    ({"tool_called": {"name": "files__read_file", "times": 1}}, False),
    ({"tool_called": {"name": "files__read_file", "times": 1, "ok": True}}, True),
    ({"tool_called": {"name": "files__read_file", "args": {"path": "a.txt"}, "times": 1}}, True),
    ({"tool_called": {"name": "files__read_file", "args": {"options": {"raw": True}}}}, True),
    ({"tool_called": {"name": "files__read_file", "args": {"options": {"raw": 1}}}}, False),
    ({"tool_called": {"name": "files__read_file", "args": {"path": "c.txt"}}}, False),
    ({"tool_called": {"name": "files__write_file", "ok": False}}, True),
    ({"tool_called": {"name": "files__write_file", "ok": True}}, False),
    ({"tool_called": {"name": "python__run_code", "times": 0}}, True),
    ({"tool_not_called": "python__run_code"}, True),
    ({"tool_not_called": ["python__run_code", "files__write_file"]}, False),
    ({"status": "completed"}, True),
    ({"status": "paused"}, False),
    ({"max_steps": 3}, True),
    ({"max_steps": 2}, False),
    ({"max_tokens": 100}, True),
    ({"max_tokens": 99}, False),
]


@pytest.mark.parametrize(("check", "holds"), RUNS)
def test_checks_of_the_run(check: dict[str, Any], holds: bool) -> None:
    assert (why(check, evidence()) is None) == holds


def test_every_check_is_tried_and_says_why() -> None:
    made = [check for check, _, _ in ANSWERS] + [check for check, _ in RUNS]
    tried = {key for check in made for key in check} | {"file_contains"}
    assert {check.key for check in CHECKS} <= tried
    assert why({"equals": "x"}, evidence("y" * 999)) == f'the answer is "{"y" * 118}…'
    assert why({"status": "paused"}, evidence(status="failed")) == ('the run is failed: "it broke"')
    reason = why({"tool_called": "python__run_code"}, evidence())
    assert reason is not None
    assert reason.startswith("called 0 times; calls made: ")
    assert READ.validate_python({"numeric": 4}).label == 'numeric: {"value":4.0}'


def test_files_that_the_agent_left(tmp_path: Path) -> None:
    workspace = tmp_path / "work"
    (workspace / "sub").mkdir(parents=True)
    (workspace / "sub" / "a.txt").write_text("total: 219\n")
    (tmp_path / "secret.txt").write_text("total: 219\n")
    (workspace / "link.txt").symlink_to(tmp_path / "secret.txt")
    (workspace / "loop").symlink_to(workspace / "loop")
    os.mkfifo(workspace / "pipe")
    found = evidence(workspace=workspace)

    def contains(path: str, text: Any) -> bool:
        return why({"file_contains": {"path": path, "text": text}}, found) is None

    assert contains("sub/a.txt", "219")
    assert contains("sub/a.txt", ["total", "219"])
    assert contains("sub/a.txt", {"any": ["x", "219"]})
    assert not contains("sub/a.txt", "220")
    for path in ("nope.txt", "link.txt", "../secret.txt", "loop", "pipe", "sub", "a\0b"):
        assert not contains(path, "219")
