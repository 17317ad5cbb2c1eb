"""A sandbox on this machine, over any back end that can start a command with plain pipes.

It is one long-lived launch of a small guest (``corral/sandbox/guest/init.py``), which starts
commands and sessions on request; so they share the workspace and start in milliseconds. Whatever
happens to this process, the launch's supervisor ends all of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

from corral.errors import SandboxError
from corral.sandbox.capabilities import DECLARED, Capabilities
from corral.sandbox.contract import (
    Command,
    Execution,
    Files,
    Finished,
    LocalBackend,
    Profile,
    Reason,
    Sandbox,
    Session,
    Snapshot,
)
from corral.sandbox.guest.capture import Capture
from corral.sandbox.local import snapshots
from corral.sandbox.local.commands import BY_SIGNAL, GRACE, KILLED, Ended, Output, Running, started
from corral.sandbox.local.opening import Guest, open_guest
from corral.sandbox.local.session import LocalSessions, Place

_PATIENCE = 5.0  # a tree with much memory takes its time to go
_STREAMED = 16  # pieces that wait to be read


async def open_local(
    backend: LocalBackend, profile: Profile, snapshot: Snapshot | None = None
) -> Sandbox:
    """Start a sandbox over a back end of this machine. See ``SandboxBackend.open``."""
    if snapshot is not None:
        snapshots.check(snapshot, backend.name, profile)
    sandbox = LocalSandbox(backend.name, profile)
    try:
        await sandbox.start(backend)
        if snapshot is not None:
            await sandbox.files.put_archive(await asyncio.to_thread(snapshots.load, snapshot))
    except BaseException:
        await sandbox.stop()
        raise
    return sandbox


class LocalSandbox:
    """One sandbox of this machine; ``open_local`` makes it. See ``Sandbox``."""

    def __init__(self, backend: str, profile: Profile) -> None:
        self._backend = backend
        self._profile = profile
        self._id = secrets.token_hex(8)
        self._resources = AsyncExitStack()
        self._going = asyncio.Event()
        self._going.set()
        self._breach: asyncio.Future[tuple[Reason, str]] = self._no_breach()
        self._stopping: asyncio.Task[None] | None = None
        self._guest: Guest
        self._sessions: LocalSessions

    async def start(self, backend: LocalBackend) -> None:
        """Start the guest. ``stop`` it also when this fails."""
        self._guest = await open_guest(backend, self._profile, self._resources, self._on_breach)
        end = self._guest.started.kill
        place = Place(self._guest.control, end, packages=self._profile.packages)
        self._sessions = LocalSessions(place)
        self._resources.push_async_callback(self._sessions.aclose)

    @property
    def id(self) -> str:
        """A name that no other sandbox has."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """What its back end declares that it enforces."""
        return DECLARED[self._backend]

    @property
    def files(self) -> Files:
        """The workspace's files."""
        return self._guest.files

    async def run(self, command: Command) -> Finished:
        """Run a command to its end. See ``Sandbox.run``."""
        half = self._profile.limits.output // 2
        kept = {"stdout": Capture(half), "stderr": Capture(half)}

        def take(name: str, data: bytes) -> None:
            kept[name].add(data)
            if command.output is not None:
                command.output(name, data)

        async with self._started(command, take) as (running, outputs):
            reason, ended = await self._to_the_end(command, running)
            await asyncio.wait({output.done for output in outputs}, timeout=GRACE)
        return Finished(
            KILLED if ended.code is None else ended.code,
            kept["stdout"].kept(),
            kept["stderr"].kept(),
            dropped=sum(one.dropped for one in kept.values()),
            reason=reason,
            detail=ended.detail,
            usage=ended.usage,
        )

    @asynccontextmanager
    async def stream(self, command: Command) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run a command and read its standard output as it comes. See ``Sandbox.stream``."""
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

        def take(name: str, data: bytes) -> None:
            if name == "stdout":
                pieces.put_nowait(data)
                outputs[0].pause(waiting=pieces.qsize() >= _STREAMED)
            if command.output is not None:
                command.output(name, data)

        async def read() -> AsyncIterator[bytes]:
            while (piece := await pieces.get()) is not None:
                outputs[0].pause(waiting=pieces.qsize() >= _STREAMED)
                yield piece

        outputs: list[Output]
        async with self._started(command, take) as (running, outputs):
            outputs[0].done.add_done_callback(lambda _: pieces.put_nowait(None))
            watching = asyncio.create_task(self._to_the_end(command, running))
            try:
                yield read()
            finally:
                watching.cancel()
                await asyncio.wait({watching})

    @asynccontextmanager
    async def _started(
        self, command: Command, take: Callable[[str, bytes], None]
    ) -> AsyncIterator[tuple[Running, list[Output]]]:
        self._check()
        if not self._going.is_set():
            raise SandboxError("The sandbox is paused.", hint="Resume it first.")
        async with started(self._guest.control, command, take) as both:
            yield both

    def _check(self) -> None:
        ended = self._guest.started.ended
        if self._stopping is not None or ended is not None:
            why = f": {ended.detail}" if ended is not None and ended.detail else ""
            raise SandboxError(f"The sandbox has ended{why}.", hint="Open a new one.")

    # how a command ends

    async def _to_the_end(self, command: Command, running: Running) -> tuple[Reason, Ended]:
        """Wait for a command's end, or end it when its time is over or nobody wants it."""
        try:
            async with asyncio.timeout(command.timeout):
                ended = await running.wait()
        except TimeoutError:
            await self._going.wait()
            await self._end(running)
            seconds = command.timeout or 0.0
            return "timeout", Ended(KILLED, f"It was not done after {seconds:g} s and was ended.")
        except asyncio.CancelledError:
            await asyncio.shield(self._end(running))
            raise
        if ended.code is None or (ended.code == KILLED and self._breach.done()):
            return await self._why_lost(ended)
        reason, detail = BY_SIGNAL.get(ended.code, ("exited", ended.detail))
        return reason, Ended(ended.code, detail, ended.usage)

    async def _end(self, running: Running) -> None:
        """End one command; where that does not help, the sandbox."""
        if not await running.gone():
            self._guest.started.kill()
            await self._guest.started.wait()

    async def _why_lost(self, ended: Ended) -> tuple[Reason, Ended]:
        """Why a command's minder is gone without a word: a limit, or something inside killed it."""
        end = asyncio.create_task(self._guest.started.wait())
        waiting: set[asyncio.Future[Any]] = {self._breach, end}
        await asyncio.wait(waiting, timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        reason: Reason = "killed"
        detail = "something inside ended it"
        if self._breach.done():
            reason, detail = self._breach.result()
        elif end.done() and end.result().reason != "exited":
            reason, detail = end.result().reason, end.result().detail
        end.cancel()
        return reason, Ended(KILLED, f"It was ended: {detail}.", ended.usage)

    def _on_breach(self, reason: Reason, detail: str) -> None:
        """A limit has ended all commands, and the guest lives on."""
        if not self._breach.done():
            self._breach.set_result((reason, detail))
        asyncio.get_running_loop().call_later(GRACE, self._forget_breach, self._breach)

    def _forget_breach(self, breach: asyncio.Future[tuple[Reason, str]]) -> None:
        if self._breach is breach:
            self._breach = self._no_breach()

    def _no_breach(self) -> asyncio.Future[tuple[Reason, str]]:
        return asyncio.get_running_loop().create_future()

    # sessions

    async def run_code(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run Python in a fresh interpreter. See ``Sandbox.run_code``."""
        self._check()
        return await self._sessions.run_fresh(code, seconds=seconds)

    async def session(self, language: Literal["python", "shell"] = "python") -> Session:
        """A session of its own, with state."""
        self._check()
        return await self._sessions.open(language)

    # the whole sandbox

    async def snapshot(self) -> Snapshot:
        """Keep the workspace as it is now."""
        self._check()
        archive = await self.files.get_archive()
        return await asyncio.to_thread(snapshots.keep, self._backend, archive)

    async def pause(self) -> None:
        """Stop every process inside where it is."""
        self._check()
        self._going.clear()
        await self._guest.started.freeze(frozen=True)

    async def resume(self) -> None:
        """Let them go on."""
        self._check()
        await self._guest.started.freeze(frozen=False)
        self._going.set()

    async def stop(self) -> None:
        """End everything and remove what was private to it. Safe to call twice."""
        if self._stopping is None:
            self._going.set()
            self._stopping = asyncio.create_task(self._resources.aclose())
        await asyncio.shield(self._stopping)
