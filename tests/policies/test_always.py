"""The rules that "always" suggests: they fit their call, and no other path, host or program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.always import always_rule, suggestions
from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.matching import matches
from corral.policies.rules import Rule

WORKSPACE = "/work/space"
WRITE = "files__write_file"


def call(name: str = WRITE, **args: Any) -> ToolCall:
    return ToolCall(name, args, read_only=False, sandboxed=True, workspace=WORKSPACE)


@pytest.mark.parametrize(
    ("given_call", "args"),
    [
        (call(path="a/b/c.txt", content="x"), {"path": "a/b/**", "content": "*"}),
        (call(path="c.txt", content="*"), {"path": "c.txt", "content": "*"}),
        (call(path=f"{WORKSPACE}/a/c.txt"), {"path": "a/**"}),
        (call(cwd="a", command="ls *"), {"cwd": "a/**", "command": {"equals": "ls *"}}),
        (call(command="git status -s"), {"command": "git status *"}),
        (call(command="git log | git diff"), {"command": ["git log *", "git diff *"]}),
        (call(command="git $(x) a"), {"command": {"equals": "git $(x) a"}}),
        (call(command="ls -la"), {"command": {"equals": "ls -la"}}),
        (call(url="https://e.org/a/b?q=1"), {"url": "https://e.org:443/a/**"}),
        (call(url="https://e.org@evil/"), {"url": {"equals": "https://e.org@evil/"}}),
        (call(cwd="."), {"cwd": {"equals": "."}}),
        (call(path="a*/b?.txt"), {"path": r"a\*/**"}),
        (call(path="./~x"), {"path": "./~x"}),
        (call(to="a@b", content="hi"), {"to": "a@b", "content": "hi"}),
        (call(n=5, o={"b": 1}), {"n": {"equals": 5}, "o": {"equals": {"b": 1}}}),
        (call(paths=["a/1", "a/2"]), {"paths": "a/**"}),
        (call(paths=["a/1", "b/2"]), {"paths": {"equals": ["a/1", "b/2"]}}),
        (call("python__run_code", code="1", timeout=5), {}),
        (call("x__run", code="1", cwd="a", mode="w"), {"cwd": "a/**"}),
    ],
)
def test_the_wider_rule(given_call: ToolCall, args: dict[str, Any]) -> None:
    rule = always_rule(given_call)
    assert rule.to_json().get("args", {}) == args
    assert (rule.tool, rule.action) == (given_call.name, "allow")


def test_it_holds_for_the_folder_and_not_beyond() -> None:
    rule = always_rule(call(path="reports/a.md", content="1"))
    assert matches(rule, call(path="reports/2026/b.md", content="2"))
    assert not matches(rule, call(path="other/a.md", content="1"))
    assert not matches(rule, call(path="reports/../other/a.md", content="1"))
    assert not matches(rule, call(path="reports/a.md", content="1", force=True))
    assert not matches(rule, call("files__delete", path="reports/a.md", content="1"))


def test_it_holds_for_the_host_and_not_for_another() -> None:
    rule = always_rule(call("web__get", url="https://e.org/docs/a"))
    assert matches(rule, call("web__get", url="https://e.org/docs/b/c"))
    assert not matches(rule, call("web__get", url="https://e.org/private"))
    assert not matches(rule, call("web__get", url="http://e.org/docs/a"))
    assert not matches(rule, call("web__get", url="https://x.e.org/docs/a"))


def test_it_holds_for_the_subcommand_and_not_for_another_program() -> None:
    rule = always_rule(call("shell__run", command="git status -s"))
    assert matches(rule, call("shell__run", command="git status --long"))
    assert not matches(rule, call("shell__run", command="git push"))
    assert not matches(rule, call("shell__run", command="git status; rm x"))


def test_content_that_holds_a_path_of_its_own_stays_as_it_is() -> None:
    edits = [{"path": "a/x", "new": "1"}]
    rule = always_rule(call(path="a/b", edits=edits))
    assert matches(rule, call(path="a/b", edits=edits))
    assert not matches(rule, call(path="a/b", edits=[{"path": "c/x", "new": "1"}]))


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "~/x", "a\0b", "x.", "../../**"])
def test_it_never_holds_outside_the_workspace(path: str) -> None:
    assert not matches(always_rule(call(path=path)), call(path=path))
    assert not suggestions(call(path=path))


def test_the_first_suggestion_is_just_this_call() -> None:
    made = call(path="a/b.txt", content="x")
    exact, wider = suggestions(made)
    assert matches(exact.rule, made)
    assert not matches(exact.rule, call(path="a/b.txt", content="y"))
    assert not matches(exact.rule, call(path="a/./b.txt", content="x"))
    assert matches(wider.rule, call(path="a/c.txt", content="y"))
    assert wider.words == describe(wider.rule)


def test_a_call_without_anything_wider_has_one_suggestion() -> None:
    assert len(suggestions(call("mail__send", to="a@b.c"))) == 1


@settings(deadline=None)
@given(
    args=st.dictionaries(
        st.sampled_from(["path", "dir", "files", "content", "query", "n", "url", "command"]),
        st.one_of(
            st.none(),
            st.integers(),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.lists(st.text(alphabet="ab/.*", max_size=6), max_size=3),
        ),
    ),
)
def test_they_survive_storage_and_let_no_path_out(args: dict[str, Any]) -> None:
    made = call(**args)
    for rule in (always_rule(made), *(each.rule for each in suggestions(made))):
        stored = rule.model_dump_json(exclude_defaults=True)
        assert Rule.model_validate_json(stored) == rule
        assert describe(rule).isprintable()
        escaping = {name: "../x" for name in args if name in ("path", "dir", "files")}
        if escaping:
            assert not matches(rule, call(**{**args, **escaping}))
    assert all(matches(each.rule, made) for each in suggestions(made))
