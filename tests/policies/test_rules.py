from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.matching import matches
from corral.policies.rules import Action, Policy, Rule

WORKSPACE = "/work/space"
WRITE = "files__write_file"


def call(name: str = WRITE, *, read_only: bool = False, **args: Any) -> ToolCall:
    return ToolCall(name, args, read_only=read_only, sandboxed=True, workspace=WORKSPACE)


def named(argument: str, value: str) -> ToolCall:
    return ToolCall(WRITE, {argument: value}, read_only=False, sandboxed=True, workspace=WORKSPACE)


def policy(*rules: Rule) -> Layered:
    return Layered.of(Policy("corral.toml", rules))


def fits(action: Action, pattern: str, path: str) -> bool:
    return matches(Rule(args={"path": pattern}, action=action), call(path=path))


class TestDecide:
    def test_without_rules_only_what_is_read_only_is_allowed(self) -> None:
        assert decide(policy(), call(read_only=True, path="a")).action == "allow"
        decision = decide(policy(), call(path="a"))
        assert (decision.action, decision.rule) == ("ask", None)
        assert WRITE in decision.reason

    def test_the_first_rule_that_matches_wins_and_is_named(self) -> None:
        rules = policy(
            Rule(tool="python__*", action="deny", reason="no code"),
            Rule(tool=WRITE, args={"path": "reports/**"}, action="allow"),
            Rule(tool=WRITE, action="deny"),
        )
        allowed = decide(rules, call(path="reports/a.md", content="x"))
        assert (allowed.action, allowed.rule) == ("allow", "rule 2 of corral.toml")
        denied = decide(rules, call(path="other.md"))
        assert (denied.action, denied.rule) == ("deny", "rule 3 of corral.toml")
        assert denied.reason == f"rule 3 of corral.toml: deny {WRITE}"
        assert decide(rules, call("python__run_code", code="1")).reason == "no code"

    def test_the_rules_of_the_base_come_after_the_policy_s_own(self) -> None:
        base = Policy("strict", (Rule(action="deny"),))
        own = Policy("mine.toml", (Rule(tool=WRITE, action="allow"),), base=base)
        layered = Layered.of(own)
        assert decide(layered, call(path="a")).rule == "rule 1 of mine.toml"
        assert decide(layered, call("x__y")).rule == "rule 1 of strict"

    def test_a_deny_also_holds_for_what_is_read_only(self) -> None:
        assert decide(policy(Rule(action="deny")), call(read_only=True)).action == "deny"

    def test_rules_can_look_at_the_kind_of_tool(self) -> None:
        outside = ToolCall("web__get", {}, read_only=True, sandboxed=False, workspace=WORKSPACE)
        rule = Rule(sandboxed=False, action="ask", reason="not in the sandbox")
        assert decide(policy(rule), outside).reason == "not in the sandbox"
        assert decide(policy(Rule(read_only=True, action="deny")), outside).action == "deny"
        assert decide(policy(Rule(read_only=False, action="deny")), outside).action == "allow"

    @pytest.mark.parametrize(
        "path",
        [
            "corral.toml",
            "./sub/../corral.toml",
            f"{WORKSPACE}/corral.toml",
            "CORRAL.toml",
            "corral.toml.",
            "corral.toml ",
            "corral.toml\0.txt",
            "\uff43orral.toml",
            "cor\u200bral.toml",
            "sub\\corral.toml",
            "file:///work/space/corral.toml",
            "team.policy.toml",
            "../elsewhere/corral.toml",
            ".git/hooks/pre-commit",
            ".git",
            "sub/.GIT/config",
            ".git /config",
        ],
    )
    def test_no_rule_lets_an_agent_write_its_policy_or_git_s_files(self, path: str) -> None:
        everything = policy(Rule(action="allow"), Rule(args={"path": "**"}, action="allow"))
        for args in ({"path": path}, {"edits": [{"file_path": path}]}, {"paths": ["a", path]}):
            assert decide(everything, call(**args), [Rule(action="allow")]).action == "deny", args
        assert decide(policy(), call(read_only=True, path=path)).action == "allow"

    @pytest.mark.parametrize("path", ["corral.toml.md", ".gitignore", "git/x", "my.toml"])
    def test_files_with_like_names_are_not_protected(self, path: str) -> None:
        assert decide(policy(Rule(action="allow")), call(path=path)).action == "allow"

    def test_no_rule_lets_an_agent_write_the_file_of_its_policy(self) -> None:
        strict = Policy("rules.toml", files=("/work/space/conf/rules.toml",))
        mine = Policy("settings", (Rule(action="allow"),), base=strict)
        assert decide(Layered.of(mine), call(path="conf/Rules.toml")).action == "deny"
        assert decide(Layered.of(mine), call(path="conf/other.toml")).action == "allow"


