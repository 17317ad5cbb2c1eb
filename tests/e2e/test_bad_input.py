"""What a person gets for a mistake: exit code 2 (or 1), what is wrong, what to do; nothing lost."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from corral.runtime.models.local.model import bundled_model
from tests.e2e.shell import Shell, turn

SERVERS = Path(__file__).parent / "servers"


FILES = {
    "text.gguf": b"This is a text, whatever its name says.\n",
    "broken/corral.toml": b"model = \n",
    "typo/corral.toml": b'modle = "local"',
    "nested/corral.toml": b'[mcp.x]\ncomand = "python3"',
    "value/corral.toml": b"[limits]\nmax_steps = 'many'",
    "policy.toml": b"[[rules]\n",
    "strange.toml": b'[[rules]]\ntool = "*"\naction = "alow"\n',
    "latin.toml": b"\xff\xfe",
    "turns.yaml": b"- {text: Hello\n",
    "keys.yaml": b"- {text: Hello}\n- {txt: Hello}\n",
}


def _model(ref: str) -> tuple[str, ...]:
    return ("run", "Hello", "--json", "--model", ref)


def _policy(ref: str) -> tuple[str, ...]:
    return ("run", "Hello", "--policy", ref)


def _place(name: str) -> tuple[str, ...]:
    return ("--workspace", name, "run", "Hello")


MISTAKES: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...] = (
    (2, _model("none.gguf"), ("none.gguf", "corral models list")),
    (2, _model("local:none.gguf"), ("none.gguf",)),
    (1, _model("text.gguf"), ("text.gguf", "not a GGUF")),
    (1, _model("cut.gguf"), ("cut.gguf", "incomplete")),
    (2, _model("opneai:gpt-4o-mini"), ("'opneai:gpt-4o-mini'", "Did you mean openai:")),
    (2, _model("openai:gpt-4o-mini"), ("OPENAI_API_KEY",)),
    (2, _model("anthropic:claude-sonnet-4-5"), ("ANTHROPIC_API_KEY",)),
    (2, _model("scripted:none.yaml"), ("none.yaml",)),
    (2, _model("scripted:turns.yaml"), ("turns.yaml", "not YAML")),
    (2, _model("scripted:keys.yaml"), ("keys.yaml:2", "txt")),
    (2, _policy("policy.toml"), ("policy.toml",)),
    (2, _policy("strange.toml"), ("strange.toml", "alow")),
    (2, _policy("lax"), ("lax", "workspace")),
    (2, _policy("none.toml"), ("none.toml", "workspace")),
    (2, _place("broken"), ("corral.toml", "not valid TOML", "line 1")),
    (2, _place("typo"), ("corral.toml", "'modle'", "Did you mean 'model'?")),
    (2, _place("nested"), ("corral.toml", "comand", "Did you mean 'command'?")),
    (2, _place("value"), ("corral.toml", "max_steps")),
    (2, _place("none"), ("none", "--workspace DIR")),
    (2, _place("text.gguf"), ("text.gguf", "--workspace DIR")),
    (2, ("--config", "none.toml", "runs"), ("none.toml", "cannot be read")),
    (2, ("--config", "latin.toml", "runs"), ("latin.toml", "UTF-8")),
    (2, ("run", "Hello", "--agent", "nobody"), ("'nobody'", "corral agents new")),
    (2, ("run", "Hello", "--thread", "t-none"), ("t-none", "corral threads")),
    (2, ("run", " "), ("prompt is empty",)),
    (2, ("rnu", "Hello"), ("'run'",)),
)
"""Exit code, command, and what is said about it on standard error."""

ENVIRONMENT = {"MCP": "{", "LIMITS__MAX_STEPS": "x", "DATABASE_URL": "nonsense"}
"""Variables (after ``CORRAL_``) whose values cannot be understood."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_mistake_is_said_and_nothing_starts(shell: Shell) -> None:
    for name, content in FILES.items():
        path = shell.workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    with bundled_model().open("rb") as whole:
        (shell.workspace / "cut.gguf").write_bytes(whole.read(2_000_000))

    for code, args, words in MISTAKES:
        result = shell.quick(*args)
        result.says(*words)
        assert (result.code, result.out) == (code, ""), args
    for name, value in ENVIRONMENT.items():
        result = shell.under(**{f"CORRAL_{name}": value}).quick("run", "Hello")
        result.says()
        assert (result.code, result.out) == (2, ""), name

    gone = shell.workspace / "gone"
    gone.mkdir()
    nowhere = shell.program(
        ["sh", "-c", f"cd gone; rmdir {gone}; {shlex.join(shell.argv('runs'))}"]
    )
    nowhere.says("The current folder", "--workspace DIR")
    assert nowhere.code == 2

    assert shell.runs() == []
    hello = shell.model("hello", turn("Hello."))
    assert shell.quick("run", "Hello", "--model", hello).out == "Hello.\n"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_schema_that_no_grammar_expresses_is_named_with_its_tool(shell: Shell) -> None:
    (shell.workspace / "servers").mkdir()
    server = shutil.copy(SERVERS / "strange.py", shell.workspace / "servers")
    shell.own(
        f'[mcp.strange]\ncommand = "{sys.executable}"\n'
        f'args = ["-S", "-E", "{server}"]\ngrants = ["servers"]\n'
        '[agents.assistant]\nservers = ["strange"]\n'
        '[[rules]]\ntool = "strange__pick"\naction = "allow"\n'
    )
    failed = shell.quick("run", "Pick three.", "--model", "local")
    failed.says("strange__pick", "minItems")
    assert failed.code == 1
    assert "corral resume" in failed.err

    (run,) = shell.runs()
    assert run["status"] == "failed"
    kinds = [(entry["kind"], entry["status"]) for entry in shell.trace(run["run"])]
    assert kinds[-1] == ("model", "failed")
    picks = shell.model("picks", turn("I pick.", strange__pick={"of": ["a", "b"]}), turn("Two."))
    on = ("--thread", run["thread"], "--json", "--model", picks)
    done = shell.quick("run", "Then pick two.", *on)
    assert (done.code, done.last["output"]) == (0, "Two."), done.err
    assert "do not fit" in shell.trace(done.last["run"], "tool")[0]["result"]["text"]
