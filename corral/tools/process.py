"""A tool server's process: bounded pipes, and an end that leaves nothing behind.

Output is read a line at a time up to a limit; what it writes on its error output is kept only as
a short tail, for error messages. The process leads a session of its own, and its environment
carries a mark that all its children inherit, so that even one that left the session is found.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from pathlib import Path
from typing import cast

from corral.sandbox.contract import Launch

MAX_LINE = 16 * 1024 * 1024
"""The longest message that a server may send, in bytes."""

_TAIL = 8 * 1024
_MARK = "CORRAL_TOOL_SERVER"
_ORPHAN_GRACE = 0.25
_FLOOD = 1024 * 1024
_FLOOD_PAUSE = 0.05


class LineTooLongError(Exception):
    """A line is longer than ``MAX_LINE``."""


class ServerProcess(asyncio.SubprocessProtocol):
    """One running server; make it with ``start`` and always end it with ``stop``."""

    def __init__(self, max_line: int) -> None:
        self._output = asyncio.StreamReader(limit=max_line)
        self._errors = bytearray()
        self._flood = 0
        self._draining = False
        self._no_more = False
        self._stopped = False
        self._exited = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.SubprocessTransport
        self._mark = f"{_MARK}={uuid.uuid4().hex}"

    @classmethod
    async def start(
        cls, launch: Launch, *, cwd: Path | None = None, max_line: int = MAX_LINE
    ) -> ServerProcess:
        """Spawn ``launch``. Raises ``OSError`` (or ``ValueError``) when that cannot be done."""
        process = cls(max_line)
        name, _, value = process._mark.partition("=")
        process._transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: process,
            *launch.argv,
            env={**launch.env, name: value},
            cwd=cwd,
            start_new_session=True,
        )
        return process

    @property
    def pid(self) -> int:
        """The process id; also the id of its session and process group."""
        return self._transport.get_pid()

    @property
    def errors(self) -> str:
        """The last of what it wrote on its error output."""
        return self._errors.decode("utf-8", "replace")

    def remember(self, output: bytes) -> None:
        """Add a line that was no message to ``errors``: servers also complain on their output."""
        self._errors += output[:500] + b"\n"
        del self._errors[:-_TAIL]

    async def read_line(self) -> bytes:
        """The next line of its output with its end; empty when there is no more.

        Raises ``LineTooLongError``.
        """
        try:
            return await self._output.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            return end.partial
        except asyncio.LimitOverrunError as overrun:
            raise LineTooLongError from overrun

    async def write(self, data: bytes) -> None:
        """Send ``data`` to its input, waiting while its pipe is full.

        Raises ``BrokenPipeError`` when it no longer reads.
        """
        stdin = self._stdin()
        if self._exited.is_set() or stdin is None or stdin.is_closing():
            raise BrokenPipeError
        stdin.write(data)
        await self._writable.wait()

    async def ended(self, seconds: float) -> bool:
        """Whether it has ended within ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._exited.wait()
        return self._exited.is_set()

    def fate(self) -> str:
        """How it ended, in words: ``exited with code 3``."""
        code = self._transport.get_returncode()
        if code is None:
            return "closed its output"
        if code >= 0:
            return f"exited with code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    async def stop(self, grace: float) -> None:
        """End it and everything that it started.

        Its input is closed; after ``grace`` seconds it gets SIGTERM, and after as many again
        SIGKILL. No process is left, even when the waiting task is cancelled. Safe to call twice.
        """
        if self._stopped:
            return
        self._stopped = True
        self._drain()
        try:
            if stdin := self._stdin():
                stdin.close()
            if not await self.ended(grace):
                self._signal(signal.SIGTERM)
                await self.ended(grace)
        finally:
            self.kill()
        await self.ended(2.0)
        with contextlib.suppress(
            PermissionError
        ):  # close() kills again what took another user's id
            self._transport.close()

    def kill(self) -> None:
        """Kill it and everything that it started, at once."""
        self._drain()
        self._signal(signal.SIGKILL)
        for _ in range(5):  # one that forks while its children are counted needs another look
            found = _family(self.pid, self._mark.encode())
            if not found:
                return
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if not self._exited.is_set():  # afterwards its number may be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _drain(self) -> None:
        """Throw its output away from here on: it must not hang on a full pipe while it ends."""
        self._draining = True
        for number in (1, 2):
            pipe = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(number))
            if pipe is not None and not pipe.is_closing():
                pipe.resume_reading()
        self._end_output()

    def _stdin(self) -> asyncio.WriteTransport | None:
        return cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))

    def _end_output(self) -> None:
        if not self._no_more:
            self._no_more = True
            self._output.feed_eof()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipes are open."""
        self._transport = cast("asyncio.SubprocessTransport", transport)
        pipe = self._transport.get_pipe_transport(1)
        assert pipe is not None
        self._output.set_transport(pipe)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It wrote something."""
        if self._draining:
            return
        if fd == 1:
            if not self._no_more:
                self._output.feed_data(data)
            return
        self._errors += data
        del self._errors[:-_TAIL]
        self._flood += len(data)
        if self._flood > _FLOOD:
            self._flood = 0
            self._pause_errors()

    def _pause_errors(self) -> None:
        """Read endless chatter slowly, so that it takes no more than a part of this process."""
        pipe = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(2))
        if pipe is None or pipe.is_closing():
            return
        pipe.pause_reading()

        def resume() -> None:
            if not pipe.is_closing():
                pipe.resume_reading()

        asyncio.get_running_loop().call_later(_FLOOD_PAUSE, resume)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """It closed a pipe."""
        del exc
        if fd == 0:
            self._writable.set()
        elif fd == 1:
            self._end_output()

    def process_exited(self) -> None:
        """It ended. A child that still holds its output must not keep its callers waiting."""
        self._exited.set()
        self._writable.set()
        asyncio.get_running_loop().call_later(_ORPHAN_GRACE, self._end_output)

    def pause_writing(self) -> None:
        """Its input pipe is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Its input pipe has room again."""
        self._writable.set()


def _family(leader: int, mark: bytes) -> list[int]:
    """Living processes that carry ``mark`` or belong to the session of ``leader`` (Linux)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it may end while being read
            fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            state, session = fields[0], int(fields[3])
            if state in "ZX":
                continue
            if session == leader or mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
