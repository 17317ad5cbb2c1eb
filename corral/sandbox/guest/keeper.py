"""A session: one interpreter or shell that keeps its state, and the process that looks after it.

The keeper talks to its client over a stream socket, one JSON line a message:

- to it: ``{"code", "seconds", "packages", "stream"}`` runs code, ``{"stop": STATUS}`` interrupts
  it (``interrupted`` or ``cancelled``, the outcome's status), ``{"renew": true}`` starts clean;
- from it: ``{"stream", "text"}`` as output comes, if that was asked for, then the outcome
  (``outcome.py`` reads it), with what the interpreter itself said as ``reply``.

The end of the socket is the end of the session and of everything that it started.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import Any, NamedTuple

from corral.sandbox.guest import processes
from corral.sandbox.guest.capture import Capture
from corral.sandbox.guest.child import Child, Program, start

HALF_OUTPUT = 16_384
"""How many bytes of each stream are kept from its beginning, and as many from its end."""

GRACE = 1.0
"""Seconds that interrupted code has before it is killed, and its state with it."""

_CHUNK = 1 << 16
_MAX_REPLY = 16 * 1024 * 1024
_MAX_STREAMED = 1 << 18
_MAX_DRAIN = 64
_PATIENCE = 100
_KEPT = "What was defined before is kept; what it has started is ended."
_READ, _WRITE = select.POLLIN, select.POLLOUT


class Ended(Exception):
    """The client has closed its end."""


class Stop(NamedTuple):
    """Why running code is being stopped, as the outcome's status, and when patience ends."""

    status: str
    kill_at: float


class Run:
    """One piece of code under way: what is still to be sent, and what has come back."""

    def __init__(self, request: dict[str, Any], data: bytes) -> None:
        self.seconds: float | None = request.get("seconds")
        self.deadline = None if self.seconds is None else time.monotonic() + self.seconds
        self.began = processes.now()
        self.stream = bool(request.get("stream"))
        self.streamed = 0
        self.pending = memoryview(data)
        self.reply = bytearray()
        self.stop: Stop | None = None
        self.lost = ""

    @property
    def over(self) -> bool:
        """Whether the child has answered (or sent what is no answer), or is gone."""
        return bool(self.lost) or self.reply.endswith(b"\n") or self.broken

    @property
    def broken(self) -> bool:
        """Whether the code has spoken for its interpreter: too much, or more than one line."""
        return len(self.reply) > _MAX_REPLY or b"\n" in self.reply[:-1]

    def wait(self) -> float | None:
        """Milliseconds until there is something to do by the clock."""
        moment = self.stop.kill_at if self.stop else self.deadline
        return None if moment is None else max(0.0, (moment - time.monotonic()) * 1000)

    def reason(self) -> str:
        """Why it was stopped, in words."""
        timed_out = self.stop is not None and self.stop.status == "timeout"
        return f"The code was not done after {self.seconds:g} s and was" if timed_out else "It was"


