"""A session: one interpreter that keeps its variables, in a process that may break at any time."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from corral.mcp_servers.capture import Capture

HALF_OUTPUT = 16_384
"""How many bytes of each stream are kept from its beginning, and as many from its end."""

_CHUNK = 1 << 16
_LOOK = 0.1
_MAX_REPLY = 4 * 1024 * 1024
_PR_SET_CHILD_SUBREAPER = 36

Status = Literal["ok", "error", "timeout", "crashed", "cancelled"]


@dataclass
class Outcome:
    """How one piece of code ended. ``value`` and ``error`` are text; ``note`` explains an end
    of the interpreter, after which the next call starts a new one.
    """

    status: Status = "ok"
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    error: str | None = None
    note: str = ""
    dropped: int = 0


@dataclass
class _Streams:
    stdout: Capture = field(default_factory=lambda: Capture(HALF_OUTPUT))
    stderr: Capture = field(default_factory=lambda: Capture(HALF_OUTPUT))
    reply: bytearray = field(default_factory=bytearray)


class Session:
    """One interpreter, started when it is needed and again after it ended. Not for two threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._replies = -1

    def run(self, code: str, timeout: float, cancelled: Callable[[], bool]) -> Outcome:
        """Run code; ends the interpreter after ``timeout`` seconds or when ``cancelled``."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._start()
        streams = _Streams()
        try:
            status = self._exchange(code, time.monotonic() + timeout, cancelled, streams)
        except BaseException:
            self.end()
            raise
        outcome = self._judge(status, streams, timeout)
        outcome.stdout, outcome.stderr = streams.stdout.text(), streams.stderr.text()
        outcome.dropped = streams.stdout.dropped + streams.stderr.dropped
        return outcome

    def end(self) -> None:
        """Kill the interpreter and everything that it started."""
        if self._process is None:
            return
        for _ in range(100):  # a process that is being killed may still have forked
            below = descendants(os.getpid())
            for pid in below:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
            _reap_orphans(self._process.pid)
            if not below:
                break
            time.sleep(0.005)
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        os.close(self._requests)
        os.close(self._replies)
        self._process = None

    def _start(self) -> None:
        become_subreaper()
        read_request, self._requests = os.pipe()
        self._replies, write_reply = os.pipe()
        here = str(Path(__file__).resolve().parent)
        command = [sys.executable, "-I", here, "_kernel", str(read_request), str(write_reply)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(read_request, write_reply),
            cwd=self._folder,
            start_new_session=True,
        )
        os.close(read_request)
        os.close(write_reply)

    def _exchange(
        self, code: str, deadline: float, cancelled: Callable[[], bool], streams: _Streams
    ) -> Status:
        """Send the code and collect until there is a reply; ``crashed`` if there will be none."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        pending = memoryview(json.dumps({"code": code}).encode() + b"\n")
        os.set_blocking(self._requests, False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ, streams.stdout.add)
            selector.register(self._process.stderr, selectors.EVENT_READ, streams.stderr.add)
            selector.register(self._replies, selectors.EVENT_READ, streams.reply.extend)
            while not streams.reply.endswith(b"\n") and len(streams.reply) <= _MAX_REPLY:
                if cancelled():
                    return "cancelled"
                if time.monotonic() > deadline:
                    return "timeout"
                pending = self._push(pending)
                wait = 0.001 if pending else min(_LOOK, max(0.0, deadline - time.monotonic()))
                _collect(selector, wait)
                if self._process.poll() is not None:
                    _drain(selector)
                    return "ok" if streams.reply.endswith(b"\n") else "crashed"
            _drain(selector)
        return "ok"

    def _push(self, pending: memoryview) -> memoryview:
        try:
            return pending[os.write(self._requests, pending) :] if pending else pending
        except BlockingIOError:
            return pending
        except BrokenPipeError:
            return pending[len(pending) :]

    def _judge(self, status: Status, streams: _Streams, timeout: float) -> Outcome:
        lost = "Its variables are gone; the next call starts with a new interpreter."
        if status == "ok":
            reply = _parsed(bytes(streams.reply))
            if reply is not None:
                kind: Status = "ok" if reply["error"] is None else "error"
                return Outcome(kind, value=reply["value"], error=reply["error"])
            status = "crashed"
        how = self._ended() if status == "crashed" else ""
        self.end()
        notes = {
            "timeout": f"Stopped: the code was not done after {timeout:g} s. {lost}",
            "cancelled": f"Stopped: the call was cancelled. {lost}",
            "crashed": f"The interpreter ended ({how}). {lost}",
        }
        return Outcome(status, note=notes[status])

    def _ended(self) -> str:
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return "it broke the channel to its server"
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by {name}"


def _collect(selector: selectors.BaseSelector, wait: float) -> bool:
    """Read what is there, once from each stream; whether there was any."""
    any_data = False
    for key, _ in selector.select(wait):
        data = os.read(key.fd, _CHUNK)
        if data:
            any_data = True
            key.data(data)
        else:
            selector.unregister(key.fileobj)
            if not selector.get_map():
                time.sleep(wait)
    return any_data


def _drain(selector: selectors.BaseSelector) -> None:
    """Read what was written before now, but no more than a process can pile up meanwhile."""
    for _ in range(64):
        if not _collect(selector, 0):
            return


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The interpreter's reply; ``None`` if the code has put something else on the channel."""
    try:
        reply = json.loads(line)
        texts = [reply["value"], reply["error"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return reply if all(text is None or isinstance(text, str) for text in texts) else None


def become_subreaper() -> None:
    """Adopt what the code leaves behind, so that it can be ended too (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Every process below ``root``, from /proc."""
    found: list[int] = []
    queue = [root]
    while queue:
        base = Path(f"/proc/{queue.pop()}/task")
        with contextlib.suppress(OSError):
            for thread in base.iterdir():
                with contextlib.suppress(OSError):
                    children = [int(pid) for pid in (thread / "children").read_text().split()]
                    found += children
                    queue += children
    return found


def _reap_orphans(known: int) -> None:
    """Collect adopted processes that have ended; the interpreter itself belongs to its Popen."""
    for pid in descendants(os.getpid()):
        if pid != known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
