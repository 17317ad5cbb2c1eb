"""Where a crash campaign runs `corral`: a home, a workspace, a tool server, and processes.

A command is forked from a server that has imported Corral already: a process of its own all the
same, and started in a tenth of the time.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.runtime.config import load_settings
from corral.runtime.records import Records, open_records
from corral.runtime.views import RunView

LEDGER = Path(__file__).with_name("_ledger.py")
PROMPT = "Pay what is due."
SECONDS = 60.0
"""How long a command may take before the campaign fails."""

processes = multiprocessing.get_context("forkserver")
PRELOADED = (
    "alembic.command",
    "alembic.ddl.sqlite",
    "anyio._backends._asyncio",
    "corral.agents.app",
    "corral.cli.follow",
    "corral.cli.main",
    "corral.tools.stdio_transport",
    "mako.template",
)


def script(seconds: float) -> list[dict[str, Any]]:
    """The model's turns; every call takes twice ``seconds``."""

    def turn(*calls: str) -> dict[str, Any]:
        made = [name.split() for name in calls]
        return {
            "tool_calls": [
                {"name": f"ledger__{tool}", "args": {"what": what, "seconds": seconds}}
                for tool, what in made
            ]
        }

    return [
        turn("pay rent", "look first", "pay power"),
        turn("pay water", "put note"),
        turn("look second"),
        turn("pay phone"),
        {"text": "All is paid."},
    ]


@dataclass(frozen=True)
class End:
    """What came of a run: its status, answer and journal without what differs from time to time."""

    story: list[Any]
    calls: Counter[str]


class Place:
    """A home and a workspace in which `corral` is run."""

    def __init__(self, root: Path, seconds: float, empty: Path | None = None) -> None:
        """Begin in a new folder, with the database ``empty`` or without one."""
        self.home, self.workspace, self.log = root / "home", root / "work", root / "ledger.log"
        self.workspace.mkdir(parents=True)
        if empty is not None:
            self.home.mkdir()
            shutil.copy(empty, self.database)
        self._script = root.parent / "script.yaml"  # the same model for all
        self._script.write_text(json.dumps(script(seconds)))
        server = f'command = "{sys.executable}"\nargs = ["-SE", "{LEDGER}", "{self.log}"]\n'
        config = root / "config" / "corral" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(
            f"[mcp.ledger]\n{server}sandbox = false\ntrust = true\n"
            '[agents.assistant]\nservers = ["ledger"]\nfacts = 0\n'
            '[[rules]]\ntool = "ledger__*"\naction = "allow"\n'
        )
        kept = {name: value for name, value in os.environ.items() if "CORRAL_" not in name}
        own = {"CORRAL_HOME": str(self.home), "XDG_CONFIG_HOME": str(root / "config")}
        self._env = {**kept, **own, "NO_COLOR": "1"}
        self._said = root / "said.txt"

    @property
    def database(self) -> Path:
        return self.home / "corral.db"

    def start(self, *args: str) -> Any:
        """Start a command in a process of its own."""
        place = (self._env, str(self.workspace), str(self._said))
        self._said.unlink(missing_ok=True)
        process = processes.Process(target=_command, args=(args, *place))
        process.start()
        return process

    def corral(self, *args: str) -> int:
        """Run a command to its end; its exit code."""
        process = self.start(*args)
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise RuntimeError(f"corral {args[0]} did not end:\n{self.said}")
        return int(process.exitcode)

    def wait_for_words(self, process: Any) -> None:
        """Wait until a command prints something (of ``run``: that it has begun) or ends."""
        while process.exitcode is None and not (self._said.exists() and self.said):
            time.sleep(0.002)  # until the next look: nothing tells us that a file has grown

    @property
    def begin(self) -> tuple[str, ...]:
        """The command that begins the run."""
        return ("run", PROMPT, "--json", "--model", f"scripted:{self._script}")

    @property
    def said(self) -> str:
        """What the last command has printed."""
        return self._said.read_text()

    def ask(self, question: Callable[[Records], Any]) -> Any:
        """Look into the database, in this process."""

        async def work() -> Any:
            settings = load_settings({"home": self.home, "workspace": self.workspace})
            async with open_records(settings) as records:
                return await question(records)

        return asyncio.run(work())

    def run(self) -> RunView | None:
        """The run, once there is one."""
        if not self.database.exists():
            return None
        found: list[RunView] = self.ask(lambda records: records.runs())
        return found[0] if found else None

    def calls(self) -> list[dict[str, str]]:
        """The server's log: the calls that really happened."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def end(self) -> End:
        """What came of the run."""
        run = self.run()
        assert run is not None
        effects = self.ask(lambda records: records.trace(run.run))
        journal = sorted(
            (one.path, one.kind, one.name, one.status, _result(one.result).replace(run.run, "RUN"))
            for one in effects
            if one.kind != "approval"
        )
        made = Counter(f"{call['tool']} {call['what']}" for call in self.calls())
        return End([run.status, run.output, run.steps, run.usage, journal], made)


def _result(result: dict[str, Any] | None) -> str:
    """A result as text, without who gave it: of one that was cut off, a human tells what it was."""
    return str({key: value for key, value in (result or {}).items() if key != "given_by"})


def _command(args: tuple[str, ...], env: dict[str, str], cwd: str, said: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(target, number)
    sys.argv = ["corral", *args]
    from corral.cli.main import main

    main()


def freeze(pid: int) -> list[int]:
    """Stop a process and all that it has started, in one moment as far as the disk is concerned."""
    signal_(pid, signal.SIGSTOP)
    family = [pid, *descendants(pid)]
    for each in family:
        signal_(each, signal.SIGSTOP)
    return family


def signal_(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def descendants(pid: int) -> list[int]:
    """All living processes that a process has started, and those that they have."""
    started: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if parent := _parent(int(entry.name)):
            started.setdefault(parent, []).append(int(entry.name))
    found = list(started.get(pid, ()))
    for child in found:
        found += started.get(child, ())
    return found


def _parent(pid: int) -> int:
    """A living process's parent; 0 for one that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if stat[0] in "ZX" else int(stat[1])


def wait_until_gone(pids: list[int]) -> None:
    """Nobody answers for a call before the server has ended it."""
    until = time.monotonic() + SECONDS
    while any(_parent(pid) for pid in pids):
        if time.monotonic() > until:
            raise RuntimeError(f"a server outlived corral by {SECONDS:g} s")
        time.sleep(0.005)  # until the next look: they are no children of ours to wait for
