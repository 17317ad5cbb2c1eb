"""The ``shell`` server: commands to their end, and jobs in the background, in the workspace."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from pathlib import Path

from corral.mcp_servers.options import roots_of
from corral.mcp_servers.produced import Watch
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.shell.jobs import Commands, Ends, Job, Log, Order
from corral.mcp_servers.shell.tools import EFFECTS, declarations
from corral.mcp_servers.tool import Answer, Call, JsonObject, Tool, ToolFault
from corral.sandbox.guest import processes

DEFAULT_TIMEOUT = 60
_HALF_OUTPUT = 16_384
_LOG = 1024 * 1024
_PAGE = 32_768
_MAX_JOBS, _MAX_KEPT = 16, 64
_MAX_SHOWN = 200
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# With these a command that a rule allows would run something else.
_REFUSED = re.compile(
    r"PATH|IFS|ENV|BASH.*|SHELLOPTS|PS4|PROMPT_COMMAND|LD_.*|DYLD_.*|GIT_.*|PYTHON.*|NODE_OPTIONS"
    r"|PERL5?(OPT|LIB)|RUBY(OPT|LIB)|.*(EDITOR|PAGER|PRELOAD|VISUAL)|SSH_ASKPASS|HOME|XDG_.*"
)

__all__ = ["EFFECTS", "ShellTools", "main"]


class ShellTools:
    """The tools over one server's commands and jobs, in one folder."""

    def __init__(self, folder: Path, commands: Commands) -> None:
        self._folder = folder
        self._written = Watch(str(folder))
        self._commands = commands
        self._jobs: dict[str, tuple[Job, Log]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def tools(self) -> dict[str, Tool]:
        """The declarations by name."""
        runs = {
            "run_command": self.run_command,
            "start_job": self.start_job,
            "job_output": self.job_output,
            "list_jobs": self.list_jobs,
            "stop_job": self.stop_job,
        }
        return {tool.name: tool for tool in declarations(runs)}

    def run_command(self, call: Call) -> Answer:
        """Run one command to its end."""
        begun = time.time()
        output = _Followed(call)
        job = self._commands.start(
            self._order(call, call.number("timeout", DEFAULT_TIMEOUT)), output
        )
        job.wait(call.cancelled.is_set)
        produced = self._written.since(begun)
        stdout, stderr = (output.streams[name] for name in ("stdout", "stderr"))
        structured: JsonObject = {
            "state": job.state,
            "exit_code": job.code,
            "stdout": stdout.text(),
            "stderr": stderr.text(),
            "dropped_bytes": stdout.dropped + stderr.dropped,
            "seconds": round(job.seconds, 3),
            "files": produced.paths,
        }
        errors = f"[stderr]\n{stderr.text()}" if stderr.text() else ""
        parts = [stdout.text(), errors, _ending(job), produced.note()]
        text = "\n".join(part.removesuffix("\n") for part in parts if part)
        return Answer(text or "(no output)", structured, job.state != "exited")

    def start_job(self, call: Call) -> Answer:
        """Start a command that goes on while others are run."""
        order = self._order(call, None)
        with self._lock:
            running = sum(job.state == "running" for job, _ in self._jobs.values())
            if running >= _MAX_JOBS:
                raise ToolFault(f"{_MAX_JOBS} jobs are running already: stop one with stop_job.")
            log = Log(_LOG)
            job = self._commands.start(order, log)
            self._count += 1
            name = f"job-{self._count}"
            self._jobs[name] = (job, log)
            self._forget_old()
        return Answer(f"Started {name}. See its output with job_output.", {"job": name})

    def job_output(self, call: Call) -> Answer:
        """A part of what a job has written."""
        name, job, log = self._find(call)
        wanted = int(call.number("offset", 0))
        offset, data = log.read(wanted, int(call.number("limit", _PAGE)))
        following = offset + len(data)
        more = following < log.end
        text = data.decode("utf-8", "replace")
        notes = [f"[{name}: {_state(job)}; bytes {offset} to {following} of {log.end}"]
        notes += [f", the {offset - wanted} before are no longer kept"] if offset > wanted else []
        notes += [f", go on with offset={following}]" if more or job.state == "running" else "]"]
        structured: JsonObject = {
            "job": name,
            "state": job.state,
            "exit_code": job.code,
            "output": text,
            "offset": offset,
            "next_offset": following,
            "more": more,
        }
        return Answer("\n".join(part for part in (text, "".join(notes)) if part), structured)

    def list_jobs(self, call: Call) -> Answer:
        """Every job that is remembered."""
        del call
        with self._lock:
            jobs = list(self._jobs.items())
        found: list[JsonObject] = [
            {
                "job": name,
                "command": _shown(job),
                "state": job.state,
                "exit_code": job.code,
                "seconds": round(_age(job), 1),
                "output_bytes": log.end,
            }
            for name, (job, log) in jobs
        ]
        lines = [f"{name}: {_state(job)}: {_shown(job)}" for name, (job, _) in jobs]
        return Answer("\n".join(lines) or "(no jobs)", {"jobs": found})

    def stop_job(self, call: Call) -> Answer:
        """End a job and everything that it started."""
        name, job, _ = self._find(call)
        if job.state == "running":
            job.stop("stopped")
            job.wait(lambda: False)
        return Answer(f"{name}: {_state(job)}.", {"job": name, "state": job.state})

    def close(self) -> None:
        """End all commands and jobs."""
        self._commands.close()

    def _order(self, call: Call, seconds: float | None) -> Order:
        command, env = call.arguments["command"], call.arguments.get("env", {})
        words = [command] if isinstance(command, str) else command
        if not words or any("\0" in word for word in words):
            raise ToolFault("The command is empty or holds a NUL character.")
        for name, value in env.items():
            if not isinstance(value, str) or not _NAME.fullmatch(name) or "\0" in value:
                raise ToolFault(f"The variable {name!r} is not a name with a text.")
            if _REFUSED.fullmatch(name.upper()):
                raise ToolFault(
                    f"The variable {name} cannot be set here: it changes what a command is. "
                    "Set it in the command itself."
                )
        folder = os.path.join(self._folder, call.text("cwd", "."))  # noqa: PTH118  # may lead out; the sandbox decides
        return Order(command, folder, env, seconds)

    def _find(self, call: Call) -> tuple[str, Job, Log]:
        name = call.text("job")
        with self._lock:
            if name not in self._jobs:
                known = ", ".join(self._jobs) or "none"
                raise ToolFault(f"There is no job {name!r}; there are: {known}.")
            return (name, *self._jobs[name])

    def _forget_old(self) -> None:
        ended = [name for name, (job, _) in self._jobs.items() if job.state != "running"]
        for name in ended[: max(0, len(self._jobs) - _MAX_KEPT)]:
            del self._jobs[name]


class _Followed(Ends):
    """A command's output, told as progress where the client wants that."""

    def __init__(self, call: Call) -> None:
        super().__init__(_HALF_OUTPUT)
        self._call = call
        self._waiting = b""
        self._done = 0

    def add(self, name: str, data: bytes) -> None:
        super().add(name, data)
        if self._call.followed:
            self._done += len(data)
            self._waiting = (self._waiting + data)[-2000:]
            if self._call.progress(self._done, message=self._waiting.decode("utf-8", "replace")):
                self._waiting = b""


def _state(job: Job) -> str:
    match job.state:
        case "running":
            return f"running for {_age(job):.0f} s"
        case "exited":
            return f"exited with code {job.code}"
        case "failed":
            return f"failed ({job.detail})"
        case other:
            return other


def _ending(job: Job) -> str:
    """What is to be said of a command's end, besides its output."""
    match job.state:
        case "exited":
            return f"[exit code {job.code}]" if job.code else ""
        case "timeout":
            return (
                f"Stopped with all that it started: it was not done after {job.order.seconds:g} s."
            )
        case "failed":
            return f"The command did not run: {job.detail}."
        case _:
            return "Stopped with all that it started: the call was cancelled."


def _age(job: Job) -> float:
    return time.monotonic() - job.began if job.state == "running" else job.seconds


def _shown(job: Job) -> str:
    command = job.order.command
    text = command if isinstance(command, str) else " ".join(command)
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN - 1]}…"


def main(argv: list[str] | None = None) -> int:
    """Serve on standard input; commands run in the folder that ``--root`` names, else this one."""
    folder = roots_of("shell", sys.argv[1:] if argv is None else argv)[0]
    os.chdir(folder)
    processes.become_opaque()  # a command must not speak for this process
    tools = ShellTools(folder, Commands())
    identity = Identity(
        name="corral-shell",
        title="Shell",
        version="1.0.0",
        instructions=f"Commands and background jobs; the current folder is {folder}.",
    )
    return Server(identity, tools.tools(), tools.close).serve()


if __name__ == "__main__":
    sys.exit(main())
