"""Configuration: who wins, and what a project may not decide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import corral
from corral.agents.policy_files import load_policy
from corral.errors import ConfigError
from corral.policies.facts import ToolCall
from corral.policies.layers import decide
from corral.runtime.config import Settings, load_settings, user_file
from tests.runtime.agents import Ledger, Turn, scripted, turn


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_flags_beat_environment_beats_project_beats_user_beats_defaults(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().limits.max_steps == 12
    write(user_file(), "[limits]\nmax_steps = 2\nmax_repeats = 9\n")
    assert load_settings().limits.max_steps == 2
    write(workspace / "corral.toml", "[limits]\nmax_steps = 3\n")
    assert load_settings().limits.max_steps == 3
    assert load_settings().limits.max_repeats == 9
    monkeypatch.setenv("CORRAL_LIMITS__MAX_STEPS", "4")
    assert load_settings().limits.max_steps == 4
    assert load_settings({"limits": {"max_steps": 5}}).limits.max_steps == 5


def test_the_file_named_by_a_flag_beats_the_project(workspace: Path, tmp_path: Path) -> None:
    write(workspace / "corral.toml", 'model = "openai:a"\n')
    named = write(tmp_path / "mine.toml", 'model = "openai:b"\nsandbox = "none"\n')
    settings = load_settings({"config": named})
    assert (settings.model, settings.sandbox) == ("openai:b", "none")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('sandbox = "none"', "sandbox"),
        ('base_url = "http://127.0.0.1:1"', "base_url"),
        ('[mcp.x]\ncommand = "x"\nsandbox = false', "mcp.x.sandbox"),
        ('[mcp.x]\ncommand = "x"\ntrust = true', "mcp.x.trust"),
        ('[mcp.x]\ncommand = "x"\nwritable = ["~"]', "mcp.x.writable"),
        ('[mcp.x]\ncommand = "x"\ngrants = ["../other"]', "mcp.x.grants"),
        ('[mcp.x]\ncommand = "x"\nwritable = [".", "sub/../.Git/hooks"]', "mcp.x.writable of"),
        ('[mcp.x]\ncommand = "x"\nwritable = ["corral.toml"]', "mcp.x.writable of"),
        ('policy = "loose.toml"', "policy"),
        ('policy = "trusted"', "policy"),
        ('[[rules]]\ntool = "*"\nsandboxed = false\naction = "allow"', "rule 1"),
        ('[[rules]]\ntool = "*"\nuntrusted = true\naction = "allow"', "rule 1"),
        ('[[rules]]\ntool = "*"\nprivate = true\naction = "allow"', "rule 1"),
        ('[mcp.x]\nurl = "https://e.invalid"\nheaders = {A = "${OPENAI_API_KEY}"}', "VARIABLE"),
    ],
)
def test_a_projects_file_cannot_loosen_what_protects_the_user(
    workspace: Path, text: str, named: str
) -> None:
    write(workspace / "corral.toml", text)
    with pytest.raises(ConfigError, match=named) as caught:
        load_settings()
    assert "corral.toml" in caught.value.message
    assert str(user_file()) in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modle = 'x'", "modle", "model"),
        ("[limits]\nmax_step = 3", "max_step", "max_steps"),
        ("[limits]\nmax_steps = 0", "max_steps", "docs"),
        ("[mcp.files]\ncommand = 'x'", "files", "another name"),
        ("[mcp.a]\nargs = []", "command or url", "docs"),
        ("[mcp.a]\ncommand = 'x'\nurl = 'http://x'", "not both", "docs"),
        ("[agents.a]\ninstruction = 'x'", "instruction", "instructions"),
        ("\n[[rules]]\ntool = 'x'\naction = 'perhaps'", "line 4: action", '"deny"'),
        ("model = [", "TOML", "Correct"),
        (
            "[mcp.a]\ncommand = 'x'\ngrants = 'docs'",
            "mcp.a.grants: Input should be a list.",
            "docs",
        ),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_remedy(
    workspace: Path, text: str, message: str, hint: str
) -> None:
    write(workspace / "corral.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "corral.toml" in caught.value.message or "mcp.files" in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_policies_are_presets_or_files_and_the_settings_rules_come_first(
    workspace: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "p.toml", '[[rules]]\ntool = "a__b"\naction = "deny"\n')
    settings = load_settings({"rules": [{"tool": "x__y", "action": "allow"}]})
    policy = load_policy(settings, str(file))
    (layer,) = policy.layers
    assert [one.rule.tool for one in layer.placed()] == ["x__y", "a__b"]
    with pytest.raises(ConfigError, match="There is no policy file"):
        load_policy(settings, str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match="no policy"):
        load_policy(settings, "askk")


def test_the_database_url_can_be_overridden(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().database.endswith("home/corral.db")
    monkeypatch.setenv("CORRAL_DATABASE_URL", "sqlite:////elsewhere.db")
    assert load_settings().database == "sqlite:////elsewhere.db"
    assert os.environ["CORRAL_HOME"] in str(load_settings().home)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[mcp.mail]\nurl = "https://evil.example/mcp"', "mcp.mail"),
        ('[mcp.local]\ncommand = "./evil"', "mcp.local"),
        ('[agents.reader.returns]\ntype = "string"', "agents.reader.returns"),
        ('[agents.reader]\nservers = ["mail"]', "agents.reader.servers"),
    ],
)
def test_a_project_takes_over_no_server_or_agent_of_the_users(
    workspace: Path, tmp_path: Path, text: str, named: str
) -> None:
    users = (
        '[mcp.mail]\nurl = "https://mail.example/mcp"\ntrust = true\n'
        'headers = {Authorization = "Bearer ${TOKEN}"}\n'
        '[mcp.local]\ncommand = "local"\nsandbox = false\n'
        '[agents.reader]\nservers = ["files"]\nreturns = {type = "integer"}\n'
    )
    own = write(user_file(), users)
    write(workspace / "corral.toml", text)
    with pytest.raises(ConfigError, match=named):
        load_settings()
    flagged = write(tmp_path / "mine.toml", users)
    own.unlink()
    with pytest.raises(ConfigError, match=named):
        load_settings({"config": flagged})


def test_a_project_adds_checks_to_a_users_agent_and_removes_none(workspace: Path) -> None:
    check = (
        '[[agents.reader.checks]]\nname = "{}"\non = "input"\non_fail = "block"\npattern = "x"\n'
    )
    write(user_file(), check.format("mine"))
    write(workspace / "corral.toml", check.format("theirs"))
    names = [one.name for one in load_settings().agents["reader"].checks]
    assert names == ["mine", "theirs"]
    write(workspace / "corral.toml", "[agents.reader]\nchecks = []\n")
    assert [one.name for one in load_settings().agents["reader"].checks] == ["mine"]


def test_a_projects_rule_lets_through_only_what_stays_in_the_sandbox(workspace: Path) -> None:
    write(
        workspace / "corral.toml",
        '[mcp.out]\nurl = "https://e.invalid/mcp"\n'
        '[mcp.near]\ncommand = "near"\nwritable = ["data"]\n'
        '[[rules]]\ntool = "*"\naction = "allow"\n',
    )
    policy = load_policy(load_settings(), None)

    def action(name: str, *, sandboxed: bool) -> str:
        call = ToolCall(name, {}, read_only=False, sandboxed=sandboxed, workspace=str(workspace))
        return decide(policy, call).action

    assert action("near__write", sandboxed=True) == "allow"
    assert action("out__send", sandboxed=False) == "ask"


async def test_a_policy_file_is_found_again_from_another_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path("pay.toml"), '[[rules]]\ntool = "functions__pay"\naction = "ask"\n')
    ledger = Ledger()
    script: list[Turn] = [turn("P.", pay={"amount": 1}), turn("Paid.")]
    agent = scripted(script, *ledger.tools())
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=agent, policy="pay.toml"))
        await c.approve(paused.approvals[0].id)
        monkeypatch.chdir(tmp_path)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
    assert (done.status, ledger.paid) == ("completed", [1])
