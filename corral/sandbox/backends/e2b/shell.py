"""Shell sessions at E2B: one bash that reads what to run from its standard input.

Where the output of a call ends is told by a random word on both of its streams. Code that went to
some length could find the word and write it itself; it would only cut its own output short.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from corral.errors import SandboxError
from corral.sandbox.backends.e2b.lease import Renew
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.contract import Execution
from corral.sandbox.guest.capture import Capture

if TYPE_CHECKING:
    from e2b.sandbox_async.commands.command_handle import AsyncCommandHandle
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

_GRACE = 3.0
_BASH = "exec bash --noprofile --norc"
_ENDED = "The shell has ended; the next call starts a new one."


class _Stream:
    """One output of a call: bounded, and finished when its end mark has come."""

    def __init__(self, mark: str, limit: int) -> None:
        self.kept = Capture(limit // 2)
        self.finished = asyncio.Event()
        self.code = ""
        self._mark = mark.encode()
        self._held = b""

    def take(self, text: str) -> None:
        if self.finished.is_set():
            return
        self._held += text.encode()
        before, found, after = self._held.partition(self._mark)
        if found:
            self._held = before + found + after
            if b"\n" in after:
                self.kept.add(before)
                self.code = after.partition(b"\n")[0].decode().strip()
                self.finished.set()
            return
        safe = max(0, len(self._held) - len(self._mark))
        self.kept.add(self._held[:safe])
        self._held = self._held[safe:]

    def cut(self) -> None:
        """No more will come."""
        if not self.finished.is_set():
            self.kept.add(self._held)
            self.finished.set()


class ShellSession:
    """One bash: working folder, variables and functions stay. ``value`` is the exit code."""

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, limit: int, renew: Renew) -> None:
        self._sdk = sdk
        self._options = options
        self._limit = limit
        self._renew = renew
        self._lock = asyncio.Lock()
        self._shell: AsyncCommandHandle[None] | None = None
        self._streams: tuple[_Stream, _Stream] | None = None
        self._over: asyncio.Task[None] | None = None
        self._interrupted = False

    async def run(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run a script; after ``seconds`` its processes get SIGINT, then the shell is ended."""
        async with self._lock:
            await self._renew(seconds)
            mark = f"corral-{secrets.token_hex(16)}"
            out, err = _Stream(mark, self._limit), _Stream(mark, self._limit)
            self._streams, self._interrupted = (out, err), False
            shell = await self._ready()
            script = (
                f"eval {shlex.quote(code)} </dev/null\n"
                f'printf "%s%s\\n" {mark} $?; printf "%s\\n" {mark} >&2\n'
            )
            try:
                with self._options.asked_to("run the script"):
                    await shell.send_stdin(script)
                timed_out = not await self._finished(seconds)
            except asyncio.CancelledError:
                await asyncio.shield(self._end())
                raise
            return await self._outcome(out, err, timed_out=timed_out)

    async def interrupt(self) -> None:
        """Send SIGINT to what the shell has started."""
        if self._shell is not None:
            self._interrupted = True
            with self._options.asked_to("interrupt the shell"):
                await self._sdk.commands.run(f"pkill -INT -P {self._shell.pid}; true")

    async def restart(self) -> None:
        """Start clean."""
        await self._end()

    async def aclose(self) -> None:
        """End the shell."""
        await self._end()

    async def _ready(self) -> AsyncCommandHandle[None]:
        if self._shell is None:
            with self._options.asked_to("start a shell"):
                self._shell = await self._sdk.commands.run(
                    _BASH,
                    background=True,
                    stdin=True,
                    timeout=0,
                    retain_output=False,
                    on_stdout=lambda text: self._take(0, text),
                    on_stderr=lambda text: self._take(1, text),
                )
            self._over = asyncio.ensure_future(_over(self._shell))
        return self._shell

    def _take(self, which: int, text: str) -> None:
        if self._streams is not None:
            self._streams[which].take(text)

    async def _finished(self, seconds: float | None) -> bool:
        """Whether the script came to its end, or the shell did, in time."""
        assert self._streams is not None
        assert self._over is not None
        marks = asyncio.gather(*(one.finished.wait() for one in self._streams))
        ends: set[asyncio.Future[Any]] = {marks, self._over}
        try:
            done, _ = await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                await self.interrupt()
                await asyncio.wait(ends, timeout=_GRACE, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            marks.cancel()
            await asyncio.gather(marks, return_exceptions=True)

    async def _outcome(self, out: _Stream, err: _Stream, *, timed_out: bool) -> Execution:
        ended = not (out.finished.is_set() and err.finished.is_set())
        code = out.code
        if ended:
            code = "" if self._shell is None else str(self._shell.exit_code or "")
            out.cut()
            err.cut()
            await self._end()
        status: Literal["ok", "error", "timeout", "interrupted", "crashed"] = "ok"
        if timed_out:
            status = "timeout"
        elif self._interrupted:
            status = "interrupted"
        elif ended:
            status = "crashed"
        elif code != "0":
            status = "error"
        return Execution(
            status=status,
            stdout=out.kept.text(),
            stderr=err.kept.text(),
            value=code or None,
            error=f"exit status {code}" if status == "error" else None,
            note=_ENDED if ended else "",
            dropped=out.kept.dropped + err.kept.dropped,
        )

    async def _end(self) -> None:
        shell, self._shell = self._shell, None
        if shell is not None:
            with suppress(SandboxError), self._options.asked_to("end the shell"):
                await shell.disconnect()
                kill = f"pkill -KILL -P {shell.pid}; kill -KILL {shell.pid}; true"
                await self._sdk.commands.run(kill)


async def _over(shell: AsyncCommandHandle[None]) -> None:
    """Wait until the shell is no more, however it ended."""
    with suppress(Exception):  # a bash that exits with an error, or a lost connection
        await shell.wait()
