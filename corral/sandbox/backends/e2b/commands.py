"""Commands in a sandbox of E2B: output bounded, and their whole tree ended with them."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.contract import Command, Finished, Reason, Usage
from corral.sandbox.guest.capture import Capture

if TYPE_CHECKING:
    from e2b.sandbox_async.commands.command_handle import AsyncCommandHandle
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

Take = Callable[[str, bytes], Awaitable[None]]

_CHUNK = 64 * 1024
_KILLED = 137
_AHEAD = 64  # pieces of a stream that may wait to be read

# What a command leaves behind is found by a variable that it inherits: a daemon has left the
# command's session and process group. One that clears its environment lives until the sandbox ends.
_MARK = "CORRAL_COMMAND"
_SWEEP = f"""for round in 1 2 3 4 5; do
found=$(grep -lzxF "{_MARK}=$0" /proc/[0-9]*/environ 2>/dev/null)
[ -n "$found" ] || break
for one in $found; do one=${{one#/proc/}}; kill -KILL "${{one%/environ}}" 2>/dev/null; done
done"""
_WRAPPER = f"""exec 3>&2 2>/dev/null  # what bash says of a killed command is not the command's
env "{_MARK}=$0" "$@" 2>&3 3>&-
code=$?
{_SWEEP}
exit $code"""


class Commands:
    """Runs commands through the SDK."""

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, limit: int) -> None:
        self._sdk = sdk
        self._options = options
        self._limit = limit

    async def run(self, command: Command) -> Finished:
        """Run a command to its end; see ``Sandbox.run``."""
        captures = {name: Capture(self._limit // 2) for name in ("stdout", "stderr")}

        async def take(stream: str, data: bytes) -> None:
            captures[stream].add(data)
            if command.output is not None:
                command.output(stream, data)

        started = time.monotonic()
        code, reason = await self._carry_out(command, take)
        seconds = command.timeout or 0.0
        return Finished(
            code=code,
            stdout=captures["stdout"].kept(),
            stderr=captures["stderr"].kept(),
            dropped=sum(one.dropped for one in captures.values()),
            reason=reason,
            detail=f"It was stopped after {seconds:g} s." if reason == "timeout" else "",
            usage=Usage(wall_seconds=time.monotonic() - started),
        )

    @asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run a command and give its standard output as it comes; see ``Sandbox.stream``."""
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_AHEAD)

        async def take(stream: str, data: bytes) -> None:
            if stream == "stdout":
                await pieces.put(data)

        async def work() -> None:
            try:
                await self._carry_out(command, take)
            finally:
                await pieces.put(None)

        async def read() -> AsyncIterator[bytes]:
            while (piece := await pieces.get()) is not None:
                yield piece
            await task

        task = asyncio.ensure_future(work())
        try:
            yield read()
        finally:
            while not pieces.empty():  # its end must not wait for room
                pieces.get_nowait()
            task.cancel()
            await asyncio.wait([task])

    async def _carry_out(self, command: Command, take: Take) -> tuple[int, Reason]:
        mark = secrets.token_hex(8)
        handle = await self._start(command, mark, take)
        try:
            async with asyncio.timeout(command.timeout):
                return await self._finish(handle, command.stdin), "exited"
        except TimeoutError:
            await self._end(handle, mark)
            return _KILLED, "timeout"
        except asyncio.CancelledError:
            await asyncio.shield(self._end(handle, mark))
            raise

    async def _start(self, command: Command, mark: str, take: Take) -> AsyncCommandHandle[None]:
        with self._options.asked_to("start the command"):
            return await self._sdk.commands.run(
                shlex.join(["bash", "-c", _WRAPPER, mark, *command.argv]),
                background=True,
                envs=dict(command.env),
                cwd=str(command.cwd) if command.cwd is not None else None,
                on_stdout=lambda text: take("stdout", text.encode()),
                on_stderr=lambda text: take("stderr", text.encode()),
                stdin=bool(command.stdin),
                timeout=0,
                retain_output=False,
            )

    async def _finish(self, handle: AsyncCommandHandle[None], stdin: bytes) -> int:
        from e2b import CommandExitException

        feeding = asyncio.ensure_future(_feed(handle, stdin)) if stdin else None
        try:
            with self._options.asked_to("run the command to its end"):
                try:
                    return (await handle.wait()).exit_code
                except CommandExitException as ended:
                    return ended.exit_code
        finally:
            if feeding is not None:
                feeding.cancel()
                await asyncio.wait([feeding])

    async def _end(self, handle: AsyncCommandHandle[None], mark: str) -> None:
        with self._options.asked_to("end the command"):
            await handle.disconnect()
            await handle.kill()
            sweep = shlex.join(["bash", "-c", _SWEEP, mark])
            await self._sdk.commands.run(sweep, timeout=10)


async def _feed(handle: AsyncCommandHandle[None], stdin: bytes) -> None:
    from e2b import SandboxException

    with suppress(SandboxException):  # it may end without reading all of it
        for start in range(0, len(stdin), _CHUNK):
            await handle.send_stdin(stdin[start : start + _CHUNK])
        await handle.close_stdin()
