"""Tool servers, memory, evaluations and the doctor, from the shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from corral.errors import SandboxError
from corral.sandbox.registry import BACKENDS
from tests.cli.place import Place

EXAMPLE = Path(__file__).parents[2] / "examples" / "evals" / "arithmetic.yaml"


def test_servers_are_listed_with_tools_and_problems(place: Place) -> None:
    fine = place.corral("mcp", "list", "--json")
    assert fine.code == 0, fine.err
    names = {server["name"]: [tool["tool"] for tool in server["tools"]] for server in fine.lines}
    assert "run_code" in names["python"]
    assert {"read_file", "write_file"} <= set(names["files"])

    (place.workspace / "corral.toml").write_text('[mcp.gone]\ncommand = "/no/such/server"\n')
    broken = place.corral("mcp", "list")
    assert broken.code == 1
    assert "gone" in broken.out
    assert "read_file" in broken.out
    assert "Traceback" not in broken.out + broken.err


def test_a_server_of_ours_speaks_mcp_on_stdio(place: Place) -> None:
    process = subprocess.Popen(
        place.command("mcp", "serve", "files"),
        env=place.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def send(**message: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()

    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    send(id=1, method="initialize", params=hello)
    assert json.loads(process.stdout.readline())["id"] == 1
    send(method="notifications/initialized")
    send(
        id=2, method="tools/call", params={"name": "read_file", "arguments": {"path": "orders.csv"}}
    )
    answer = json.loads(process.stdout.readline())
    assert "1,10" in answer["result"]["content"][0]["text"]
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_facts_are_listed_and_forgotten(place: Place) -> None:
    script = place.scripts / "remember.yaml"
    call = {"name": "memory__remember", "args": {"fact": "The user likes green tea."}}
    script.write_text(json.dumps([{"tool_calls": [call]}, {"text": "I will remember."}]))
    rules = place.scripts / "policy.toml"
    rules.write_text('[[rules]]\ntool = "memory__*"\naction = "allow"\n')
    done = place.corral("run", "Tea!", "--model", f"scripted:{script}", "--policy", str(rules))
    assert done.code == 0, done.err
    (fact,) = place.corral("memory", "list", "--json").lines
    assert "green tea" in fact["text"]
    assert "green tea" in place.corral("memory", "list").out
    assert place.corral("memory", "forget", fact["id"][:6]).code == 0
    assert place.corral("memory", "list", "--json").lines == []
    assert place.corral("memory", "forget", fact["id"]).code == 2


def test_an_evaluation_prints_a_table_writes_json_and_has_a_threshold(place: Place) -> None:
    report = place.home.parent / "report.json"
    done = place.corral("eval", "run", str(EXAMPLE), "--out", str(report))
    assert done.code == 0, done.err
    assert "product" in done.out
    assert json.loads(report.read_text())["passed"] is True

    poor = place.workspace / "poor.yaml"
    poor.write_text(
        f"name: poor\nthreshold: 1.0\nmodel: {place.model('hello')}\n"
        "cases:\n  - {id: greets, prompt: Hi, expect: [{contains: Goodbye}]}\n"
    )
    failed = place.corral("eval", "run", str(poor), "--json")
    assert failed.code == 1
    (told,) = failed.lines
    assert (told["passed"], told["pass_rate"]) == (False, 0)
    assert place.corral("eval", "run", "none.yaml").code == 2


def test_the_doctor_checks_everything_and_says_no_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-value")
    healthy = place.corral("doctor", "--json")
    checks = {check["name"]: check for check in healthy.lines}
    assert {"config", "workspace", "model", "sandbox", "database", "disk", "keys"} <= set(checks)
    assert healthy.code == 0, healthy.out
    assert all(check["status"] in {"ok", "none", "warn"} for check in healthy.lines)
    shown = place.corral("doctor").out
    assert "OPENAI_API_KEY is set" in shown
    assert "very-secret" not in shown + healthy.out

    monkeypatch.setenv("CORRAL_MODEL", "anthropic:claude-sonnet-4-5")
    missing = place.corral("doctor")
    assert missing.code == 1
    assert "ANTHROPIC_API_KEY" in missing.out

    monkeypatch.setenv("CORRAL_MODEL", "scripted:none.yaml")
    (place.home / "corral.db").write_bytes(b"garbage" * 1000)
    sick = place.corral("doctor", "--json")
    assert sick.code == 1
    failed = {check["name"]: check for check in sick.lines if check["status"] == "fail"}
    assert set(failed) == {"model", "database"}
    assert all(check["fix"] for check in failed.values())


@pytest.mark.slow
def test_the_doctor_says_what_the_sandbox_holds_and_what_else_there_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = place.corral("doctor").out
    assert "Isolation: namespace; network: allowlist." in shown
    assert "Limits tried and held: memory, processes, cpu, wall" in shown
    assert "landlock" in shown

    monkeypatch.setenv("CORRAL_SANDBOX_REQUIRE", '["isolation:vm"]')
    assert "does not enforce isolation:vm" in place.corral("doctor").out
    monkeypatch.delenv("CORRAL_SANDBOX_REQUIRE")

    monkeypatch.setattr("corral.sandbox.host.find_bubblewrap", _no_bubblewrap)
    monkeypatch.setattr("corral.cli.sandboxes.probed", lambda name: BACKENDS[name]().probe())
    missing = place.corral("doctor")
    assert missing.code == 1
    assert "→ Install it: apt-get install bubblewrap" in missing.out


def test_the_doctor_tells_what_our_own_servers_cannot_be_started_with(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "files, python; corral mcp list starts them" in place.corral("doctor").out

    monkeypatch.setenv("CORRAL_SERVERS", '["web", "git", "sql"]')
    monkeypatch.setenv("CORRAL_WEB__SEARCH__PROVIDER", "brave")
    monkeypatch.setenv("CORRAL_GIT__REPOSITORY", "elsewhere")
    monkeypatch.setenv("CORRAL_SQL", '{"shop": {"path": "shop.db"}}')
    monkeypatch.delenv("BRAVE_API_KEY", raising=False)
    told = place.corral("doctor", "--json")
    assert told.code == 1
    found = {line["detail"]: line["status"] for line in told.lines if line["name"] == "servers"}
    assert sorted(found.values()) == ["fail", "fail", "warn"]
    assert any("BRAVE_API_KEY" in detail for detail in found)
    assert any("elsewhere of [git] is no folder" in detail for detail in found)
    assert any("shop.db of [sql.shop]" in detail for detail in found)


def _no_bubblewrap() -> None:
    raise SandboxError(
        "bubblewrap is not installed.", hint="Install it: apt-get install bubblewrap"
    )


def test_without_a_sandbox_every_run_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    model = place.model("hello")
    assert "no sandbox" not in place.corral("run", "Hello", "--model", model).err
    monkeypatch.setenv("CORRAL_SANDBOX", "none")
    told = place.corral("run", "Hello", "--model", model)
    assert told.code == 0
    assert "warning: there is no sandbox: tools and the code they run" in told.err
    assert "switched off" in place.corral("doctor").out
