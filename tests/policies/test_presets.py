from __future__ import annotations

from typing import Any

import pytest

from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.presets import DEFAULT, PRESETS
from corral.policies.rules import Action, Rule

READ, WRITE, RUN = "files__read_file", "files__write_file", "python__run_code"
MAIL = "mail__send"
SHELL = "shell__run_command"


def act(
    preset: str, name: str, *, read_only: bool = False, sandboxed: bool = True, **args: Any
) -> Action:
    made = ToolCall(name, args, read_only=read_only, sandboxed=sandboxed, workspace="/w")
    return decide(Layered.of(PRESETS[preset]), made).action


def test_the_presets_by_name() -> None:
    assert list(PRESETS) == ["read-only", "ask", "workspace", "trusted"]
    assert all(policy.name == name for name, policy in PRESETS.items())
    assert DEFAULT in PRESETS


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("read-only", ("allow", "deny", "deny", "deny", "allow")),
        ("ask", ("allow", "ask", "ask", "ask", "allow")),
        ("workspace", ("allow", "allow", "allow", "ask", "allow")),
        ("trusted", ("allow", "allow", "allow", "allow", "allow")),
    ],
)
def test_what_each_does_in_the_folder(preset: str, expected: tuple[Action, ...]) -> None:
    assert expected == (
        act(preset, READ, read_only=True, path="a"),
        act(preset, WRITE, path="a/b", content="x"),
        act(preset, RUN, code="open('/etc/passwd')"),
        act(preset, MAIL, sandboxed=False, to="x"),
        act(preset, "web__get", read_only=True, sandboxed=False),
    )


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "~/x", "a/../../x", "a\0", "file:///x"])
def test_workspace_asks_when_a_path_leaves_the_folder(path: str) -> None:
    assert act("workspace", WRITE, path=path) == "ask"
    assert act("workspace", READ, read_only=True, path=path) == "ask"
    assert act("workspace", "files__move_file", source="a", destination=path) == "ask"
    assert act("workspace", RUN, code="1", cwd=path) == "ask"


def test_workspace_asks_when_a_patch_leaves_the_folder() -> None:
    patch = "--- a/x\n+++ b/{}\n@@ -1 +1 @@\n-a\n+b\n"
    assert act("workspace", "files__apply_patch", patch=patch.format("x")) == "allow"
    assert act("workspace", "files__apply_patch", patch=patch.format("../x")) == "ask"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [("read-only", "deny"), ("ask", "ask"), ("workspace", "ask"), ("trusted", "allow")],
)
def test_git_is_read_freely_and_commits_are_asked_about(preset: str, expected: Action) -> None:
    for tool in ("status", "diff", "log", "show"):
        assert act(preset, f"git__{tool}", read_only=True, paths=["a"]) == "allow"
    assert act(preset, "git__commit", message="x", paths=["a"]) == expected


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("read-only", ("deny", "allow")),
        ("ask", ("ask", "allow")),
        ("workspace", ("allow", "allow")),
        ("trusted", ("allow", "allow")),
    ],
)
def test_commands_count_as_code_does(preset: str, expected: tuple[Action, ...]) -> None:
    assert expected == (
        act(preset, SHELL, command="rm -rf build"),
        act(preset, "shell__job_output", read_only=True, job="job-1"),
    )
    if preset == "workspace":
        assert act(preset, SHELL, command="ls", cwd="..") == "ask"
        assert act(preset, SHELL, sandboxed=False, command="ls") == "ask"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("git status", "allow"),
        (["git", "status"], "allow"),
        ("git status; rm x", "deny"),
        ("git status; ls", "ask"),
        (["git", "status", "-s"], "ask"),
        ("rm -rf x", "deny"),
        (["bash", "-c", "ls; rm -rf x"], "deny"),
        ("X=1 git status", "ask"),
    ],
)
def test_rules_see_the_shell_servers_commands(command: object, expected: Action) -> None:
    rules = [
        Rule.model_validate({"tool": SHELL, "args": {"command": "rm *"}, "action": "deny"}),
        Rule.model_validate({"tool": SHELL, "args": {"command": "git status"}, "action": "allow"}),
    ]
    args = {"command": command}
    made = ToolCall(SHELL, args, read_only=False, sandboxed=True, workspace="/w")
    assert decide(Layered.of(PRESETS["ask"]), made, rules).action == expected


def test_workspace_asks_when_one_of_our_tools_is_not_in_the_sandbox() -> None:
    assert act("workspace", RUN, sandboxed=False, code="1") == "ask"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "path",
    ["corral.toml", "x/../Corral.TOML", ".corral/agents/x.md", ".git/hooks/x", "a/.git/config"],
)
def test_each_denies_writing_policy_and_git_files(preset: str, path: str) -> None:
    made = ToolCall(WRITE, {"path": path}, read_only=False, sandboxed=True, workspace="/w")
    decision = decide(Layered.of(PRESETS[preset]), made, [Rule(action="allow")])
    assert decision.action == "deny"
    assert decision.reason


def test_read_only_says_what_to_do() -> None:
    made = ToolCall(WRITE, {"path": "a"}, read_only=False, sandboxed=True, workspace="/w")
    decision = decide(Layered.of(PRESETS["read-only"]), made, [Rule(action="allow")])
    assert decision.action == "deny"
    assert "--policy ask" in decision.reason
    assert decision.rule == "rule 2 of read-only"
