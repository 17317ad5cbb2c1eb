"""The worker processes of one database, and what holds whatever they do: time and cancellation."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from corral.mcp_servers.sql.databases import Configuration, Database
from corral.mcp_servers.tool import Call, JsonObject, ToolFault

_READERS = 4  # statements of one database at a time
_GRACE = 2.0  # how long a statement has to stop when it is told to
_START = 20.0  # importing a library on a busy machine
_LOOK = 0.05
_CHUNK = 1 << 16
_MAX_REPLY = 4 * 1024 * 1024
_SERVERS = Path(__file__).resolve().parent.parent

Ending = Literal["timeout", "cancelled", "crashed"]


class Ended(Exception):
    """A worker gave no answer. ``stopped``: it did as it was told, and can be asked again."""

    def __init__(self, why: Ending, detail: str = "", *, stopped: bool = False) -> None:
        super().__init__(detail)
        self.why, self.detail, self.stopped = why, detail, stopped


class Workers:
    """The workers of one database: started when needed, used again, ended when they hang."""

    def __init__(self, database: Database, packages: tuple[str, ...]) -> None:
        self._database = database
        self._command = [
            *(sys.executable, "-I", "-S", str(_SERVERS), "_sql", "--config"),
            Configuration({database.name: database}, packages).to_json(),
        ]
        self._idle: list[_Worker] = []
        self._closed = False
        self._lock = threading.Lock()
        self._writing = threading.Semaphore(1)
        alone = database.write and database.engine == "duckdb"  # its file has one user at a time
        self._reading = self._writing if alone else threading.Semaphore(_READERS)

    def ask(self, do: str, arguments: JsonObject, seconds: float, call: Call) -> JsonObject:
        """Have something done. Raises ``ToolFault`` for what fails, takes too long or is cancelled.

        Writers wait for each other. ``seconds`` begin when it is this call's turn.
        """
        turn = self._writing if do == "execute" else self._reading
        while not turn.acquire(timeout=_LOOK):
            if call.cancelled.is_set():
                raise ToolFault("Cancelled before it ran.")
        try:
            return self._ask(do, arguments, seconds, call)
        except Ended as ended:
            raise ToolFault(_told(ended, do, seconds)) from ended
        finally:
            turn.release()

    def close(self) -> None:
        """End the workers that wait; the others end with their calls."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().end()

    def _ask(self, do: str, arguments: JsonObject, seconds: float, call: Call) -> JsonObject:
        worker = self._taken()
        keep = False
        try:
            message = {"do": do, "arguments": arguments, "seconds": seconds}
            reply = worker.ask(message, seconds, call)
            keep = True
        except Ended as ended:
            keep = ended.stopped
            raise
        finally:
            self._give_back(worker, keep=keep)
        if "fault" in reply:
            raise ToolFault(str(reply["fault"]))
        done: JsonObject = reply["done"]
        return done

    def _give_back(self, worker: _Worker, *, keep: bool) -> None:
        with self._lock:
            if keep and not self._closed:
                self._idle.append(worker)
                return
        worker.end()

    def _taken(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.end()
        return _Worker(self._command)


class _Worker:
    """One process and its pipes."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._buffer = bytearray()
        self._ready = False

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, message: JsonObject, seconds: float, call: Call) -> JsonObject:
        """Its answer. Raises ``Ended``, and ``ToolFault`` if its library is not installed."""
        if not self._ready:  # importing the library does not count against the statement
            self._begin(call)
        self._send(message)
        line = self._line(seconds, call)
        if line is not None:
            return _parsed(line)
        why: Ending = "cancelled" if call.cancelled.is_set() else "timeout"
        self._send({"do": "stop"})
        late = self._line(_GRACE, None)
        reply = {} if late is None else _parsed(late)
        if "done" in reply:
            return reply  # it was faster than the order to stop
        raise Ended(why, stopped=late is not None)

    def _begin(self, call: Call) -> None:
        line = self._line(_START, call)
        if line is None:
            raise Ended("cancelled" if call.cancelled.is_set() else "timeout")
        start = _parsed(line)
        if "fault" in start:
            raise ToolFault(str(start["fault"]))
        self._ready = True

    def _line(self, seconds: float, call: Call | None) -> bytes | None:
        """The next line; ``None`` when there is none in time, or the call is cancelled before."""
        begun = time.monotonic()
        while b"\n" not in self._buffer:
            passed = time.monotonic() - begun
            if passed > seconds or (call is not None and call.cancelled.is_set()):
                return None
            if call is not None:
                call.progress(round(passed, 1), None, "The database is at work.")
            self._read()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return bytes(line)

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _send(self, message: JsonObject) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Ended("crashed", self._how()) from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_LOOK):
                return
        data = os.read(self._process.stdout.fileno(), _CHUNK)
        self._buffer += data
        if not data or len(self._buffer) > _MAX_REPLY:
            raise Ended("crashed", self._how())

    def _how(self) -> str:
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "it gave no usable answer"
        if code >= 0:
            return f"exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"killed by {name}"


def _parsed(line: bytes) -> JsonObject:
    reply: JsonObject = json.loads(line)
    return reply


def _told(ended: Ended, do: str, seconds: float) -> str:
    undone = ""
    if do == "execute":
        undone = " Nothing was changed." if ended.stopped else " Look whether it was done."
    if ended.why == "cancelled":
        return f"Stopped: the call was cancelled.{undone}"
    if ended.why == "timeout":
        return (
            f"Stopped: it was not done after {seconds:g} s.{undone} "
            "Ask for less, use an index, or see with explain what takes so long."
        )
    return (
        f"The database's library ended ({ended.detail}), as a damaged file or too large a result "
        f"can make it; the next call starts it again.{undone}"
    )
