"""One sandbox at E2B."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Literal

from corral.sandbox.backends.e2b.commands import Commands
from corral.sandbox.backends.e2b.files import E2BFiles
from corral.sandbox.backends.e2b.lease import Lease
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.backends.e2b.sessions import Evaluation, PythonSession
from corral.sandbox.backends.e2b.shell import ShellSession
from corral.sandbox.capabilities import Capabilities
from corral.sandbox.contract import Command, Execution, Finished, Limits, Session, Snapshot

if TYPE_CHECKING:
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

CAPABILITIES = Capabilities(
    isolation="remote",
    network="allowlist",
    limits=frozenset({"wall", "output"}),
    pause="snapshot",
)
"""Memory, processes and disk are bounded by the template's machine, not by a profile."""


class E2BSandbox:
    """A micro-VM of the service, with its own system. Its workspace is its user's home.

    It also lives on when this process ends without ``stop``, until nobody has used it for
    ``E2BOptions.timeout`` seconds; a paused one lives until it is resumed and stopped.
    """

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, limits: Limits) -> None:
        self._sdk = sdk
        self._options = options
        self._limits = limits
        self._lease = Lease(sdk, options, limits.wall_seconds)
        self._commands = Commands(sdk, options, limits.output)
        self._files = E2BFiles(sdk, options, self._lease.renew)
        self._stopped = False

    @property
    def id(self) -> str:
        """The service's name for it; ``E2BBackend.connect`` finds it again."""
        return self._sdk.sandbox_id

    @property
    def capabilities(self) -> Capabilities:
        """What holds in it."""
        return CAPABILITIES

    @property
    def files(self) -> E2BFiles:
        """The files below the user's home."""
        return self._files

    async def run(self, command: Command) -> Finished:
        """Run a command. Output that is no UTF-8 comes with replacement characters."""
        await self._lease.renew(command.timeout)
        return await self._commands.run(command)

    def stream(self, command: Command) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command and read its output as it comes."""
        return self._stream(command)

    @asynccontextmanager
    async def _stream(self, command: Command) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._lease.renew(command.timeout)
        async with self._commands.stream(command) as pieces:
            yield pieces

    async def run_code(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run Python in a context of its own, which is removed afterwards."""
        await self._lease.renew(seconds)
        with self._options.asked_to("run the code"):
            context = await self._sdk.create_code_context()
            work = Evaluation(self._sdk, context, self._limits.output)
            try:
                async with asyncio.timeout(seconds):
                    return await work.run(code)
            except TimeoutError:
                error = f"It did not finish within {seconds:g} s."
                return work.ended(Execution("timeout", error=error))
            finally:
                await asyncio.shield(self._sdk.remove_code_context(context))

    async def session(self, language: Literal["python", "shell"] = "python") -> Session:
        """A Python context or a bash of its own."""
        kind = PythonSession if language == "python" else ShellSession
        return kind(self._sdk, self._options, self._limits.output, self._lease.renew)

    async def snapshot(self) -> Snapshot:
        """Keep the whole machine, memory included; the service keeps it until it is deleted."""
        await self._lease.renew()
        with self._options.asked_to("keep a snapshot"):
            return Snapshot("e2b", (await self._sdk.create_snapshot()).snapshot_id)

    async def pause(self) -> None:
        """Let the service keep its memory and disk, and charge for no machine."""
        with self._options.asked_to("pause the sandbox"):
            await self._sdk.pause()

    async def resume(self) -> None:
        """Let it go on where it was."""
        with self._options.asked_to("resume the sandbox"):
            await self._sdk.connect(timeout=self._lease.seconds)
        self._lease.resumed()

    async def stop(self) -> None:
        """End it for good."""
        if self._stopped:
            return
        with self._options.asked_to("stop the sandbox"):
            await self._sdk.kill()
        self._stopped = True
