"""A command line with a home and a workspace of its own, and scripts for its model."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pexpect

from corral.cli.main import invoke

LONG = "".join(f"line {number}\\n" for number in range(200))

SCRIPTS = {
    "hello": '- {text: "Hello there, friend."}\n',
    "again": '- {text: "Nice to see you again."}\n',
    "write": """
- text: "I will write it down."
  tool_calls: [{name: files__write_file, args: {path: notes.txt, content: "one\\ntwo\\n"}}]
- {text: "All is written."}
""",
    "long": f"""
- tool_calls: [{{name: files__write_file, args: {{path: long.txt, content: "{LONG}"}}}}]
- {{text: "All is written."}}
""",
    "read": """
- text: "Let me look."
  tool_calls: [{name: files__read_file, args: {path: orders.csv}}]
- {text: "There are two orders."}
""",
    "slow": f'- {{text: "{"word " * 300}", delay: 0.1}}\n',
    "short": '- {text: "One."}\n- {text: "Left over."}\n',
    "broken": '- {txt: "no such key"}\n',
}
"""Scripted models by name: ``scripted:SCRIPTS/NAME.yaml``."""


CIRCLES = (
    """
- tool_calls: [{name: files__read_file, args: {path: orders.csv}}]
"""
    * 5
    + '- {text: "Nothing new."}\n'
)
"""A scripted model that reads the same file five times."""


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines; anything else there is an error."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Place:
    """A home, a workspace and scripts, and the environment in which a command finds them."""

    home: Path
    workspace: Path
    scripts: Path
    env: dict[str, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        return f"scripted:{self.scripts / name}.yaml"

    def corral(self, *args: str, stdin: str = "") -> Result:
        """Run one command in this process."""
        out, err = io.StringIO(), io.StringIO()
        before = sys.stdin
        sys.stdin = io.StringIO(stdin)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = invoke(args)
        finally:
            sys.stdin = before
        return Result(code, out.getvalue(), err.getvalue())

    def command(self, *args: str) -> list[str]:
        """The argv that runs the same command in a process of its own."""
        return [sys.executable, "-m", "corral.cli", *args]


class Chat:
    """A REPL in a terminal, driven as a person would: read, then type."""

    def __init__(self, place: Place, *args: str) -> None:
        argv = place.command("chat", *args)
        self.child = pexpect.spawn(
            argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=60, dimensions=(50, 120)
        )

    def see(self, *texts: str) -> str:
        """Wait until all of ``texts`` were shown, in this order; what was shown before the last."""
        for text in texts:
            self.child.expect_exact(text)
        return str(self.child.before)

    def type(self, text: str) -> None:
        self.child.send(f"{text}\r")

    def leave(self) -> str:
        """Press Ctrl-D at the prompt; what is said at the end."""
        self.child.send("\x04")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0, self.child.before
        return str(self.child.before)


@contextlib.contextmanager
def chatting(place: Place, *args: str) -> Iterator[Chat]:
    """``corral chat`` in a terminal, ended with the block."""
    chat = Chat(place, *args)
    try:
        yield chat
    finally:
        chat.child.close(force=True)


def piped(place: Place, lines: str, *args: str) -> subprocess.CompletedProcess[str]:
    """``corral chat`` with these lines for its standard input."""
    command = place.command("chat", *args)
    return subprocess.run(
        command, env=place.env, input=lines, capture_output=True, text=True, timeout=90, check=False
    )
