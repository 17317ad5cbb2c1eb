"""Policies from their files: whose layer each is, who narrows whom, and what nobody may write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import corral
from corral.agents.policy_files import load_policy
from corral.errors import ConfigError
from corral.policies.facts import ToolCall
from corral.policies.layers import decide
from corral.policies.rules import Decision
from corral.policies.writing.parse import parse_rule
from corral.runtime.config import Settings, load_settings, user_file
from tests.runtime.agents import Ledger, scripted, turn

PAY_DENIED = '[[rules]]\ntool = "functions__pay"\naction = "deny"\nreason = "not here"\n'


@pytest.fixture
def organisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the organisation's policy is; there is none yet."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'xdg'}:relative")
    return tmp_path / "xdg" / "corral" / "policy.toml"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def decided(settings: Settings, name: str, policy: str | None = None, **args: Any) -> Decision:
    """What is decided on a call of a tool in the sandbox, unless that is ``sandboxed=False``."""
    workspace = str(settings.workspace)
    sandboxed = args.pop("sandboxed", True)
    call = ToolCall(name, args, read_only=False, sandboxed=sandboxed, workspace=workspace)
    return decide(load_policy(settings, policy), call)


def rule(tool: str, action: str) -> str:
    return f'[[rules]]\ntool = "{tool}"\naction = "{action}"\n'


def test_every_file_is_a_layer_and_a_lower_one_only_narrows(
    workspace: Path, organisation: Path
) -> None:
    write(organisation, rule("a__x", "deny") + rule("a__y", "allow"))
    write(workspace / "corral.toml", rule("a__*", "allow") + rule("b__*", "deny"))
    write(user_file(), rule("b__*", "allow") + rule("a__y", "ask"))
    settings = load_settings()
    denied = decided(settings, "a__x")
    assert (denied.action, denied.layer) == ("deny", "organisation")
    assert denied.source == f"{organisation}, line 1"
    assert decided(settings, "a__y").source == f"{user_file()}, line 4"
    assert decided(settings, "b__x").source == f"{workspace / 'corral.toml'}, line 4"
    assert decided(settings, "a__z").action == "allow"
    layers = [layer.layer for layer in load_policy(settings).layers]
    assert layers == ["organisation", "project", "user"]


def test_the_chosen_policy_follows_the_user_s_own_rules(workspace: Path) -> None:
    write(user_file(), f'policy = "read-only"\n{rule("a__x", "allow")}')
    write(workspace / "corral.toml", rule("a__y", "allow"))
    settings = load_settings()
    assert decided(settings, "a__x").action == "allow"
    assert decided(settings, "a__y").action == "deny"
    assert decided(settings, "a__y", "ask").action == "allow"


@pytest.mark.parametrize(
    ("users", "projects", "expected"),
    [
        ("", 'policy = "workspace"', "allow"),
        ('policy = "ask"', 'policy = "workspace"', "ask"),
        ('policy = "read-only"', 'policy = "workspace"', "deny"),
        ('policy = "workspace"', 'policy = "read-only"', "deny"),
        ('policy = "workspace"', "", "allow"),
    ],
)
def test_a_project_s_preset_never_loosens_what_the_user_chose(
    workspace: Path, users: str, projects: str, expected: str
) -> None:
    write(user_file(), users)
    write(workspace / "corral.toml", projects)
    assert decided(load_settings(), "files__write_file", path="a").action == expected


def test_a_file_that_the_user_names_is_the_user_s(workspace: Path) -> None:
    named = write(workspace / "corral.toml", rule("mail__*", "allow"))
    own = load_settings({"config": named})
    assert decided(own, "mail__send", sandboxed=False).action == "allow"
    assert decided(load_settings(), "mail__send", sandboxed=False).action == "ask"


def test_a_server_that_is_reached_by_a_url_is_not_in_the_sandbox(workspace: Path) -> None:
    write(
        workspace / "corral.toml",
        '[mcp.out]\nurl = "https://e.invalid/mcp"\n[mcp.near]\ncommand = "near"\n',
    )
    assert load_settings().sandboxed_servers == {"files", "python", "near"}
    assert load_settings({"sandbox": "none"}).sandboxed_servers == frozenset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rules]]\naction = 'dony'\n", "line 2"),
        ("[[rules]\n", "line 1"),
        ("rulez = 5\n", "line 1"),
        (rule("a__x", "deny") + rule("a__x", "allow"), "line 6: rule 2 says allow"),
    ],
)
async def test_nothing_runs_where_the_organisation_s_policy_cannot_be_understood(
    settings: Settings, organisation: Path, text: str, said: str
) -> None:
    write(organisation, text)
    ledger = Ledger()
    agent = scripted([turn("P.", pay={"amount": 1})], *ledger.tools())
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match=said) as caught:
            await c.run("Pay.", corral.RunOptions(agent=agent))
        assert str(organisation) in caught.value.message
        assert caught.value.hint
        assert await c.records.runs() == []


def test_nothing_runs_where_the_organisation_s_policy_cannot_be_read(organisation: Path) -> None:
    organisation.mkdir(parents=True)
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load_policy(load_settings())
    assert "Nothing runs without it" in caught.value.hint


@pytest.mark.parametrize("argument", ["path", "target", "command"])
def test_no_agent_writes_what_decides_about_it(
    workspace: Path, organisation: Path, argument: str
) -> None:
    write(user_file(), rule("*", "allow"))
    team = write(workspace / "conf" / "team.toml", rule("*", "allow"))
    settings = load_settings()
    files = (
        organisation,
        user_file(),
        team,
        workspace / "corral.toml",
        settings.home / "corral.db",
        workspace / ".git" / "hooks" / "x",
    )
    for file in files:
        text = f"echo x >> '{file}'" if argument == "command" else str(file)
        decision = decided(settings, "x__y", str(team), **{argument: text})
        assert (decision.action, decision.layer) == ("deny", "built in"), file
    assert decided(settings, "x__y", str(team), **{argument: "a.txt"}).action == "allow"


async def test_the_rules_of_a_session_hold_when_its_run_goes_on(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted(
        [turn("P.", pay={"amount": 1}), turn("B.", balance={}), turn("Done.")], *ledger.tools()
    )
    rules = (
        parse_rule('{tool = "functions__balance", action = "deny", reason = "no looking"}', "t"),
        parse_rule('{tool = "functions__pay", action = "ask"}', "t"),
    )
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=agent, rules=rules))
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
        results = [e.result for e in await c.records.trace(done.run) if e.kind == "tool"]
    assert (done.status, ledger.paid) == ("completed", [1])
    assert "no looking" in str(results[-1])


async def test_a_denial_of_the_organisation_reaches_the_model_with_its_reason(
    settings: Settings, organisation: Path
) -> None:
    write(organisation, PAY_DENIED)
    write(user_file(), rule("functions__pay", "allow"))
    ledger = Ledger()
    agent = scripted([turn("P.", pay={"amount": 1}), turn("I may not.")], *ledger.tools())
    async with corral.open(settings) as c:
        done = await c.run("Pay.", corral.RunOptions(agent=agent))
        (result,) = [e.result for e in await c.records.trace(done.run) if e.kind == "tool"]
    assert (done.status, ledger.paid) == ("completed", [])
    assert "not here" in str(result)
