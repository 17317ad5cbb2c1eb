"""Commands under way: each with a minder that ends whatever it leaves, and its output."""

from __future__ import annotations

import os
import select
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from socket import socket, socketpair
from typing import NamedTuple, Protocol

from corral.mcp_servers.tool import ToolFault
from corral.sandbox.guest import init
from corral.sandbox.guest.capture import Capture
from corral.sandbox.guest.client import Below, end_everything
from corral.sandbox.guest.minder import KILL

_CHUNK = 1 << 16
_LOOK = 0.1
_OVERDUE = 5.0
_MAX_STATUS = 4096
_SHELLS = ("bash", "sh")
_STREAMS = ("stdout", "stderr")


class Order(NamedTuple):
    """What to run: words, or a script for the shell; where, and what is added to the environment.

    ``seconds``: ``None`` for no limit.
    """

    command: str | list[str]
    cwd: str
    env: Mapping[str, str]
    seconds: float | None

    def argv(self) -> list[str]:
        """The words that are executed."""
        if isinstance(self.command, list):
            return self.command
        shell = next((name for name in _SHELLS if shutil.which(name)), "sh")
        return [shell, "-c", self.command]


class Sink(Protocol):
    """Takes a command's output."""

    def add(self, name: str, data: bytes) -> None:
        """Some of the stream ``stdout`` or ``stderr``."""


class Ends:
    """The beginning and the end of each stream."""

    def __init__(self, half: int) -> None:
        self.streams = {name: Capture(half) for name in _STREAMS}

    def add(self, name: str, data: bytes) -> None:
        """Some output."""
        self.streams[name].add(data)


class Log:
    """Both streams as they came, the latest ``most`` bytes of them, counted from the start."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self._lock = threading.Lock()
        self.start = 0

    @property
    def end(self) -> int:
        """How many bytes there have been."""
        return self.start + len(self._kept)

    def add(self, name: str, data: bytes) -> None:
        """Some output."""
        del name
        with self._lock:
            self._kept += data
            excess = len(self._kept) - self._most
            if excess > 0:
                del self._kept[:excess]
                self.start += excess

    def read(self, offset: int, most: int) -> tuple[int, bytes]:
        """From where it really is, and the bytes."""
        with self._lock:
            first = min(max(offset, self.start), self.end)
            return first, bytes(self._kept[first - self.start : first - self.start + most])


class Job:
    """One command. ``state`` is ``running`` and then how it ended; ``code`` is its exit status."""

    def __init__(
        self, order: Order, sink: Sink, status: socket, outputs: Mapping[int, str]
    ) -> None:
        self.order = order
        self.state = "running"
        self.code: int | None = None
        self.detail = ""
        self.began = time.monotonic()
        self.seconds = 0.0
        self._sink = sink
        self._status = status
        self._outputs = dict(outputs)
        self._said = b""
        self._stop = ""
        self._stop_by = None if order.seconds is None else self.began + order.seconds
        self._over = threading.Event()
        threading.Thread(target=self._follow, name="job", daemon=True).start()

    def wait(self, cancelled: Callable[[], bool]) -> None:
        """Wait for its end; end it if ``cancelled``."""
        while not self._over.wait(_LOOK):
            if cancelled():
                self.stop("cancelled")

    def stop(self, why: str) -> None:
        """Have it ended with everything that it started; ``why`` will be its state."""
        self._stop = self._stop or why
        self._stop_by = 0.0

    def _follow(self) -> None:
        ended_by = float("inf")
        poll = select.poll()
        for fd in (self._status.fileno(), *self._outputs):
            poll.register(fd, select.POLLIN)
        try:
            while self._outputs or self._status.fileno() >= 0:
                ready = [fd for fd, _ in poll.poll(0 if self._heard() else _LOOK * 1000)]
                for fd in ready:
                    if not self._take(fd):
                        poll.unregister(fd)
                if self._heard() and not ready:
                    break  # all of it is gone, and what it wrote has been read
                moment = time.monotonic()
                if self._stop_by is not None and moment >= self._stop_by:
                    self._stop, self._stop_by = self._stop or "timeout", None
                    ended_by = moment + _OVERDUE
                    self._kill()
                if moment >= ended_by:
                    end_everything()
        finally:
            self._finish()

    def _take(self, fd: int) -> bool:
        """Read once; whether the descriptor is still of use."""
        if fd == self._status.fileno():
            data = self._status.recv(_MAX_STATUS)
            self._said += data[: _MAX_STATUS - len(self._said)]
            return bool(data)
        data = os.read(fd, _CHUNK)
        if data:
            self._sink.add(self._outputs[fd], data)
        else:
            os.close(fd)
            del self._outputs[fd]
        return bool(data)

    def _heard(self) -> bool:
        return b"ended " in self._said or b"failed " in self._said

    def _kill(self) -> None:
        try:
            self._status.send(KILL)
        except OSError:
            return

    def _finish(self) -> None:
        self._status.close()  # the end of whatever is left
        for fd in self._outputs:
            os.close(fd)
        self.seconds = time.monotonic() - self.began
        self.code, self.detail = _understood(self._said.decode("ascii", "replace"))
        self.state = self._stop or ("exited" if self.code is not None else "failed")
        self._over.set()


class Commands:
    """Starts commands in one folder. Must be made while this process has a single thread."""

    def __init__(self) -> None:
        self._below = Below(init.main, [])
        self._below.channel.recv(_MAX_STATUS)  # its greeting

    def start(self, order: Order, sink: Sink) -> Job:
        """Start one command. Raises ``ToolFault``."""
        status, theirs = socketpair()
        stdin = os.open(os.devnull, os.O_RDONLY)
        (stdout, output), (stderr, errors) = os.pipe(), os.pipe()
        request: dict[str, object] = {
            "op": "run",
            "argv": order.argv(),
            "cwd": order.cwd,
            "env": {**os.environ, **order.env},
        }
        given = [theirs.detach(), stdin, output, errors]
        try:
            self._below.send(request, given)
        except (BrokenPipeError, ConnectionResetError):
            end_everything()
        except (OSError, ValueError) as error:
            for fd in (stdout, stderr, status.detach()):
                os.close(fd)
            raise ToolFault(f"The command could not be started: {error}.") from error
        finally:
            for fd in given:
                os.close(fd)
        return Job(order, sink, status, {stdout: "stdout", stderr: "stderr"})

    def close(self) -> None:
        """End every command and all that they started."""
        self._below.close()


def _understood(said: str) -> tuple[int | None, str]:
    """The exit status, or why there is none, from what the minder said."""
    for words in map(str.split, said.splitlines()):
        match words:
            case ["ended", code, _, _] if code.isdigit():
                return int(code), ""
            case ["failed", where, number] if number.isdigit():
                what = "the folder" if where == "cwd" else "the program"
                return None, f"{what} could not be used: {os.strerror(int(number))}"
    return None, "it was broken off"