class TestPathArguments:
    @pytest.mark.parametrize(
        ("pattern", "path", "expected"),
        [
            ("reports/**", "reports/a.md", True),
            ("reports/**", "reports", True),
            ("reports/", "reports/a/b.md", True),
            ("reports/**", "./reports//a.md", True),
            ("reports/**", "x/../reports/a.md", True),
            ("reports/**", f"{WORKSPACE}/reports/a.md", True),
            ("./reports/**", "reports/a.md", True),
            (f"{WORKSPACE}/reports/**", "reports/a.md", True),
            ("re\u0301ports/**", "réports/a.md", True),
            ("*.md", "a.md", True),
            ("**/*.md", "a/b/c.md", True),
            (".", "", True),
            ("reports/*", "reports/a/b.md", False),
            ("reports/**", "reports2/a.md", False),
            ("reports/**", "reports/../secret", False),
            ("reports/**", "reports/../../../etc/passwd", False),
            ("reports/**", "Reports/a.md", False),
            ("reports/**", "reports/a.md.", False),
            ("reports/**", "reports/a.md ", False),
            ("reports/**", "reports./a.md", False),
            ("reports/**", "reports/a\0.md", False),
            ("reports/**", "reports/a\u202egnp.md", False),
            ("reports/**", "reports\\..\\..\\etc", False),
            ("reports/**", "reports/\uff0e\uff0e/\uff0e\uff0e/etc", False),
            ("**", "../x", False),
            ("**", "/etc/passwd", False),
            ("**", "~/.ssh/id_rsa", False),
            ("**", "file:///etc/passwd", False),
            ("**", "//etc/passwd", False),
            ("**", "/work/space2/a", False),
            ("/**", "/etc/passwd", False),
            ("/etc/**", "/etc/passwd", False),
            ("../**", "../x", False),
        ],
    )
    def test_an_allow_is_strict(self, pattern: str, path: str, expected: bool) -> None:
        assert fits("allow", pattern, path) is expected

    @pytest.mark.parametrize("action", ["deny", "ask"])
    @pytest.mark.parametrize(
        ("pattern", "path", "expected"),
        [
            ("secrets/**", "secrets/a", True),
            ("secrets/**", "SECRETS/a", True),
            ("secrets/**", "x/../secrets/a", True),
            ("secrets/**", f"{WORKSPACE}/./secrets/a", True),
            ("secrets/**", "secrets./a", True),
            ("secrets/**", "sec\u200drets/a", True),
            ("secrets/**", "\uff53\uff45\uff43\uff52\uff45\uff54\uff53/a", True),
            ("secrets/**", "secrets\\a", True),
            ("Straße/**", "STRASSE/a", True),
            ("/etc/**", "/etc/passwd", True),
            ("/etc/**", "../../etc/passwd", True),
            ("/etc/**", "file:///etc/passwd", True),
            ("**/.ssh/**", "/root/.ssh/id_rsa", True),
            ("~/.ssh/**", "~/.ssh/id_rsa", True),
            ("**", "/etc/passwd", True),
            ("../**", "../x", True),
            ("../../*", "/other", True),
            ("secrets/**", "secret/a", False),
            ("secrets/**", "/secrets/a", False),
            ("../**", "inside", False),
            ("../other/**", "../another/x", False),
        ],
    )
    def test_a_deny_sees_through_disguises(
        self, action: Action, pattern: str, path: str, expected: bool
    ) -> None:
        assert fits(action, pattern, path) is expected

    @pytest.mark.parametrize(
        "name",
        ["path", "file", "dir", "cwd", "root", "output_file", "filePath", "rootDir", "PATH2"],
    )
    def test_arguments_are_paths_by_their_names(self, name: str) -> None:
        rule = Rule(args={name: "reports/*"}, action="allow")
        assert matches(rule, named(name, "./reports/a"))
        assert not matches(rule, named(name, "reports/a/b"))

    @pytest.mark.parametrize("name", ["profile", "content", "pathology", "file_id", "query"])
    def test_other_arguments_are_plain_texts(self, name: str) -> None:
        rule = Rule(args={name: "reports/*"}, action="allow")
        assert matches(rule, named(name, "reports/a/b"))
        assert not matches(rule, named(name, "./reports/a"))

    def test_a_list_of_paths_is_allowed_when_all_fit_and_denied_when_one_does(self) -> None:
        allow = Rule(args={"paths": "a/**"}, action="allow")
        deny = Rule(args={"paths": "a/**"}, action="deny")
        assert matches(allow, call(paths=["a/1", "a/2"]))
        assert not matches(allow, call(paths=["a/1", "b"]))
        assert not matches(allow, call(paths=[]))
        assert matches(deny, call(paths=["a/1", "b"]))
        assert not matches(deny, call(paths=["b"]))

    @pytest.mark.parametrize("value", [None, 5, {"path": "../x"}, [["../x"]], [1]])
    def test_a_path_that_is_no_text_is_not_allowed_by_a_pattern(self, value: object) -> None:
        assert not matches(Rule(args={"path": "**"}, action="allow"), call(path=value))

    @pytest.mark.parametrize("nested", [{"a": {"path": "../x"}}, {"a": [{"files": ["b", "/x"]}]}])
    def test_within_workspace_sees_paths_at_any_depth(self, nested: dict[str, Any]) -> None:
        rule = Rule(within_workspace=True, action="allow")
        assert not matches(rule, call(**nested))
        assert matches(rule, call(a={"path": "x", "n": 1}))

    def test_paths_are_matched_whatever_the_arguments_are_called(self) -> None:
        deny = Rule(paths=("secrets/**", "*.key"), action="deny")
        assert matches(deny, call(source="a", destination="secrets/b"))
        assert matches(deny, call(path="my.KEY"))
        assert not matches(deny, call(path="a", content="secrets/b"))
        named: list[dict[str, Any]] = [
            {"output": "secrets/a"},
            {"to": "x/../secrets/a"},
            {"target": "b.key"},
        ]
        for args in named:
            assert matches(deny, call(**args))
            assert decide(policy(deny), call(**args)).action == "deny"
        assert not matches(Rule(paths=("**",), action="deny"), call(city="Lisbon", n=3))
        allow = Rule(paths=("a/**", "b/**"), action="allow")
        assert matches(allow, call(path="a/1", to="Ann", ref="feature/x"))
        for away in ("/etc/x", "~/x", "a/../../x"):
            assert not matches(allow, call(path="a/1", to=away))
        assert matches(allow, call(source="a/1", destination="b/1"))
        assert not matches(allow, call(source="a/1", destination="c/1"))
        assert not matches(allow, call(content="x"))

    @settings(deadline=None)
    @given(
        segments=st.lists(
            st.one_of(
                st.sampled_from(["..", ".", "", "reports", "a", "..."]),
                st.text(alphabet="ab.é /\\\0~\u200b", max_size=3),
            ),
            max_size=6,
        ),
        start=st.sampled_from(["", "/", "reports/", f"{WORKSPACE}/reports/", "//", "./"]),
    )
    def test_what_an_allow_lets_through_lies_in_its_folder(
        self, segments: list[str], start: str
    ) -> None:
        path = start + "/".join(segments)
        if fits("allow", "reports/**", path):
            resolved = resolve(path)
            assert resolved[:3] == ["work", "space", "reports"]
            assert all(
                part == part.strip(" ").rstrip(".") and "\0" not in part for part in resolved
            )
            assert fits("deny", "reports/**", path)

    @settings(deadline=None)
    @given(
        name=st.text(alphabet="secrtkyé", min_size=1, max_size=8),
        disguise=st.sampled_from(
            ["x/../{}", "./{}", WORKSPACE + "//{}", "{}.", "{} ", "{}/", "{}\0x", "\u200b{}"]
        ),
        upper=st.booleans(),
        form=st.sampled_from(["NFC", "NFD"]),
    )
    def test_no_disguise_slips_past_a_deny(
        self, name: str, disguise: str, upper: bool, form: str
    ) -> None:
        spelled = unicodedata.normalize(form, name.upper() if upper else name)  # type: ignore[arg-type]  # a literal, sampled
        assert fits("deny", name, disguise.format(spelled))


