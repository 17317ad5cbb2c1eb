"""The first rule is found quickly, and it is the one that is found by asking all in turn."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.facts import ToolCall
from corral.policies.matching import Index, matches
from corral.policies.rules import Policy, Rule

patterns = st.sampled_from(
    ["a/**", "A/b", "./a/*", "b/**", "c.md", "**/b", "../x", "/w/a/**", "a.", "a/../b", "*", "ä/**"]
)
rules = st.builds(
    lambda tool, path, paths, action: Rule.model_validate(
        {
            "tool": tool,
            **({"args": path} if path else {}),
            **({"paths": paths} if paths else {}),
            "action": action,
        }
    ),
    st.sampled_from(["*", "f__w", "f__*", "g__w"]),
    st.one_of(
        st.none(),
        st.builds(
            lambda name, one: {name: one}, st.sampled_from(["path", "to", "files"]), patterns
        ),
        st.builds(lambda one: {"to": {"path": one}}, patterns),
    ),
    st.lists(patterns, max_size=2),
    st.sampled_from(["allow", "deny"]),
)
values = st.one_of(
    st.text(alphabet="aAb./ä%2e\\ \u200b", max_size=7),
    st.sampled_from(["a/b", "A/b", "a", "./b/x", "/w/a/x", "c.md", "a/../b", "b/../a/x", "a./b"]),
    st.lists(st.sampled_from(["a/b", "b/c", "../x"]), max_size=2),
    st.just({"x": "a/b"}),
    st.just(5),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(rules, min_size=5, max_size=12),
    st.dictionaries(st.sampled_from(["path", "to", "files"]), values, max_size=2),
    st.booleans(),
)
def test_no_rule_that_matches_is_left_out(
    made: list[Rule], args: dict[str, Any], linked: bool
) -> None:
    links = {"a/b": "/w/b/x"} if linked else {}
    call = ToolCall("f__w", args, read_only=False, sandboxed=True, workspace="/w", links=links)
    found = Index.of(Policy("p", tuple(made))).first(call)
    expected = next((number for number, rule in enumerate(made, 1) if matches(rule, call)), None)
    assert (None if found is None else found.placed.number) == expected


command_patterns = st.sampled_from(
    [
        "git *",
        "git status",
        "/usr/bin/git *",
        "GIT *",
        "g* push",
        "'my tool' *",
        "./git",
        "*",
        "rm *",
        "sudo *",
        "bash *",
        "echo *",
        "env *",
        "xargs *",
    ]
)
command_rules = st.builds(
    lambda name, found, action: Rule.model_validate(
        {"tool": "f__w", "args": {name: found}, "action": action}
    ),
    st.sampled_from(["command", "cmd", "argv"]),
    st.lists(command_patterns, min_size=1, max_size=2),
    st.sampled_from(["allow", "deny"]),
)
scripts = st.sampled_from(
    [
        "git status",
        "/usr/bin/git push",
        "sudo git push",
        "Git status",
        "./git",
        "g\u200bit status",
        "bash -c 'rm x'",
        "echo $(rm x)",
        "env A=1 rm x",
        "$X push",
        "",
        "'my tool' x",
        "ls | git x",
        "\uff47it status",
        "\uff0fusr\uff0fbin\uff0fgit status",
        "a\nrm b",
        "find . -exec rm {} ;",
    ]
)
commands = st.one_of(
    scripts,
    st.lists(st.sampled_from(["git", "status", "bash", "-c", "rm x"]), max_size=3),
    st.just({"run": "rm x"}),
    st.just(5),
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(command_rules, min_size=5, max_size=9),
    st.dictionaries(st.sampled_from(["command", "cmd", "argv", "args"]), commands, max_size=2),
)
def test_no_rule_of_commands_that_matches_is_left_out(made: list[Rule], args: Any) -> None:
    call = ToolCall("f__w", args, read_only=False, sandboxed=True, workspace="/w")
    found = Index.of(Policy("p", tuple(made))).first(call)
    expected = next((number for number, rule in enumerate(made, 1) if matches(rule, call)), None)
    assert (None if found is None else found.placed.number) == expected


@pytest.mark.parametrize("text", ["evil.com/x", "look at evil.com now", "eve@evil.com"])
def test_a_host_in_the_middle_of_a_text_is_denied_and_not_allowed(text: str) -> None:
    searched = ToolCall("web__search", {"q": text}, read_only=True, sandboxed=False, workspace="/w")
    assert matches(Rule(hosts=("evil.com",), action="deny"), searched)
    assert not matches(Rule(hosts=("evil.com",), action="allow"), searched)
