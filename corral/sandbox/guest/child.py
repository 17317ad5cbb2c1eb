"""The process that a session runs in: a Python interpreter or a shell, and the pipes to it.

Python's is a fork of this process, which has run nothing of the user's; a shell is executed.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from corral.sandbox.guest import kernel, processes

Language = Literal["python", "shell"]

REQUESTS, REPLIES = 3, 4
"""The descriptors of the two pipes in the process itself."""

_HIGHEST = 1 << 20
_SHELLS = ("bash", "sh")
_QUIET = {"PS1": "", "PS2": "", "HISTFILE": "", "TERM": "dumb"}
_ERRORS = 5
# A shell that is interactive without a terminal complains at its start: only then is standard
# error its own.
_PREPARE = f"PS1= PS2=; set +m; exec 2>&{_ERRORS} {_ERRORS}>&-\n".encode()


class Child(NamedTuple):
    """A running interpreter or shell, with this side's ends of its pipes."""

    pid: int
    requests: int
    replies: int
    stdout: int
    stderr: int

    @property
    def pipes(self) -> tuple[int, ...]:
        """All descriptors."""
        return self[1:]


class Program(NamedTuple):
    """One language: how its process becomes what it is, and the messages to and from it.

    ``request`` makes the bytes for the process of a client's message (its line, and what that
    says); ``reply`` makes JSON with ``value``, ``displays`` and ``error`` of the process's line.
    """

    become: Callable[[], None]
    request: Callable[[bytes, dict[str, Any]], bytes]
    reply: Callable[[bytes], bytes]
    noun: str
    prepare: bytes = b""


def start(program: Program) -> Child:
    """Start one. The calling process must have a single thread."""
    inputs = [os.pipe(), os.pipe(), os.pipe(), os.pipe()]
    (request, requests), (replies, reply), (stdout, output), (stderr, errors) = inputs
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            processes.die_with_parent()
            _only(request, reply, output, errors)
            program.become()
        finally:
            os._exit(70)
    for fd in (request, reply, output, errors):
        os.close(fd)
    for fd in (requests, replies, stdout, stderr):
        os.set_blocking(fd, False)
    child = Child(pid, requests, replies, stdout, stderr)
    if program.prepare:
        os.write(requests, program.prepare)
    return child


def _only(request: int, reply: int, output: int, errors: int) -> None:
    """Keep the standard streams and the two pipes, at their places, and nothing else."""
    nothing = os.open(os.devnull, os.O_RDWR)
    # Above all places first, so that none is overwritten before it is moved.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in (nothing, output, errors, request, reply)]
    for place, fd in enumerate(high):
        os.dup2(fd, place, inheritable=place < REQUESTS)
    os.closerange(REPLIES + 1, _HIGHEST)


def _become_kernel() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kernel.serve(REQUESTS, REPLIES)
    os._exit(0)


def _become_shell() -> None:
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(2, _ERRORS)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(REQUESTS, 0)
    os.closerange(_ERRORS + 1, _ERRORS + 8)
    os.close(REQUESTS)
    os.set_inheritable(REPLIES, True)
    name = next((shell for shell in _SHELLS if _is_program(shell)), "sh")
    options = ["--norc", "--noprofile", "--noediting", "+o", "history", "+H"]
    argv = [name, *(options if name == "bash" else []), "-i"]
    os.execvpe(name, argv, {**os.environ, **_QUIET})  # noqa: S606  # nothing to be quoted


def _is_program(name: str) -> bool:
    # By hand: shutil takes half a megabyte of every session.
    folders = os.environ.get("PATH", os.defpath).split(":")
    return any(os.access(f"{folder}/{name}", os.X_OK) for folder in folders)


def _python_request(line: bytes, message: dict[str, Any]) -> bytes:
    del message
    return line + b"\n"


def _python_reply(line: bytes) -> bytes:
    """As it is, unread: whoever asked for it checks it."""
    return line


def _shell_request(line: bytes, message: dict[str, Any]) -> bytes:
    """The code as one quoted word, and on a line of its own what tells how it ended.

    An interactive shell comes back to its next line after whatever happened to this one.
    """
    del line
    quoted = message["code"].replace("\0", "").replace("'", "'\\''")
    told = f"printf '%s\\n' \"$?\" >&{REPLIES}"
    return f"eval '{quoted}' </dev/null {REPLIES}>&-\n{told}\n".encode(errors="replace")


def _shell_reply(line: bytes) -> bytes:
    if not line.strip().isdigit():
        return b"null"
    status = int(line)
    error = None if status == 0 else f"exit status {status}"
    return json.dumps({"value": str(status), "displays": [], "error": error}).encode()


PROGRAMS: dict[Language, Program] = {
    "python": Program(_become_kernel, _python_request, _python_reply, "interpreter"),
    "shell": Program(_become_shell, _shell_request, _shell_reply, "shell", _PREPARE),
}
"""The languages that a session can be in."""
