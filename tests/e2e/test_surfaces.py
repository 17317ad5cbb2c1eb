"""What else the command line offers: memory, MCP servers, the doctor, evaluations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.e2e.shell import ROOT, Shell, processes_with, turn, until

ARITHMETIC = ROOT / "examples" / "evals" / "arithmetic.yaml"
FACT = "The user's cat is called Pangur."


def test_a_fact_is_remembered_reaches_the_next_prompt_and_is_forgotten(shell: Shell) -> None:
    keep = shell.model("keep", turn("Noted.", memory__remember={"fact": FACT}), turn("I will."))
    asked = shell.quick("run", "My cat is Pangur", "--json", "--model", keep)
    assert asked.code == 3, "a change of the memory is asked about"
    assert shell.quick("approve", "last").code == 0
    assert shell.quick("resume", "last").code == 0
    (fact,) = shell.quick("memory", "list", "--json").lines
    assert fact["text"] == FACT
    assert "Pangur" in shell.quick("memory", "list").out

    look = shell.model("look", turn("Pangur, of course."))
    recalled = shell.quick("run", "What is my cat called?", "--json", "--model", look)
    assert recalled.code == 0, recalled.err
    (call,) = shell.trace(recalled.last["run"], "model")
    notes = call["request"]["messages"][-2]
    assert notes["type"] == "human", "before the prompt, so that the beginning stays the same"
    assert FACT in notes["content"]

    assert shell.quick("memory", "forget", fact["id"]).code == 0
    assert shell.quick("memory", "list", "--json").out == ""
    again = shell.quick("memory", "forget", fact["id"])
    again.says(fact["id"])
    assert again.code == 2
    forgotten = shell.quick("run", "What is my cat called?", "--json", "--model", look)
    (call,) = shell.trace(forgotten.last["run"], "model")
    assert FACT not in json.dumps(call)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_our_files_are_served_to_any_mcp_client(shell: Shell) -> None:
    listed = shell.quick("mcp", "list", "--json")
    assert listed.code == 0, listed.err
    tools = {server["name"]: {tool["tool"] for tool in server["tools"]} for server in listed.lines}
    files = {"list_directory", "tree", "read_file", "search_files", "write_file", "edit_file"}
    files |= {"apply_patch", "move", "delete", "restore", "list_trash"}
    sessions = {"run_code", "restart_session", "list_sessions", "install_packages"}
    assert (tools["files"], tools["python"]) == (files, sessions)

    command, *args = shell.argv("mcp", "serve", "files")
    server = StdioServerParameters(
        command=command, args=args, env=dict(shell.env), cwd=shell.workspace
    )
    async with Client(server) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == files
        read = await client.call_tool("read_file", {"path": "orders.csv"})
        assert not read.is_error
        assert "2,32" in read.model_dump_json()
        written = await client.call_tool("write_file", {"path": "new.txt", "content": "new"})
        assert not written.is_error
        for path in ("../escape.txt", "/etc/passwd"):
            outside = await client.call_tool("read_file", {"path": path})
            assert outside.is_error
    assert (shell.workspace / "new.txt").read_text() == "new"
    until(lambda: processes_with(str(shell.workspace)) == [])


def test_the_doctor_says_what_is_fine_and_what_is_missing(shell: Shell) -> None:
    healthy = shell.quick("doctor", "--json")
    assert healthy.code == 0, healthy.out
    checks = {check["name"]: check["status"] for check in healthy.lines}
    for name in ("config", "workspace", "model", "sandbox", "database", "disk", "keys"):
        assert checks[name] == "ok" or name == "disk"
    shell.configure('model = "openai:gpt-4o-mini"\n')
    poor = shell.quick("doctor")
    assert poor.code == 1
    assert "OPENAI_API_KEY" in poor.out
    nowhere = shell.under(PATH="/nowhere", CORRAL_SANDBOX="bubblewrap").quick("doctor", "--json")
    assert all(check["status"] != "fail" or check["fix"] for check in nowhere.lines)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_evaluation_has_a_threshold(shell: Shell, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = shell.quick("eval", "run", str(ARITHMETIC), "--out", str(report))
    assert done.code == 0, done.err
    assert all(case in done.out for case in ("product", "sum-of-a-file", "no-tool-needed"))
    told = json.loads(report.read_text())
    assert (told["passed"], told["pass_rate"]) == (True, 1)

    wrong = shell.model("wrong", turn("7006652, I guess."))
    failed = shell.quick("eval", "run", str(ARITHMETIC), "--model", wrong, "--json")
    assert failed.code == 1
    assert failed.last["passed"] is False
    assert shell.runs() == [], "evaluations leave no runs behind"
    for text, word in (("name: [", "set.yaml"), ("name: x\ncasse: []\n", "cases")):
        (shell.workspace / "set.yaml").write_text(text)
        broken = shell.quick("eval", "run", "set.yaml")
        broken.says(word)
        assert broken.code == 2
