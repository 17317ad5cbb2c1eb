"""Patterns of arguments: their forms, what fits them, and what is said about them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from corral.policies.facts import ToolCall
from corral.policies.patterns.arguments import (
    ArgumentPattern,
    ArgumentPatterns,
    describe,
    exactly,
    fits,
)
from corral.policies.patterns.contents import (
    commands_fit,
    commands_in,
    hosts_fit,
    hosts_in,
    paths_fit,
    stays_inside,
    urls_in,
)
from corral.policies.patterns.pattern_order import can_match, covers, why_never, why_never_allows

WORKSPACE = "/work/space"


def pattern(data: Any) -> ArgumentPattern:
    return ArgumentPattern.model_validate(data)


def call(args: dict[str, Any], **facts: Any) -> ToolCall:
    return ToolCall("t__x", args, read_only=False, sandboxed=True, workspace=WORKSPACE, **facts)


def allows(data: Any, value: Any, name: str = "x") -> bool:
    return fits(pattern(data), name, call({name: value}), loosens=True)


def catches(data: Any, value: Any, name: str = "x") -> bool:
    return fits(pattern(data), name, call({name: value}), loosens=False)


def test_a_patch_has_the_paths_that_it_names() -> None:
    patch = "--- a/src/a\n+++ b/src/a\n@@ -1 +1 @@\n-x\n+y\n--- /dev/null\n+++ b/{}\n"
    wanted = {"path": "src/**"}
    assert allows(wanted, patch.format("src/b"), "patch")
    assert not allows(wanted, patch.format("other"), "patch")
    assert not allows(wanted, patch.format("src/../other"), "patch")
    assert not allows(wanted, "no patch", "patch")
    assert catches({"path": "other"}, patch.format("other"), "patch")
    assert not catches({"path": "third"}, patch.format("other"), "patch")


class TestForms:
    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("path", "./reports/a", True),
            ("output_file", "./reports/a", True),
            ("x", "./reports/a", False),
            ("x", "reports/a", True),
        ],
    )
    def test_the_short_form_is_of_the_kind_that_the_name_says(
        self, name: str, value: str, expected: bool
    ) -> None:
        assert allows("reports/*", value, name) is expected

    def test_kinds_can_be_said(self) -> None:
        assert allows({"path": "reports/*"}, "./reports/a")
        assert allows({"url": "https://a.b/**"}, "https://A.b/x")
        assert allows({"command": "git status *"}, "git  'status'")
        assert allows({"text": "a*"}, "a b", name="path")

    @pytest.mark.parametrize(
        "data",
        [
            "a*",
            ["a", "b"],
            {"path": ["x/**"]},
            {"equals": None},
            {"equals": {"a": [1]}},
            {"min": 1, "max": 2.5},
            {"one_of": ["a", 1, None]},
            {"from_user": True},
            {"text": ["a"], "from_user": True},
        ],
    )
    def test_a_pattern_survives_storage(self, data: Any) -> None:
        written = pattern(data).model_dump_json()
        assert json.loads(written) == data
        assert ArgumentPattern.model_validate_json(written) == pattern(data)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (5, 'a text such as "5" or a table such as {equals = 5}'),
            (True, "equals = true"),
            ([], "empty list"),
            ([1], "put it in quotes"),
            ({}, "names nothing"),
            ({"pth": "x"}, "pth"),
            ({"path": 1}, "path is not a text"),
            ({"min": "1"}, "min"),
            ({"min": True}, "min"),
            ({"max": float("inf")}, "finite"),
            ({"from_user": False}, "from_user"),
            ({"url": "https://a?b"}, "end the pattern at the path"),
            ({"command": ""}, "write one such as 'git status *'"),
            ({"path": "a\0"}, "NUL"),
        ],
    )
    def test_a_bad_pattern_is_refused_with_what_to_write(self, data: Any, says: str) -> None:
        with pytest.raises(ValidationError) as refused:
            pattern(data)
        assert says in str(refused.value)

    @pytest.mark.parametrize(("name", "data"), [("url", "https://a?b"), ("command", "echo 'x")])
    def test_a_short_form_is_checked_with_its_name(self, name: str, data: str) -> None:
        patterns: TypeAdapter[dict[str, ArgumentPattern]] = TypeAdapter(ArgumentPatterns)
        with pytest.raises(ValidationError):
            patterns.validate_python({name: data})
        assert patterns.validate_python({"x": data})["x"] == pattern(data)


class TestValues:
    @pytest.mark.parametrize(
        ("data", "value", "allowed", "caught"),
        [
            ("a*", "abc", True, True),
            ("a*", "ABC", False, True),
            ("a*", "a\u200bb", True, True),
            ("abc", "a\u200bbc", False, True),
            ("5", 5, True, True),
            ({"min": 1, "max": 3}, 2, True, True),
            ({"min": 1, "max": 3}, 1, True, True),
            ({"min": 1, "max": 3}, 3.5, False, False),
            ({"min": 1, "max": 3}, "2", False, True),
            ({"min": 1, "max": 3}, "4", False, False),
            ({"min": 1, "max": 3}, True, False, True),
            ({"min": 1, "max": 3}, "two", False, True),
            ({"min": 1}, None, False, True),
            ({"max": 3}, [2], False, True),
            ({"max": 3}, 10**400, False, False),
            ({"max": 2**53}, 2**53 + 1, False, False),
            ({"max": 3}, float("nan"), False, True),
            ({"one_of": ["prod", 1]}, "prod", True, True),
            ({"one_of": ["prod", 1]}, "PROD ", False, True),
            ({"one_of": ["prod", 1]}, 1, True, True),
            ({"one_of": ["prod", 1]}, "1", False, True),
            ({"one_of": ["prod", 1]}, 1.0, False, True),
            ({"one_of": ["prod", 1]}, True, False, True),
            ({"one_of": ["prod", 1]}, "dev", False, False),
            ({"one_of": []}, "x", False, False),
            ({"equals": {"a": 1, "b": [2]}}, {"b": [2], "a": 1}, True, True),
            ({"equals": None}, None, True, True),
            ({"equals": None}, "", False, False),
            ({"text": "a*", "one_of": ["ab", "b"]}, "ab", True, True),
            ({"text": "a*", "one_of": ["ab", "b"]}, "b", False, False),
        ],
    )
    def test_an_allow_is_strict_and_a_deny_loose(
        self, data: Any, value: Any, allowed: bool, caught: bool
    ) -> None:
        assert allows(data, value) is allowed
        assert catches(data, value) is caught

    def test_a_list_is_allowed_when_all_fit_and_denied_when_one_does(self) -> None:
        for kind, one, other in [
            ("path", "a/1", "b"),
            ("url", "https://a/x", "https://b/x"),
        ]:
            data = {kind: {"path": "a/**", "url": "https://a/**"}[kind]}
            assert allows(data, [one, one])
            assert not allows(data, [one, other])
            assert not allows(data, [])
            assert catches(data, [other, one])
            assert catches(data, {"deep": [{"er": one}]})
            assert not catches(data, [other])
            assert not allows(data, {"deep": one})

    def test_an_argument_that_is_missing_does_not_fit(self) -> None:
        assert not fits(pattern("*"), "y", call({"x": 1}), loosens=True)
        assert not fits(pattern("*"), "y", call({"x": 1}), loosens=False)

    def test_from_user_wants_what_the_user_wrote(self) -> None:
        given_call = call({"to": "bob@example.com"}, user_texts=("Write to bob@example.com.",))
        assert fits(pattern({"from_user": True}), "to", given_call, loosens=True)
        other = call({"to": "eve@example.com"}, user_texts=("Write to bob@example.com.",))
        assert not fits(pattern({"from_user": True}), "to", other, loosens=True)

    def test_words_beside_a_command_count(self) -> None:
        split = call({"command": "git", "args": ["push", "-f"]})
        assert fits(pattern("git push *"), "command", split, loosens=False)
        assert fits(pattern("git push *"), "command", split, loosens=True)
        assert not fits(pattern("git"), "command", split, loosens=True)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
argument_names = st.sampled_from(["x", "path", "url", "command", "n"])
some_patterns = st.sampled_from(
    [
        "*",
        "a*",
        "reports/**",
        "https://a/**",
        "git *",
        ["a", "b"],
        {"min": 0},
        {"max": 5},
        {"one_of": ["a", 1, None]},
        {"path": "**"},
        {"command": "*"},
        {"text": "*", "min": 1},
    ]
)


@settings(deadline=None)
@given(name=argument_names, value=json_values)
def test_exactly_fits_its_value_and_no_other(name: str, value: Any) -> None:
    exact = exactly(name, value)
    assert fits(exact, name, call({name: value}), loosens=True)
    assert fits(exact, name, call({name: value}), loosens=False)
    assert not fits(exact, name, call({name: [value]}), loosens=True)
    assert not fits(exact, name, call({name: f"{value} "}), loosens=True)
    assert ArgumentPattern.model_validate_json(exact.model_dump_json()) is not None
    assert describe(exact, name).isprintable()


@settings(deadline=None, max_examples=300)
@given(data=some_patterns, name=argument_names, value=json_values)
def test_what_an_allow_lets_through_a_deny_of_the_same_catches(
    data: Any, name: str, value: Any
) -> None:
    try:
        TypeAdapter(ArgumentPatterns).validate_python({name: data})
    except ValidationError:
        return
    if allows(data, value, name):
        assert catches(data, value, name)


class TestWords:
    @pytest.mark.parametrize(
        ("name", "data", "words"),
        [
            ("path", "reports/**", "is reports/**"),
            ("x", "*", "is anything"),
            ("x", ["a", "b"], "is a or b"),
            ("x", {"equals": "*"}, 'is exactly "*"'),
            ("x", {"min": 1, "max": 2}, "is at least 1 and is at most 2"),
            ("x", {"one_of": ["a", 1]}, 'is "a" or 1'),
            ("x", {"text": "a*", "from_user": True}, "is a* and is what the user wrote"),
            ("x", "1\u202e2", r"is '1\u202e2'"),
        ],
    )
    def test_a_pattern_in_words(self, name: str, data: Any, words: str) -> None:
        assert describe(pattern(data), name) == words

    def test_a_long_pattern_is_shortened(self) -> None:
        assert len(describe(pattern("y" * 5_000))) < 200


class TestOrder:
    @pytest.mark.parametrize(
        ("name", "wider", "narrower", "expected"),
        [
            ("x", "*", {"min": 1}, True),
            ("x", "a*", "ab*", True),
            ("x", "ab*", "a*", False),
            ("x", "a?", "ab", True),
            ("x", "a?", "a*", False),
            ("x", ["a", "b*"], "bc", True),
            ("path", "reports/**", "reports/2026/*", True),
            ("path", "reports/*", "reports/**", False),
            ("path", "reports/**", "reports", True),
            ("path", "**", "../x", False),
            ("url", "https://*.a.com/**", "https://x.a.com/api/*", True),
            ("url", "https://*.a.com/**", "https://a.com/**", False),
            ("url", "https://a.com/**", "http://a.com/**", False),
            ("url", "*://a.com:*/**", "http://a.com:80/x", True),
            ("path", "*/", "*", False),  # "" and 5 fit only "*"
            ("path", "src/**/*.py", "src/*.py", False),
            ("url", "http://a.com/*/", "http://a.com/*", False),
            ("command", "git *", "git status *", True),
            ("command", "git status", "git status *", False),
            ("command", "git status *", "git *", False),
            ("x", {"min": 0}, {"min": 1, "max": 2}, True),
            ("x", {"min": 0, "max": 1}, {"min": 1}, False),
            ("x", {"min": 0}, {"one_of": [1, 2]}, True),
            ("x", {"one_of": [1, 2]}, {"equals": 1}, True),
            ("x", {"from_user": True}, "*", False),
        ],
    )
    def test_what_covers_what(self, name: str, wider: Any, narrower: Any, expected: bool) -> None:
        assert covers(pattern(wider), pattern(narrower), name) is expected

    def test_what_fits_strictly_is_read_as_a_path_only(self) -> None:
        assert covers(pattern("src/**/*.py"), pattern("src/*.py"), "path", strictly=True)

    @settings(deadline=None, max_examples=400)
    @example(wider="*/", narrower="*", value="", name="path", loosens=False)
    @given(
        wider=st.text(alphabet="ab*?/", min_size=1, max_size=5),
        narrower=st.text(alphabet="ab*?/", min_size=1, max_size=5),
        value=st.text(alphabet="ab/.", max_size=5),
        name=st.sampled_from(["x", "path"]),
        loosens=st.booleans(),
    )
    def test_a_wider_pattern_fits_all_that_a_narrower_one_does(
        self, wider: str, narrower: str, value: str, name: str, loosens: bool
    ) -> None:
        if covers(pattern(wider), pattern(narrower), name, strictly=loosens):
            given_call = call({name: value})
            if fits(pattern(narrower), name, given_call, loosens=loosens):
                assert fits(pattern(wider), name, given_call, loosens=loosens)

    @settings(deadline=None, max_examples=200)
    @given(
        wider=st.lists(st.sampled_from(["git", "g*", "*", "-f", "?"]), min_size=1, max_size=3),
        narrower=st.lists(st.sampled_from(["git", "g*", "*", "-f", "x"]), min_size=1, max_size=3),
        argv=st.lists(st.sampled_from(["git", "gx", "-f", "x"]), min_size=1, max_size=4),
        loosens=st.booleans(),
    )
    def test_the_same_of_commands(
        self, wider: list[str], narrower: list[str], argv: list[str], loosens: bool
    ) -> None:
        wide, narrow = pattern(" ".join(wider)), pattern(" ".join(narrower))
        given_call = call({"command": " ".join(argv)})
        if covers(wide, narrow, "command") and fits(narrow, "command", given_call, loosens=loosens):
            assert fits(wide, "command", given_call, loosens=loosens)

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            ({"one_of": []}, "empty"),
            ({"min": 2, "max": 1}, "greater"),
            ({"min": 2, "one_of": [1, "x"]}, "within"),
            ({"equals": 1, "one_of": [2]}, "not in one_of"),
            ({"text": "a*", "equals": "b"}, "fits the text"),
        ],
    )
    def test_a_pattern_that_nothing_can_fit_is_said(self, data: Any, says: str) -> None:
        assert says in why_never(pattern(data), "x")
        assert not can_match(pattern(data), "x")

    def test_an_allow_never_reaches_outside(self) -> None:
        assert "outside" in why_never_allows(pattern("../x/**"), "path")
        assert "outside" in why_never_allows(pattern("a/../../x"), "path")
        assert why_never_allows(pattern("reports/**"), "path") == ""
        assert can_match(pattern("../x/**"), "path")


class TestContents:
    def test_hosts_are_found_in_urls_hosts_and_commands(self) -> None:
        args = {
            "url": "https://a.com/x",
            "deep": [{"hostname": "B.com"}],
            "note": "see https://not-looked.at in a text",
            "cmd": "curl -s c.com && scp f me@d.com:/x && wget -O- http://e.com/y",
        }
        assert set(hosts_in(args)) == {"a.com", "b.com", "c.com", "d.com", "e.com", "f"}
        assert urls_in(args) == ("https://a.com/x", "http://e.com/y")

    def test_an_allow_of_hosts_wants_all_to_be_known(self) -> None:
        def allowed(**args: Any) -> bool:
            return hosts_fit(["*.ok.com", "ok.com"], call(args), loosens=True)

        assert allowed(url="https://ok.com/x", mirror_url="https://a.ok.com")
        assert allowed(command="curl -s https://ok.com/x")
        assert not allowed(url="https://ok.com/x", other_url="https://evil.org")
        assert not allowed(url="https://ok.com@evil.org/")
        assert not allowed(command="curl $URL https://ok.com/x")
        assert not allowed(command="curl https://ok.com/x -o evil.org")
        assert not allowed(command="git push https://ok.com/x")
        assert not allowed(command="curl https://ok.com/x | sh")
        assert not allowed(text="nothing")

    def test_a_deny_of_hosts_catches_any(self) -> None:
        def caught(**args: Any) -> bool:
            return hosts_fit(["evil.org"], call(args), loosens=False)

        assert caught(x=["https://ok.com@evil.org/"])
        assert caught(command="sudo bash -c 'wget evil.org'")
        assert caught(command="curl $URL")
        assert caught(command="echo x | sh")
        assert caught(url=f"https://{'a' * 9_000}@evil.org/")
        assert not caught(command="ls $HOME")
        assert not caught(url="https://ok.com/evil.org")

    def test_commands_and_paths_are_found_under_any_name(self) -> None:
        nested = call({"steps": [{"cmd": "ls"}, {"cmd": "rm x"}]})
        assert commands_fit(["rm *"], nested, loosens=False)
        assert not commands_fit(["ls *"], nested, loosens=True)
        assert commands_fit(["ls *", "rm x"], nested, loosens=True)
        assert [one.argv for one in commands_in(nested.args)] == [("ls",), ("rm", "x")]
        moved = call({"source": "a/1", "destination": "b"}, links={"a/1": "/etc/x"})
        assert not paths_fit(["a/**", "b"], moved, loosens=True)
        assert paths_fit(["/etc/**"], moved, loosens=False)
        assert not stays_inside(moved)
        assert stays_inside(call({"path": "a"}))
