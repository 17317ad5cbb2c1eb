"""Names of tool servers that there are not, and what is said after a call that failed."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.cli.place import Place

DOCS = '[mcp.docs]\nurl = "http://127.0.0.1:9/mcp"\n'


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("inspect", "flies"), "Did you mean files?"),
        (("trust", "doc"), "Did you mean docs?"),
        (("test", "memroy", "recall"), "Did you mean memory?"),
        (("remove", "doc"), "Did you mean docs?"),
        (("login", "doc"), "Did you mean docs?"),
        (("logout", "dcos"), "Did you mean docs?"),
    ],
)
def test_a_name_that_is_none_is_told_with_the_nearest(
    place: Place, words: tuple[str, ...], near: str
) -> None:
    (place.workspace / "corral.toml").write_text(DOCS)
    done = place.corral("mcp", *words)
    assert (done.code, done.out) == (2, "")
    assert f"named {words[1]}" in done.err
    assert near in done.err
    assert place.corral("runs", "--json").lines == []


@pytest.mark.slow
def test_a_name_that_is_none_is_told_before_anything_heavy_is_imported(place: Place) -> None:
    for words in (("inspect", "nope"), ("test", "nope", "x"), ("trust", "nope")):
        done = subprocess.run(
            place.command("mcp", *words),
            env={**place.env, "PYTHONPROFILEIMPORTTIME": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "There is no tool server named nope." in done.stderr
        assert re.search(r"\| +pydantic$", done.stderr, re.MULTILINE)
        assert not re.search(r"\| +(langgraph|langchain_core|mcp)$", done.stderr, re.MULTILINE)


def test_a_call_that_failed_is_made_again_and_not_gone_on_with(place: Place) -> None:
    args = '{"path": "none.txt"}'
    done = place.corral("mcp", "test", "files", "read_file", "--args", args, "--policy", "trusted")
    assert done.code == 1
    again = f"corral mcp test files read_file --args '{args}' --policy trusted"
    assert f"  Try again: {again}\n" in done.err
    assert "corral resume" not in done.err