class Keeper:
    """One session in the folder that this process is in. ``serve`` is its whole life."""

    def __init__(self, client: int, program: Program) -> None:
        self._client = client
        self._program = program
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(client, _READ)
        self._run: Run | None = None
        self._lost = ""
        self._streams = _captures()
        self._ended: dict[int, int] = {}
        signal.signal(signal.SIGCHLD, self._collect)
        self._child: Child | None = self._start()

    def serve(self) -> None:
        """Carry out what the client asks until it closes its end; then end everything."""
        try:
            while True:
                self._carry_out(self._next())
        except (Ended, BrokenPipeError, ConnectionResetError):
            return
        finally:
            processes.end_all_below()

    def _next(self) -> bytes:
        while b"\n" not in self._received:
            self._attend(None)
        line, _, self._received = self._received.partition(b"\n")
        return bytes(line)

    def _carry_out(self, line: bytes) -> None:
        message = json.loads(line)
        if "code" in message:
            self._send(self._execute(line, message))
        elif "renew" in message:  # else it wanted to stop what has ended meanwhile
            self._end()
            self._lost, self._streams, self._child = "", _captures(), self._start()

    # one piece of code

    def _execute(self, line: bytes, message: dict[str, Any]) -> bytes:
        """Run the code of a message to its end, or to that of its time; the outcome."""
        self._child = self._child or self._start()
        run = Run(message, self._program.request(line, message))
        self._run = run
        self._write(run)
        while not run.over:
            self._attend(run.wait())
            self._mind_the_clock(run)
        self._drain()
        status, note = self._judge(run)
        reply = b"null" if run.lost else self._program.reply(bytes(run.reply[:-1]))
        self._run = None
        (stdout, stderr), self._streams = self._streams, _captures()
        before, self._lost = self._lost, ""
        outcome = {
            "status": status,
            "stdout": stdout.text(),
            "stderr": stderr.text(),
            "note": " ".join(part for part in (before, note) if part),
            "dropped": stdout.dropped + stderr.dropped,
        }
        # The code may have written the reply. Of a name that stands twice the last one counts.
        return b'{"reply": ' + reply + b", " + json.dumps(outcome)[1:].encode() + b"\n"

    def _mind_the_clock(self, run: Run) -> None:
        moment = time.monotonic()
        if run.over:
            return
        if run.stop is not None and moment >= run.stop.kill_at:
            self._end()
            run.lost = "it did not stop when it was interrupted"
        elif run.stop is None and run.deadline is not None and moment >= run.deadline:
            self._interrupt(run, "timeout")

    def _interrupt(self, run: Run, status: str) -> None:
        """As Ctrl-C would; and what the code has started is ended."""
        run.stop = Stop(status, time.monotonic() + GRACE)
        if self._child is None:
            return
        processes.kill_group(self._child.pid, signal.SIGINT)
        for pid in processes.started_since(os.getpid(), run.began):
            if pid != self._child.pid:
                processes.kill(pid)

    def _judge(self, run: Run) -> tuple[str, str]:
        """The status, and what there is to say about it."""
        if run.broken:
            run.lost = self._lose()
        if not run.lost:
            return (
                (run.stop.status, f"{run.reason()} interrupted. {_KEPT}")
                if run.stop
                else ("ok", "")
            )
        noun = self._program.noun
        gone = f"Its variables are gone; the next call starts with a new {noun}."
        if run.stop is not None:
            return run.stop.status, f"{run.reason()} stopped ({run.lost}). {gone}"
        return "crashed", f"The {noun} ended ({run.lost}). {gone}"

    # the child

    def _start(self) -> Child:
        self._ended.clear()
        child = start(self._program)
        for fd in (child.replies, child.stdout, child.stderr):
            self._poll.register(fd, _READ)
        return child

    def _end(self) -> None:
        """End the child and everything that it has started; its pipes are read empty first."""
        child = self._child
        self._drain()
        if child is not None and child.pid not in self._ended:
            processes.kill(child.pid)
            with suppress(ChildProcessError):  # collected meanwhile
                os.waitpid(child.pid, 0)
        processes.end_all_below()
        for fd in child.pipes if child is not None else ():
            self._forget(fd)
            os.close(fd)
        self._child = None

    def _lose(self) -> str:
        """End a child that has ended by itself or cannot be understood; how, in words."""
        how = "it broke the channel to its keeper"
        for _ in range(_PATIENCE):  # it has closed its pipes, and takes a moment to be gone
            self._collect()
            if self._child is None or self._child.pid in self._ended:
                break
            time.sleep(0.001)
        if self._child is not None and self._child.pid in self._ended:
            how = _in_words(self._ended[self._child.pid])
        self._end()
        return how

    def _collect(self, number: int = 0, frame: object = None) -> None:
        """Leave no zombies: also those whose parents have ended come to this process."""
        del number, frame
        self._ended.update(processes.reap())

    # the descriptors

    def _attend(self, wait: float | None) -> None:
        """Wait for one of the descriptors and take what it has."""
        for fd, event in self._poll.poll(wait):
            if fd == self._client:
                self._receive()
            elif self._child is not None and fd in self._child.pipes:
                if event & _WRITE and self._run is not None:
                    self._write(self._run)
                else:
                    self._take(self._child, fd)

    def _take(self, child: Child, fd: int) -> bool:
        """Read once from the child; whether there was anything."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if fd == child.replies:
            self._answered(data)
        elif data:
            self._printed(fd == child.stderr, data)
        else:
            self._forget(fd)
        return bool(data)

    def _answered(self, data: bytes) -> None:
        if self._run is not None and data:
            self._run.reply += data
        elif self._run is not None:
            self._run.lost = self._lose()
        else:
            how = self._lose()
            self._lost = f"The {self._program.noun} had ended since ({how}); this is a new one."

    def _printed(self, is_error: bool, data: bytes) -> None:
        self._streams[is_error].add(data)
        run = self._run
        if run is not None and run.stream and run.streamed < _MAX_STREAMED:
            run.streamed += len(data)
            name = "stderr" if is_error else "stdout"
            message = {"stream": name, "text": data.decode("utf-8", "replace")}
            self._send(json.dumps(message).encode() + b"\n")

    def _drain(self) -> None:
        """Read what was written before now, but no more than a process can pile up meanwhile."""
        child = self._child
        for fd in (child.stdout, child.stderr) if child is not None else ():
            for _ in range(_MAX_DRAIN):
                if child is None or not self._take(child, fd):
                    break

    def _write(self, run: Run) -> None:
        child = self._child
        if child is None:
            return
        try:
            run.pending = run.pending[os.write(child.requests, run.pending) :]
        except BlockingIOError:
            pass  # its pipe is full
        except BrokenPipeError:
            run.pending = run.pending[len(run.pending) :]
        if run.pending:
            self._poll.register(child.requests, _WRITE)
        else:
            self._forget(child.requests)

    def _forget(self, fd: int) -> None:
        try:
            self._poll.unregister(fd)
        except KeyError:
            return

    def _receive(self) -> None:
        data = os.read(self._client, _CHUNK)
        if not data:
            raise Ended
        self._received += data
        run = self._run
        if run is None or b"\n" not in data:
            return
        line, _, self._received = self._received.partition(b"\n")
        status = json.loads(line).get("stop")
        if status and run.stop is None:
            self._interrupt(run, status)

    def _send(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._client, rest) :]


def _captures() -> tuple[Capture, Capture]:
    return Capture(HALF_OUTPUT), Capture(HALF_OUTPUT)


def _in_words(code: int) -> str:
    if code <= 128:
        return f"exit status {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"killed by {names.get(code - 128, code - 128)}"
