"""What is read of a script, compared with what a real bash runs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.patterns.commands import matches_command_loosely, matches_command_strictly
from corral.policies.patterns.globs import escape
from corral.policies.patterns.plain_shell import plain_commands

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="needs bash")

NAMES = ("aa", "bb", "cc")
_RECORD = """#!/bin/bash -p
printf -v words '%s\\037' "${0##*/}" "$@"
printf '%s\\036' "$words" >> "$RECORD"  # one write, so that commands that run at once do not mix
"""

Run = Callable[[str], list[tuple[str, ...]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a script in bash; returns the commands ``aa``, ``bb`` and ``cc`` that it ran."""
    place = tmp_path_factory.mktemp("bash")
    programs, record = place / "bin", place / "record"
    programs.mkdir()
    (place / "empty").mkdir()
    for name in NAMES:
        (programs / name).write_text(_RECORD)
        (programs / name).chmod(0o755)
    for name in ("env", "nice", "bash", "sh", "xargs", "find", "nohup", "timeout", "cat"):
        found = shutil.which(name)
        if found:
            (programs / name).symlink_to(found)

    def run_script(script: str) -> list[tuple[str, ...]]:
        record.unlink(missing_ok=True)
        subprocess.run(
            [str(BASH), "--norc", "-c", script],
            env={"PATH": str(programs), "RECORD": str(record), "LC_ALL": "C.UTF-8"},
            cwd=place / "empty",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        text = record.read_text("utf-8", "replace") if record.exists() else ""
        return [tuple(line.split("\x1f")[:-1]) for line in text.split("\x1e") if line]

    return run_script


_checked = settings(deadline=None, max_examples=60)

PIECES = [
    *NAMES,
    *("aa ", "bb ", " ", " x", " '", "'", '"', ' "', "\\", " \\", ";", "&&", "||", "|", "\n", "#"),
    *("~", "=", "^", "$", "`", "!", "{", "}", "*", "é", ":", "\\\n", '\\"', "%", "@", "-", "&"),
]


@_checked
@given(script=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_plain_script_runs_the_words_that_are_read(run: Run, script: str) -> None:
    read = plain_commands(script)
    if read is None or not any(command[0] in NAMES for command in read):
        return
    ran = run(script)
    own = [command for command in read if command[0] in NAMES]
    assert set(ran) <= set(own), script
    if "||" not in script and "&&" not in script:
        assert sorted(ran) == sorted(own), script


words = st.sampled_from(
    ["x", "-n", "k=v", "'a b'", '"a b"', "a\\ b", "$v", '"$v"', "*", "{a,b}", "~", "$'q'", "#c"]
)
names = st.sampled_from(["aa", "bb", "cc", "'aa'", "b''b", 'c"c"', "\\aa", "$'\\x62b'", "a\\\na"])


def simple(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    substitution = st.builds(
        "{}{}{}".format, st.sampled_from(['"$(', "$(", "<("]), inner, st.just(")")
    )
    closed = substitution.map(lambda s: s + '"' if s.startswith('"') else s)
    some = st.lists(st.one_of(words, closed), max_size=3)
    before = st.sampled_from(
        [
            "",
            "",
            "",
            "A=1 ",
            "2>&1 ",
            ">f ",
            "env ",
            "env A=1 ",
            "nice ",
            "timeout 5 ",
            "! ",
            "time ",
        ]
    )
    after = st.sampled_from(["", "", "", " 2>&1", " # c", " <<E\n$(bb)\nE\n", " <<< x", " >f x"])
    return st.builds(lambda b, n, w, a: " ".join([b + n, *w]) + a, before, names, some, after)


def quote(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    joined = st.builds(
        "{}{}{}".format, inner, st.sampled_from(["; ", " && ", " || ", "\n", " | "]), inner
    )
    wrapped = st.builds(
        lambda form, script: form(script),
        st.sampled_from(
            [
                lambda s: f"( {s}\n)",
                lambda s: f"{{ {s}\n}}",
                lambda s: f"if {s}\nthen aa\nfi",
                lambda s: f"for i in a b; do {s}\ndone",
                lambda s: f"case x in x) {s}\n;; esac",
                lambda s: f"f() {{ {s}\n}}; f",
                lambda s: f"bash -c {quote(s)}",
                lambda s: f"eval {quote(s)}",
                lambda s: f"trap {quote(s)} EXIT",
                lambda s: f'x={quote(s)}; eval "$x"',
                lambda s: f"cat <<'END' | bash\n{s}\nEND\n",
                lambda s: f"find . -maxdepth 0 -exec sh -c {quote(s)} \\;",
                lambda s: f"cat > >({s}\n)",
            ]
        ),
        inner,
    )
    return st.one_of(simple(inner), joined, wrapped)


scripts = st.recursive(simple(st.just("bb y")), compound, max_leaves=4)


@_checked
@given(script=scripts)
def test_what_bash_runs_is_caught_and_nothing_else_is_let_through(run: Run, script: str) -> None:
    for ran in run(script):
        exactly = " ".join(quote(escape(word)) for word in ran)
        assert matches_command_loosely([exactly], script), (script, ran)
        others = [f"{name} *" for name in (*NAMES, "bash", "find", "cat") if name != ran[0]]
        assert not matches_command_strictly(others, script), (script, ran)
