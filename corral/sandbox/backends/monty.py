"""Monty: Python for glue code and pure computation, with no operating system at all.

The interpreter (PyPI ``pydantic-monty``) knows a part of Python and has no files, processes,
network or imports of packages. Code reaches only the functions that the caller gives it, which run
out here, and the sandbox's files as the dictionary ``files``. It runs in worker processes, and one
that does not stop is killed: ``2 ** (10**9)`` never looks at a clock.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from corral.errors import SandboxError
from corral.sandbox.backends.memory_files import MemoryFiles
from corral.sandbox.capabilities import Capabilities, Health
from corral.sandbox.contract import Command, Execution, Finished, Limits, Profile, Snapshot
from corral.sandbox.guest.capture import Capture

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession

Function = Callable[..., Awaitable[Any]]
"""A function out here that code may call; plain values go in and come out."""

CAPABILITIES = Capabilities(
    isolation="interpreter",
    network="none",
    limits=frozenset(
        {"memory", "processes", "wall", "open_files", "file_size", "written", "output", "kill_tree"}
    ),
)
"""Processes and open files are held to none, what code can write to nothing."""

_RECURSION = 1000
_MAX_CALLS = 100_000  # of given functions, in one session
_FILES = "files"
_UNDONE = "It was stopped; what was defined before this call stays, what this call did is gone."
_LOST = "It was stopped, and nothing that was defined is left; the next call starts clean."


@dataclass(frozen=True)
class MontyBackend:
    """``monty``. ``functions`` are those that code may call, by the name that it knows."""

    functions: Mapping[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``monty``."""
        return "monty"

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> MontySandbox:
        """Start a worker. Raises ``SandboxError`` for a profile that grants what cannot be."""
        _check(profile)
        if snapshot is not None:
            raise SandboxError("Monty has no snapshots.", hint="Open it without one.")
        workers = AsyncExitStack()
        try:
            pool = await workers.enter_async_context(_pool(profile.limits))
        except (ImportError, FileNotFoundError) as error:
            raise SandboxError(
                f"Monty cannot be started: {error}.", hint="Install it: pip install pydantic-monty"
            ) from None
        return MontySandbox(pool, workers, profile.limits, self.functions)

    def probe(self) -> Health:
        """Start one, try to get out and to run on for ever. Never raises."""
        with ThreadPoolExecutor(1) as thread:  # there may be an event loop in this one
            return thread.submit(asyncio.run, _probe(self)).result()


