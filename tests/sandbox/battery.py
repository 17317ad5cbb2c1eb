"""Run ``attacks.py`` under a back end, with canaries on the host. Prints a report as JSON.

Run as ``python battery.py BACKEND [ATTACK ...]``: a program of its own, so that a test can also
have it run by another user. ``terminal`` as the only attack is made from a real terminal.
"""

from __future__ import annotations

import ctypes
import json
import os
import pty
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from corral.sandbox import host
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.contract import Grant, LocalBackend, Profile
from corral.sandbox.registry import select_backend

HERE = Path(__file__).resolve().parent
PROGRAMS = ("attacks.py", "attacks_kernel.py")
START = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from tests.sandbox import attacks
attacks.main()
"""
_IPC_PRIVATE, _IPC_RMID = 0, 0
_SEGMENT = 4096


def backend_named(name: str) -> LocalBackend:
    if name == "packaged":
        return BubblewrapBackend(host.packaged_bubblewrap())
    if name == "system":
        return BubblewrapBackend(host.Bubblewrap(Path("/usr/bin/bwrap")))
    return select_backend(name)


def run(name: str, only: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as host_side:
        base = Path(folder)
        for part in ("workspace", "readonly"):
            (base / part).mkdir()
        programs = base / "readonly" / "tests" / "sandbox"
        programs.mkdir(parents=True)
        for program in PROGRAMS:
            shutil.copy(HERE / program, programs)
        for part in ("secret", "readonly/file"):
            (base / part).write_text("canary")
        before = _stamp(base / "readonly" / "file"), _stamp(base / "secret")
        token = secrets.token_hex(16)
        victim = host_side.enter_context(_victim(token))
        order = {
            "secret": str(base / "secret"),
            "readonly": str(base / "readonly"),
            "token": token,
            "only": only,
            "segment": host_side.enter_context(_segment(token)),
            "terminal": host_side.enter_context(_terminal()),
            **host_side.enter_context(_sockets(base, token)),
        }
        limits = _treatment(victim.pid)
        report = _attack(backend_named(name), base, order, token)
        report["victim_alive"] = victim.poll() is None
        report["victim_untouched"] = victim.poll() is None and limits == _treatment(victim.pid)
        report["files_untouched"] = before == (
            _stamp(base / "readonly" / "file"),
            _stamp(base / "secret"),
        )
        written = base / "workspace" / "written"
        report["owner_kept"] = written.exists() and written.stat().st_uid == os.getuid()
        report["content"] = written.read_text() if written.exists() else ""
        return report


def _stamp(path: Path) -> tuple[str, int, float, int] | None:
    if not path.exists():
        return None
    status = path.stat()
    return path.read_text(), status.st_mode, status.st_mtime, status.st_nlink


def _treatment(pid: int) -> tuple[Any, ...]:
    """What others may change of a process without harming it at once."""
    return (
        os.getpriority(os.PRIO_PROCESS, pid),
        resource.prlimit(pid, resource.RLIMIT_CPU),
        os.sched_getaffinity(pid),
    )


@contextmanager
def _victim(token: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sh", "-c", "read x", token], stdin=subprocess.PIPE) as victim:
        try:
            yield victim
        finally:
            victim.kill()


@contextmanager
def _segment(token: str) -> Iterator[int]:
    """System V shared memory that holds the token; its number."""
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    number = libc.shmget(_IPC_PRIVATE, _SEGMENT, 0o1666)
    ctypes.memmove(libc.shmat(number, None, 0), token.encode(), len(token))
    try:
        yield number
    finally:
        libc.shmctl(number, _IPC_RMID, None)


@contextmanager
def _terminal() -> Iterator[str]:
    controller, terminal = pty.openpty()
    try:
        yield os.ttyname(terminal)
    finally:
        os.close(controller)
        os.close(terminal)


@contextmanager
def _sockets(base: Path, token: str) -> Iterator[dict[str, Any]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as port6,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as file,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        abstract.bind("\0" + token)
        file.bind(str(base / "socket"))
        datagrams.bind(str(base / "datagrams"))
        for server in (abstract, file):
            server.listen()
        for path in ("socket", "datagrams"):
            (base / path).chmod(0o777)
        yield {
            "port": port.getsockname()[1],
            "port6": port6.getsockname()[1],
            "socket": str(base / "socket"),
            "datagrams": str(base / "datagrams"),
        }


def _command(base: Path, order: dict[str, Any]) -> tuple[tuple[str, ...], Profile]:
    options = ("-B", "-I", "-S", "-c", START, str(base / "readonly"), json.dumps(order))
    command = (str(host.interpreter()), *options)
    profile = Profile(
        grants=(Grant(base / "workspace", writable=True), Grant(base / "readonly")),
        workdir=base / "workspace",
    )
    return command, profile


def _attack(backend: LocalBackend, base: Path, order: dict[str, Any], token: str) -> dict[str, Any]:
    launch = backend.launch(*_command(base, order))
    done = subprocess.run(
        launch.argv,
        env={**launch.env, "CANARY": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        return {"failed": done.stderr[-2000:] or f"status {done.returncode}", "worked": []}
    report: dict[str, Any] = json.loads(done.stdout)
    return report


_PUSH = """
import fcntl, termios
for fd in (0, 1, 2):
    for byte in b"canary\\n":
        try:
            fcntl.ioctl(fd, 0x5412, bytes([byte]))
        except OSError:
            pass
try:
    fcntl.ioctl(open("/dev/tty", "w"), 0x5412, b"x")
except OSError:
    pass
print("tried", flush=True)
"""


def terminal(name: str) -> dict[str, Any]:
    """Push text into the terminal that the sandbox was started from."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        command = (str(host.interpreter()), "-I", "-S", "-c", _PUSH)
        profile = Profile((Grant(workspace, writable=True),), workspace)
        launch = backend_named(name).launch(command, profile)
        child, controller = pty.fork()
        if child == 0:
            _in_the_terminal(launch.argv, dict(launch.env))
        said = b""
        while True:
            try:
                said += os.read(controller, 4096)
            except OSError:  # the last one has closed the terminal
                break
        os.waitpid(child, 0)
        os.close(controller)
    return {"tried": b"tried" in said, "injected": b"INJECTED" in said}


def _in_the_terminal(argv: tuple[str, ...], env: dict[str, str]) -> None:
    """The shell from which the sandbox was started: what is there to read afterwards?"""
    try:
        settings = termios.tcgetattr(0)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(0, termios.TCSANOW, settings)
        subprocess.run(argv, env=env, check=False)
        os.set_blocking(0, False)
        try:
            found = os.read(0, 100)
        except BlockingIOError:
            found = b""
        os.write(1, b"INJECTED" if found else b"CLEAN")
    finally:
        os._exit(0)


if __name__ == "__main__":
    result = (
        terminal(sys.argv[1]) if sys.argv[2:] == ["terminal"] else run(sys.argv[1], sys.argv[2:])
    )
    json.dump(result, sys.stdout)
