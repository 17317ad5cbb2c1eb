"""Run the system's git on a repository that nobody vouches for.

A repository's own configuration and attributes can name programs: hooks, monitors, filters, drivers
for diffs, helpers for signatures and credentials, transports. All of them are switched off, by
settings that come after every file's, so that git runs git and nothing else.

Source: git-config(1), gitattributes(5), git(1) "Environment Variables".
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.tool import Call, ToolFault

TIMEOUT = 60.0
"""Seconds for one git command."""

MAX_OUTPUT = 4 * 1024 * 1024
"""What of a command's output is read, in bytes."""

_LOOK = 0.1
_PATIENCE = 2.0
_MAX_ERROR = 2000
_SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.pager": "cat",
    "core.editor": "false",
    "core.sshCommand": "false",
    "core.askPass": "",
    "core.attributesFile": "/dev/null",
    "core.quotePath": "false",
    "core.alternateRefsCommand": "",
    "credential.helper": "",
    "protocol.allow": "never",
    "submodule.recurse": "false",
    "status.submoduleSummary": "false",
    "diff.submodule": "short",
    "diff.ignoreSubmodules": "dirty",
    "diff.external": "",
    "log.showSignature": "false",
    "commit.gpgSign": "false",
    "commit.verbose": "false",
    "gpg.program": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "user.useConfigOnly": "true",
    "i18n.commitEncoding": "utf-8",
    "i18n.logOutputEncoding": "utf-8",
}
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
    "GIT_MERGE_AUTOEDIT": "no",
}
_FILTER_KEYS = ("clean", "smudge", "process")


class Ran(NamedTuple):
    """How a command ended; ``cut`` says that there was more output."""

    status: int
    output: bytes
    error: str
    cut: bool

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")

    @property
    def fields(self) -> list[str]:
        """The output's texts that end in NUL, without one that was cut."""
        return [part.decode("utf-8", "surrogateescape") for part in self.output.split(b"\0")[:-1]]


class Job(NamedTuple):
    """One git command: its arguments, what it gets, and how much of its output is read."""

    args: tuple[str, ...]
    env: dict[str, str]
    stdin: bytes = b""
    limit: int = MAX_OUTPUT


class Git:
    """The system's git on the repository of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, call: Call, *args: str, stdin: bytes = b"", limit: int = MAX_OUTPUT) -> Ran:
        """Run a command that only reads. Raises ``ToolFault`` with git's words when it fails."""
        ran = self.run(call, Job(args, {"GIT_OPTIONAL_LOCKS": "0"}, stdin, limit))
        if ran.status and not ran.cut:
            raise ToolFault(f"git {args[0]}: {ran.error or f'failed with status {ran.status}'}")
        return ran

    def run(self, call: Call, job: Job) -> Ran:
        """Run a command, whatever its status. Raises ``ToolFault`` where it cannot be run."""
        self._check_place()
        return self._ended(call, job, self.filters(call))

    def filters(self, call: Call) -> tuple[str, ...]:
        """The filters that the repository's configuration has programs for."""
        listed = self._ended(call, Job(("config", "--list", "--name-only", "-z"), {}), ())
        if listed.status or listed.cut:
            raise ToolFault(f"The repository's configuration cannot be read: {listed.error}")
        keys = (key.partition(".") for key in listed.fields)
        found = (rest.rpartition(".") for section, _, rest in keys if section == "filter")
        return tuple(dict.fromkeys(name for name, _, last in found if last in _FILTER_KEYS))

    def _check_place(self) -> None:
        own = self.folder / ".git"
        if own.is_symlink() or own.is_file():
            raise ToolFault(
                f"{own} leads elsewhere (a worktree or submodule); the server keeps to one folder."
            )
        if not own.is_dir():
            raise ToolFault(f"{self.folder} is no git repository: there is no .git folder in it.")

    def _ended(self, call: Call, job: Job, filters: Iterable[str]) -> Ran:
        env = _environment(self.folder, filters) | job.env
        command = ("git", "--no-pager", *job.args)
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=env,
        ) as process:
            try:
                return _Exchange(process, job).end(call)
            finally:
                _stop(process)


def _environment(folder: Path, filters: Iterable[str]) -> dict[str, str]:
    """Everything that git knows besides the repository; the settings come after all files."""
    off = {f"filter.{name}.{key}": "" for name in filters for key in _FILTER_KEYS}
    required = {f"filter.{name}.required": "false" for name in filters}
    settings = {**_SETTINGS, **off, **required}
    numbered = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings.items()):
        numbered |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    place = {"GIT_DIR": str(folder / ".git"), "GIT_WORK_TREE": str(folder)}
    return {"PATH": os.environ.get("PATH", os.defpath), **_ENVIRONMENT, **place, **numbered}


class _Exchange:
    """Feeds a process and reads from it until it ends, is too slow or too talkative."""

    def __init__(self, process: subprocess.Popen[bytes], job: Job) -> None:
        self._process, self._job = process, job
        self._waiting = memoryview(job.stdin)
        self._read: dict[int, bytearray] = {}

    def end(self, call: Call) -> Ran:
        output, error, feed = (
            stream.fileno()
            for stream in (self._process.stdout, self._process.stderr, self._process.stdin)
            if stream is not None
        )
        self._read = {output: bytearray(), error: bytearray()}
        os.set_blocking(feed, False)
        deadline = time.monotonic() + TIMEOUT
        open_ends = {output, error}
        while open_ends and len(self._read[output]) <= self._job.limit:
            if call.cancelled.is_set():
                raise ToolFault("Cancelled.")
            if time.monotonic() > deadline:
                raise ToolFault(f"git {self._job.args[0]} took more than {TIMEOUT:.0f} s.")
            open_ends -= self._turn(open_ends, feed)
        cut = bool(open_ends)
        if not cut:
            self._process.wait(_PATIENCE)
        said = self._read[error][:_MAX_ERROR].decode("utf-8", "replace").strip()
        return Ran(
            self._process.returncode or 0,
            bytes(self._read[output][: self._job.limit]),
            said.removeprefix("fatal: ").removeprefix("error: "),
            cut,
        )

    def _turn(self, open_ends: set[int], feed: int) -> set[int]:
        """Read and write what can be; the ends that were closed."""
        assert self._process.stdin is not None
        if not self._waiting and not self._process.stdin.closed:
            self._process.stdin.close()
        writable = [] if self._process.stdin.closed else [feed]
        readable, ready, _ = select.select(list(open_ends), writable, [], _LOOK)
        if ready:
            try:
                self._waiting = self._waiting[os.write(feed, self._waiting[: 1 << 16]) :]
            except BrokenPipeError:
                self._waiting = memoryview(b"")
        closed: set[int] = set()
        for fd in readable:
            data = os.read(fd, 1 << 16)
            self._read[fd] += data
            closed |= set() if data else {fd}
        return closed


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it the way in which git takes its lock files with it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
