from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import ConfigError
from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.presets import PRESETS
from corral.policies.rules import Policy, Rule
from corral.policies.writing.parse import find_preset, parse_policy, parse_rule, parse_rules

FILE = """\
# who may do what
preset = "read-only"

[[rules]]
tool = "files__write_file"
args = {path = "reports/**"}
action = "allow"
reason = "reports are the agent's own"

[[rules]]
tool = "files__*"
paths = ["secrets/**"]
read_only = false
action = "deny"
"""


def test_a_policy_is_its_rules_and_then_those_of_its_preset() -> None:
    policy = parse_policy(FILE, "/home/me/team/strict.toml", layer="organisation")
    assert (policy.name, policy.layer) == ("strict.toml", "organisation")
    assert policy.lines == (4, 10)
    assert policy.base is PRESETS["read-only"]
    assert policy.rules == (
        Rule.model_validate(
            {
                "tool": "files__write_file",
                "args": {"path": "reports/**"},
                "action": "allow",
                "reason": "reports are the agent's own",
            }
        ),
        Rule(tool="files__*", paths=("secrets/**",), read_only=False, action="deny"),
    )
    made = ToolCall("mail__send", {}, read_only=False, sandboxed=False, workspace="/w")
    assert decide(Layered.of(policy), made).rule == "rule 2 of read-only"


def test_the_agent_cannot_write_the_file_that_it_was_read_from() -> None:
    policy = parse_policy('[[rules]]\naction = "allow"', "/w/conf/mine.toml")
    args = {"path": "conf/./mine.toml"}
    made = ToolCall("files__write_file", args, read_only=False, sandboxed=True, workspace="/w")
    assert decide(Layered.of(policy), made).action == "deny"


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "rules = []"])
def test_a_file_without_rules_is_a_policy(text: str) -> None:
    policy = parse_policy(text, "p.toml")
    assert (policy.rules, policy.base) == ((), None)


def test_sections_of_others_are_passed_over() -> None:
    text = '[mcp.web]\nurl = "x"\n[[rules]]\naction = "ask"\n'
    assert len(parse_policy(text, "corral.toml", others=("mcp", "model")).rules) == 1
    with pytest.raises(ConfigError, match="line 1: 'mcp'"):
        parse_policy(text, "corral.toml")