class MontySandbox:
    """A few workers, and what code may call."""

    def __init__(
        self,
        pool: AsyncMonty,
        workers: AsyncExitStack,
        limits: Limits,
        functions: Mapping[str, Function],
    ) -> None:
        self._pool = pool
        self._workers = workers
        self._limits = limits
        self._functions = functions
        self._sessions: set[MontySession] = set()
        self._files = MemoryFiles(limits)
        self._id = f"monty-{secrets.token_hex(6)}"
        self._started = time.monotonic()
        self._stopped = False

    @property
    def id(self) -> str:
        """Its name."""
        return self._id

    @property
    def capabilities(self) -> Capabilities:
        """What holds in it."""
        return CAPABILITIES

    @property
    def files(self) -> MemoryFiles:
        """Files in memory, which code reads as ``files["name"]``, bytes."""
        return self._files

    async def run(self, command: Command) -> Finished:
        """Always ``SandboxError``: there are no commands."""
        del command
        _refuse("run commands")

    def stream(self, command: Command) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Always ``SandboxError``: there are no commands."""
        del command
        _refuse("run commands")

    async def run_code(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run code in a fresh interpreter."""
        async with self.checkout() as worker:
            return await self.feed(worker, code, seconds)

    async def session(self, language: Literal["python", "shell"] = "python") -> MontySession:
        """A Python session; there is no shell."""
        if language != "python":
            _refuse(f"have a {language} session")
        session = MontySession(self)
        self._sessions.add(session)
        return session

    async def snapshot(self) -> Snapshot:
        """Always ``SandboxError``: there is no workspace."""
        _refuse("keep a snapshot")

    async def pause(self) -> None:
        """Always ``SandboxError``: between calls nothing runs."""
        _refuse("be paused")

    async def resume(self) -> None:
        """Always ``SandboxError``: it cannot be paused."""
        _refuse("be resumed")

    async def stop(self) -> None:
        """End the sessions and their workers."""
        self._stopped = True
        for session in tuple(self._sessions):
            await session.aclose()
        await self._workers.aclose()

    def checkout(self) -> AsyncMontySession:
        """A clean interpreter, to be entered; its worker is its own until it is left."""
        if self._stopped:
            raise SandboxError("The sandbox has ended.", hint="Open a new one.")
        return self._pool.checkout(
            limits={
                "max_memory": self._limits.memory,
                "max_recursion_depth": _RECURSION,
                "max_suspensions": _MAX_CALLS,
            }
        )

    async def feed(self, worker: AsyncMontySession, code: str, seconds: float | None) -> Execution:
        """Run code in an interpreter, which is dead if it timed out or crashed."""
        import pydantic_monty as monty

        streams = {name: Capture(self._limits.output // 2) for name in ("stdout", "stderr")}

        def printed(stream: Literal["stdout", "stderr"], text: str) -> None:
            streams[stream].add(text.encode("utf-8", "replace"))

        status: Literal["ok", "error", "timeout", "crashed"] = "ok"
        value = error = None
        known = {_FILES: self._files.as_dict(), **self._functions}
        allowed = self._allowed(seconds)
        try:
            async with asyncio.timeout(allowed):
                result = await worker.feed_run(code, external_lookup=known, print_callback=printed)
            value = None if result is None else _bounded(repr(result), self._limits.output)
        except TimeoutError:
            status, error = "timeout", f"It did not finish within {allowed:g} s."
        except monty.MontyCrashedError as crash:
            status, error = "crashed", str(crash)
        except monty.MontyError as failure:
            status, error = "error", _bounded(_traceback(failure), self._limits.output)
        return Execution(
            status=status,
            stdout=streams["stdout"].text(),
            stderr=streams["stderr"].text(),
            value=value,
            error=error,
            dropped=sum(one.dropped for one in streams.values()),
        )

    def forget(self, session: MontySession) -> None:
        """A session has ended."""
        self._sessions.discard(session)

    def _allowed(self, seconds: float | None) -> float | None:
        wall = self._limits.wall_seconds
        if wall is None:
            return seconds
        left = max(0.0, self._started + wall - time.monotonic())
        return left if seconds is None else min(seconds, left)


class MontySession:
    """An interpreter that keeps its state, also over a call that had to be stopped."""

    def __init__(self, sandbox: MontySandbox) -> None:
        self._sandbox = sandbox
        self._lock = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._worker: AsyncMontySession | None = None
        self._saved: bytes | None = None
        self._running: asyncio.Task[Execution] | None = None

    async def run(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run code. A call that is stopped leaves what was defined before it."""
        async with self._lock:
            worker = await self._ready()
            self._running = asyncio.ensure_future(self._sandbox.feed(worker, code, seconds))
            try:
                done = await self._running
            except asyncio.CancelledError:
                await self._drop()
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                done = Execution("interrupted", error="KeyboardInterrupt")
            finally:
                self._running = None
            if done.status in ("ok", "error"):
                await self._save(worker)
                return done
            await self._drop()
            return replace(done, note=_UNDONE if self._saved else _LOST)

    async def interrupt(self) -> None:
        """Stop what runs."""
        if self._running is not None:
            self._running.cancel()

    async def restart(self) -> None:
        """Start clean."""
        await self.interrupt()
        async with self._lock:
            self._saved = None
            await self._drop()

    async def aclose(self) -> None:
        """Give the worker back."""
        await self.restart()
        self._sandbox.forget(self)

    async def _ready(self) -> AsyncMontySession:
        if self._worker is None:
            self._worker = await self._stack.enter_async_context(self._sandbox.checkout())
            if self._saved is not None:
                await self._worker.load_session(self._saved)
        return self._worker

    async def _save(self, worker: AsyncMontySession) -> None:
        import pydantic_monty as monty

        try:
            self._saved = await worker.dump()
        except monty.MontyError:  # something in it cannot be saved: a stopped call loses all
            self._saved = None

    async def _drop(self) -> None:
        import pydantic_monty as monty

        self._worker = None
        with suppress(monty.MontyError):
            await self._stack.aclose()


def _pool(limits: Limits) -> AsyncMonty:
    from pydantic_monty import AsyncMonty

    return AsyncMonty(max_processes=limits.processes)


def _check(profile: Profile) -> None:
    asked = {
        "folders": profile.grants or profile.workdir,
        "an environment": profile.env,
        "a network": profile.network,
        "packages": profile.packages,
    }
    for what, given in asked.items():
        if given:
            raise SandboxError(
                f"Code in Monty cannot have {what}: there is no operating system.",
                hint="Give it a function that does what it needs, or use another back end.",
            )


def _refuse(what: str) -> NoReturn:
    raise SandboxError(
        f"Monty cannot {what}: there is no operating system in it.",
        hint='Use run_code or session("python"), or another back end.',
    )


def _traceback(failure: Any) -> str:
    return str(failure.display()) if hasattr(failure, "display") else str(failure)


def _bounded(text: str, limit: int) -> str:
    kept = Capture(limit // 2)
    kept.add(text.encode("utf-8", "replace"))
    return kept.text()


_CANARIES = {
    "reads a file of the host": "open('/etc/passwd').read()",
    "lists a folder of the host": "import os\nos.listdir('/')",
    "starts a process": "import subprocess\nsubprocess.run(['id'])",
    "opens a connection": "import socket\nsocket.create_connection(('127.0.0.1', 1))",
    "reads the host's environment": "import os\nassert dict(os.environ)",
    "takes more memory than it may": "x = [0] * (10 ** 9)",
    "runs longer than it may": "while True: pass",
}


async def _probe(backend: MontyBackend) -> Health:
    try:
        sandbox = await backend.open(Profile(limits=Limits(memory=64 * 1024 * 1024)))
    except SandboxError as error:
        return Health(backend.name, ok=False, detail=error.message, hint=error.hint)
    try:
        works = await sandbox.run_code("6 * 7")
        wrong = [] if works.value == "42" else ["does not compute"]
        for what, code in _CANARIES.items():
            done = await sandbox.run_code(code, seconds=0.2)
            wrong += [what] if done.status == "ok" else []
    finally:
        await sandbox.stop()
    if wrong:
        return Health(backend.name, ok=False, detail=f"Code in it {', '.join(wrong)}.")
    detail = "Code has no operating system, and is stopped at its limits."
    return Health(backend.name, ok=True, detail=detail, capabilities=CAPABILITIES)