def resolve(path: str) -> list[str]:
    """An independent reading of a path, as a shell would do it."""
    parts: list[str] = [] if path.startswith("/") else ["work", "space"]
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return parts


class TestOtherArguments:
    @pytest.mark.parametrize(
        ("pattern", "value", "expected"),
        [
            ("5", 5, True),
            ("true", True, True),
            ("null", None, True),
            ('{"a":1,"b":[2]}', {"b": [2], "a": 1}, True),
            ("5", 6, False),
            ("a*", "a\nb", True),
            ("*", "", True),
            ("a", "A", False),
        ],
    )
    def test_they_are_matched_as_text_or_canonical_json(
        self, pattern: str, value: object, expected: bool
    ) -> None:
        assert matches(Rule(args={"x": pattern}, action="allow"), call(x=value)) is expected

    @pytest.mark.parametrize("action", ["allow", "ask", "deny"])
    def test_an_argument_that_is_missing_does_not_match(self, action: Action) -> None:
        assert not matches(Rule(args={"x": "*"}, action=action), call(y="1"))

    def test_exact_args_refuses_further_arguments(self) -> None:
        rule = Rule(args={"x": "*"}, exact_args=True, action="allow")
        assert matches(rule, call(x=1))
        assert not matches(rule, call(x=1, force=True))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(action="ask"), "ask any tool"),
        (
            Rule(tool=WRITE, args={"path": "a/**", "content": "*"}, action="allow"),
            "allow files__write_file where path is a/** and content is anything",
        ),
        (
            Rule(paths=("a", "b"), read_only=False, sandboxed=True, action="deny"),
            "deny any tool where a path is a or b and it is not read-only and it is sandboxed",
        ),
        (
            Rule(tool="x", args={"n": "1\u202e2"}, exact_args=True, action="allow"),
            r"allow x where n is '1\u202e2' and no other argument is given",
        ),
    ],
)
def test_a_rule_in_words(rule: Rule, words: str) -> None:
    assert describe(rule) == words


def test_a_long_pattern_is_shortened_in_words() -> None:
    assert len(describe(Rule(args={"x": "y" * 5000}, action="allow"))) < 200


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"action": "maybe"},
        {"action": "allow", "tools": "x"},
        {"action": "allow", "tool": ""},
        {"action": "allow", "args": {"n": 5}},
        {"action": "allow", "sandboxed": "true"},
    ],
)
def test_a_rule_that_is_not_understood_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(data)