RULE = '[[rules]]\ntool = "x"\naction = "allow"\n\n'


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ('[[rules]\ntool = "x"', 1, "not valid TOML", "Correct this line"),
        ('a = "b', 1, "not valid TOML", "Correct this line"),
        ("x = 1\nx = 2", 2, "not valid TOML", "Correct this line"),
        ("\nrule = 1", 2, "'rule' means nothing", 'Did you mean "rules"?'),
        ("zzz = 1", 1, "'zzz' means nothing", '"preset", "rules" or "sources"'),
        ('preset = "asks"', 1, 'preset = "asks"', 'Did you mean "ask"?'),
        ("preset = 5", 1, "preset = 5", '"read-only", "ask", "workspace" or "trusted"'),
        ("\nrules = 5", 2, "not a list", "[[rules]]"),
        ('[rules]\ntool = "x"', 1, "not a list", "[[rules]]"),
        (RULE + '[[rules]]\ntool = "y"\n', 5, "rule 2 has no action", '"allow", "ask" or "deny"'),
        ('[[rules]]\ntool = "y"\n' + RULE, 1, "rule 1 has no action", "Add action"),
        (RULE + '[[rules]]\ntol = "y"\n', 6, "rule 2 has a key 'tol'", 'Did you mean "tool"?'),
        ('[[rules]]\naction = "Allow"', 2, 'action = "Allow"', 'Did you mean "allow"?'),
        ('[[rules]]\naction = "reject"', 2, 'action = "reject"', '"allow", "ask" or "deny"'),
        (RULE + '[[rules]]\naction = "dent"', 6, "rule 2", 'Did you mean "deny"?'),
        ('[[rules]]\naction = "ask"\ntool = 5', 3, "tool = 5", 'write "5" in quotes'),
        ('[[rules]]\naction = "ask"\ntool = ["a"]', 3, "tool = ['a']", "double quotes"),
        ('[[rules]]\naction = "ask"\ntool = ""', 3, 'tool = ""', "at least 1 character"),
        (
            '[[rules]]\naction = "ask"\nargs = {n = true}',
            3,
            "args.n = true",
            'a text such as "true" or a table such as {equals = true}',
        ),
        ('[[rules]]\naction = "ask"\nargs = "x"', 3, 'args = "x"', "Write a table"),
        ('[[rules]]\naction = "ask"\npaths = "x"', 3, 'paths = "x"', "Write a list"),
        ('[[rules]]\naction = "ask"\nsandboxed = "yes"', 3, "sandboxed", "without quotes"),
        ('rules = [\n  {tool = "x"},\n]', None, "rule 1 has no action", "Add action"),
        ('[[rules]]\naction = "ask"\n\n[rules.args]\nn = 5', 4, "args.n = 5", "{equals = 5}"),
        ('[[rules]]\naction = "ask"\nargs = {url = "e.org/?q"}', 3, "args", "end the pattern"),
        ('[[rules]]\naction = "ask"\nargs = {n = {mi = 5}}', 3, "args.n.mi", "Remove it"),
        ('[[rules]]\naction = "ask"\nhosts = ["https://e.org"]', 3, "hosts", 'write "e.org"'),
        ('[[rules]]\naction = "ask"\ncommands = ["\'git"]', 3, "commands", "close the quotes"),
        ('[[rules]]\naction = "ask"\nafter = 9', 3, "after = 9", '"09:00"'),
        ('[[rules]]\naction = "ask"\nbefore = "9 am"', 3, 'before = "9 am"', '"09:00"'),
        ('[[rules]]\naction = "ask"\nuntil = 9', 3, "until = 9", "2027-01-31"),
        ('[[rules]]\naction = "ask"\ndays = ["monday"]', 3, "days.0", 'Did you mean "mon"?'),
        ('[[rules]]\naction = "ask"\ncan = ["sent"]', 3, "can.0", 'Did you mean "send"?'),
        ('[[rules]]\naction = "ask"\ndepth = -1', 3, "depth", "greater than or equal to 0"),
        ('[[rules]]\naction = "ask"\nserver = ""', 3, 'server = ""', "at least 1 character"),
        ('x = """\n[[rules]]\n"""\n' + RULE, 1, "'x' means nothing", "Use"),
        (RULE + '[[rules]]\ntool = "x"\naction = "deny"', 7, "rule 1 (line 1)", "Keep the one"),
        ('[[sources]]\ntool = "x__y"', 1, "source 1", "trust, readers or both"),
        ('[[sources]]\ntrust = "yes"', 2, 'trust = "yes"', '"trusted" or "untrusted"'),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_remedy(
    text: str, line: int | None, what: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_policy(text, "conf/p.toml")
    where = "conf/p.toml: " if line is None else f"conf/p.toml, line {line}: "
    assert caught.value.message.startswith(where)
    assert what in caught.value.message
    assert hint in caught.value.hint


def test_a_file_nested_beyond_reason_is_a_mistake_as_well() -> None:
    with pytest.raises(ConfigError):
        parse_policy("a = " + "[" * 100_000, "p.toml")


@settings(deadline=None)
@given(text=st.text(alphabet='[]{}="rulestoaciny \n.,5#', max_size=60))
def test_any_text_is_a_policy_or_a_mistake(text: str) -> None:
    try:
        found: object = parse_policy(text, "p.toml")
    except ConfigError as error:
        found = (error.message[:6], bool(error.hint))
    assert isinstance(found, Policy) or found == ("p.toml", True)


def test_a_preset_is_found_by_its_name() -> None:
    assert find_preset("workspace") is PRESETS["workspace"]
    with pytest.raises(ConfigError) as caught:
        find_preset("read_only")
    assert caught.value.hint == 'Did you mean "read-only"?'
    with pytest.raises(ConfigError) as caught:
        find_preset("zzz")
    assert "policy file" in caught.value.hint


def test_the_lines_of_rules_are_not_mistaken_for_what_stands_in_texts() -> None:
    text = '[[rules]]\naction = "ask"\nreason = """\n[[rules]]\n"""\n\n[[rules]]\naction = "deny"\n'
    text += 'tool = "x__y"\n'
    assert parse_rules(text, "corral.toml", "project").lines == (1, 7)


@pytest.mark.parametrize(
    "text", ['{tool = "x__y", action = "deny"}', 'tool = "x__y"\naction = "deny"\n']
)
def test_one_rule_is_a_table_or_its_lines(text: str) -> None:
    assert parse_rule(text, "--rule") == Rule(tool="x__y", action="deny")


@pytest.mark.parametrize("text", ["", "tool", "{", '{tool = "x__y"}', '{actoin = "deny"}'])
def test_a_rule_that_is_not_one_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="--rule"):
        parse_rule(text, "--rule")


RULES = st.fixed_dictionaries(
    {"action": st.sampled_from(["allow", "ask", "deny"])},
    optional={
        "tool": st.sampled_from(["x__y", "*"]),
        "args": st.dictionaries(
            st.sampled_from(["path", "url", "n"]), st.sampled_from(["a/**", "*", {"equals": 5}])
        ),
        "depth": st.one_of(st.integers(0, 3), st.just({"min": 1})),
        "can": st.just(["send"]),
        "until": st.just("2027-01-31T18:00:00"),
        "after": st.just("09:00"),
        "days": st.just(["mon"]),
        "untrusted": st.booleans(),
    },
)


@settings(deadline=None)
@given(RULES)
def test_a_rule_survives_being_stored(table: dict[str, object]) -> None:
    rule = Rule.model_validate(table)
    assert Rule.model_validate(rule.to_json()) == rule
    assert Rule.model_validate_json(rule.model_dump_json(exclude_defaults=True)) == rule
