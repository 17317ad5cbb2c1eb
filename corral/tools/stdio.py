"""An MCP server in a process of its own, started when it is first needed."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from corral.errors import ToolServerError
from corral.sandbox.contract import Launch
from corral.sandbox.network.gateway import open_proxy
from corral.tools.attribution import Attribution
from corral.tools.connection import Connection, Lost
from corral.tools.contract import CallOptions
from corral.tools.networked import Networked
from corral.tools.own_session import open_own
from corral.tools.process import ServerProcess
from corral.tools.restarts import Restarts
from corral.tools.server import STRANGER, McpServer, Standing, Timing
from corral.tools.text import clean, one_line
from corral.tools.wire import Refusal, Session

_SHOWN_LINES = 16  # Node writes the reason above its stack
_SHOWN_CHARACTERS = 2000


class EraStore(Protocol):
    """Which programs speak a protocol of before 2026-07-28, by a key of the program.

    Asking one anew costs a process that ends, or seconds of silence.
    """

    async def is_legacy(self, key: str) -> bool:
        """Whether that was found out before. Raises ``StorageError``."""
        ...

    async def found_legacy(self, key: str) -> None:
        """Keep that it was found out. Raises ``StorageError``."""
        ...


@dataclass(frozen=True)
class Known:
    """Where it is kept which protocol a program speaks, and under which key."""

    eras: EraStore | None = None
    key: str = ""


@dataclass(frozen=True)
class Command:
    """How the server's process is made.

    ``launch`` is asked anew for every start and may raise ``SandboxError``; a proxy for what it
    may reach lives and dies with its process. ``hint`` is what to tell a user whose server does
    not start. ``is_ours``: it is one of our own servers, which is spoken to without the SDK.
    """

    launch: Callable[[], Launch | Networked]
    cwd: Path | None = None
    hint: str = "Run its command by hand to see what it needs."
    known: Known = Known()
    is_ours: bool = False


class StdioServer(McpServer):
    """A ``ToolProvider`` over the standard streams of a child process.

    The process is started by the first listing or call, kept warm, started again by the next call
    after it died (five times a minute at most), and ended with all its children by ``aclose``.
    """

    def __init__(
        self,
        name: str,
        command: Command | Callable[[], Launch | Networked] | Launch,
        *,
        standing: Standing = STRANGER,
        timing: Timing | None = None,
    ) -> None:
        super().__init__(name, standing=standing, timing=timing or Timing())
        self._command = _command(command)
        self._attribution = Attribution(name)
        self._restarts = Restarts()
        self._process: ServerProcess | None = None
        self._mode = "modern" if self._command.is_ours else "auto"

    @property
    def pid(self) -> int | None:
        """The process id of the running server, or of the last one; ``None`` before any."""
        return self._process.pid if self._process else None

    async def _connect(self) -> Connection:
        if self._connection is not None and self._connection.lost:
            self._restarts.died()
        verdict = self._restarts.verdict()
        if verdict.refused:
            raise self._error(
                "keeps dying and is not started again for now.",
                hint=f"{self._command.hint} It is tried again a minute after its last failure.",
            )
        await asyncio.sleep(verdict.pause)
        deadline = asyncio.get_running_loop().time() + self._timing.startup
        known = self._command.known
        if known.eras is not None and await known.eras.is_legacy(known.key):
            self._mode = "legacy"
        connection, failure = await self._open(self._mode, deadline)
        if failure and self._mode == "auto" and not isinstance(failure, TimeoutError | OSError):
            # servers of an older kind end at the first message that they do not know
            connection, failure = await self._open("legacy", deadline)
        if failure:
            self._restarts.died()
            raise self._no_start(failure, connection.lost)
        if connection.session.legacy and self._mode == "auto":
            self._mode = "legacy"  # spares the next start a probe that can take ten seconds
            if known.eras is not None:
                await known.eras.found_legacy(known.key)
        return connection

    async def _open(self, mode: str, deadline: float) -> tuple[Connection, BaseException | None]:
        belongings = AsyncExitStack()
        try:
            process = await self._start_process(belongings)
            connection = Connection(lambda lost: self._session(process, mode, lost, belongings))
            left = deadline - asyncio.get_running_loop().time()
            failure = await connection.open(max(left, 0.0))
        except BaseException:
            await belongings.aclose()
            raise
        if failure or not connection.alive:
            await belongings.aclose()
        return connection, failure

    async def _start_process(self, belongings: AsyncExitStack) -> ServerProcess:
        """Start the process, after the proxy that it may need; both end with ``belongings``."""
        launch = self._command.launch()
        if isinstance(launch, Networked):
            opened = open_proxy(launch.reach, self._attribution.watch)
            launch = launch.launch(await belongings.enter_async_context(opened))
        try:
            process = await ServerProcess.start(launch, cwd=self._command.cwd)
        except (OSError, ValueError) as error:
            self._restarts.died()
            raise self._no_start(error, "") from error
        belongings.push_async_callback(process.stop, 0)
        self._process = process
        return process

    def _under_way(self, options: CallOptions) -> AbstractAsyncContextManager[None]:
        return self._attribution.call(options.watch)

    @asynccontextmanager
    async def _session(
        self, process: ServerProcess, mode: str, lost: Lost, belongings: AsyncExitStack
    ) -> AsyncIterator[Session]:
        if self._command.is_ours:
            opened = open_own(process, lost, self._timing.grace)
            async with belongings, opened as session:
                yield session
            return
        # in a thread: the SDK takes most of a second to import, and the server starts meanwhile
        await asyncio.to_thread(importlib.import_module, "corral.tools.stdio_transport")
        from corral.tools.stdio_transport import Ends, open_stdio

        ends = Ends(lost, self._timing.grace)
        async with belongings, open_stdio(process, mode, ends, self) as session:
            yield session

    def _no_start(self, failure: BaseException, lost: str) -> ToolServerError:
        match failure:
            case TimeoutError():
                what = f"did not start within {self._timing.startup:g} s."
            case FileNotFoundError():
                what = f"could not be started: there is no {failure.filename}."
            case OSError() | ValueError():
                what = f"could not be started: {failure}."
            case _:
                what = f"could not be started: it {lost or f'answered: {one_line(str(failure))}'}."
        return self._error(what, hint=self._command.hint)

    def _loss(self, connection: Connection, refusal: Refusal) -> str:
        del refusal
        return "" if connection.alive else connection.lost or "was closed"

    def _details(self) -> str:
        errors = clean(self._process.errors).strip() if self._process else ""
        lines = errors[-_SHOWN_CHARACTERS:].splitlines()[-_SHOWN_LINES:]
        return "\n".join(["", "It said:", *(f"  {line}" for line in lines)]) if lines else ""


def _command(command: Command | Callable[[], Launch | Networked] | Launch) -> Command:
    match command:
        case Command():
            return command
        case Launch():
            return Command(lambda: command)
        case _:
            return Command(command)
