"""Edits in the text of JSON and TOML files: what is not edited stays as it was, to the byte."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cli.mcp.clients.jsonc import BrokenJsonError, JsonText
from corral.cli.mcp.clients.toml_text import BrokenTomlError, TomlText

ENTRY = {"command": "/bin/corral", "args": ["mcp", "serve"]}

COMMENTED = """\
{
    // my servers
    "servers": {
        "a": {"command": "x"}, // first
        /* second: "servers": { */
        "b": {"url": "http://x//y"} // last
    },
    "inputs": [
        {"id": "k"},
    ],
}
"""


def test_a_member_is_added_behind_the_last_and_its_comment() -> None:
    after = JsonText.of(COMMENTED, comments=True).put(("servers", "c"), {"n": 1})
    added = ', // last\n        "c": {\n            "n": 1\n        }\n'
    assert after.text == COMMENTED.replace(" // last\n", added)
    assert list(after.value["servers"]) == ["a", "b", "c"]
    assert after.remove(("servers", "c")).text == COMMENTED


def test_an_array_with_a_last_comma_keeps_its_style() -> None:
    after = JsonText.of(COMMENTED, comments=True).append(("inputs",), "z")
    assert after.text == COMMENTED.replace('{"id": "k"},\n', '{"id": "k"},\n        "z",\n')
    assert JsonText.of("{}").append(("inputs",), 1).value == {"inputs": [1]}


def test_a_member_is_removed_with_its_line_and_comma_only() -> None:
    document = JsonText.of(COMMENTED, comments=True)
    assert document.remove(("servers", "a")).text == COMMENTED.replace(
        '"a": {"command": "x"}, // first', "// first"
    )
    last = document.remove(("servers", "b"))
    assert list(last.value["servers"]) == ["a"]
    assert "// last" in last.text
    assert "// first" in last.text
    assert document.remove(("servers", "none")) is document
    assert document.remove(("none", "none")) is document


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", '{\n  "s": {\n    "n": 1\n  }\n}\n'),
        ("{}", '{\n  "s": {\n    "n": 1\n  }\n}'),
        ('{"s":{"a":1}}', '{"s":{"a":1, "n": 1}}'),
        ('{"s":{}}', '{"s":{\n  "n": 1\n}}'),
        ('{\n\t"x": 1\n}', '{\n\t"x": 1,\n\t"s": {\n\t\t"n": 1\n\t}\n}'),
        ('{"s": {"n": 2, "a": 1}}', '{"s": {"n": 1, "a": 1}}'),
    ],
)
def test_new_members_look_like_their_neighbours(text: str, after: str) -> None:
    assert JsonText.of(text).put(("s", "n"), 1).text == after


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,}', "line 1, column"),
        ('{\n  "a": // x\n}', "line 2, column 8"),
        ("[1]", "no object"),
        ('{"a": ' + "1" * 5000 + "}", "beyond all measure"),
        ('{"a": ' * 100_000, "beyond all measure"),
    ],
)
def test_what_is_broken_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(BrokenJsonError, match=words):
        JsonText.of(text)
    with pytest.raises(BrokenJsonError, match="line 1: s is not an object"):
        JsonText.of('{"s": []}').put(("s", "n"), 1)


def test_hostile_comments_take_no_longer_than_their_length() -> None:
    for text in ("/*" * 500_000, '"\\' * 500_000, '"' * 999_999, ", " * 500_000):
        with pytest.raises(BrokenJsonError):
            JsonText.of(text, comments=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
servers = st.dictionaries(st.text(max_size=6), json_values, max_size=4)


@given(servers, servers, st.sampled_from([None, 1, 2, "\t"]), st.text(max_size=6), json_values)
def test_only_the_member_that_is_put_changes(
    others: dict[str, Any], there: dict[str, Any], indent: Any, name: str, value: Any
) -> None:
    whole = {**others, "servers": there}
    before = JsonText.of(json.dumps(whole, indent=indent, ensure_ascii=False))
    after = before.put(("servers", name), value)
    assert after.value == {**whole, "servers": {**there, name: value}}
    without = after.remove(("servers", name))
    assert without.value == {
        **whole,
        "servers": {key: one for key, one in there.items() if key != name},
    }


TOML = """\
# mine
model = "o" # the best

[mcp_servers.n]  # of others
command = "/bin/true"

[mcp_servers.n.env]
K = "V"

[tui]
x = 1
"""


def test_a_table_is_added_and_removed_and_comments_stay() -> None:
    document = TomlText.of(TOML)
    after = document.put("mcp_servers", "corral", {**ENTRY, "env": {"A": "b"}})
    assert after.text.startswith(TOML)
    assert after.value["mcp_servers"]["corral"] == {**ENTRY, "env": {"A": "b"}}
    assert after.remove("mcp_servers", "corral").text == TOML
    assert document.remove("mcp_servers", "none") is document
    assert TomlText.of("").put("mcp", "a", ENTRY).remove("mcp", "a").text == ""


def test_a_table_that_is_there_is_brought_into_line_and_keeps_its_comment() -> None:
    after = TomlText.of(TOML).put("mcp_servers", "n", {"command": "/bin/false", "env": {"K": "W"}})
    assert after.text == TOML.replace("/bin/true", "/bin/false").replace('"V"', '"W"')


@pytest.mark.parametrize("text", ["mcp = {a = {command = 'x'}}\n", "mcp = 1\n"])
def test_what_takes_no_table_is_refused(text: str) -> None:
    with pytest.raises(BrokenTomlError, match="mcp is"):
        TomlText.of(text).put("mcp", "b", ENTRY)
    with pytest.raises(BrokenTomlError, match="line 2"):
        TomlText.of("a = 1\nb = \n")


@given(st.dictionaries(st.text("abc-. ", min_size=1, max_size=4), st.text(max_size=8), max_size=4))
def test_whatever_a_table_is_called_it_is_read_again(env: dict[str, str]) -> None:
    after = TomlText.of(TOML).put(
        "mcp_servers", "c", {"command": "x", **({"env": env} if env else {})}
    )
    assert tomllib.loads(after.text)["mcp_servers"]["c"].get("env", {}) == env
