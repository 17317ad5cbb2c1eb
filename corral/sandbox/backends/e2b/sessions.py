"""Python sessions at E2B: contexts of its code interpreter, which are Jupyter kernels."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from corral.errors import SandboxError
from corral.sandbox.backends.e2b.lease import Renew
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.contract import Display, Execution, MiB
from corral.sandbox.guest.capture import Capture

if TYPE_CHECKING:
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox
    from e2b_code_interpreter.models import Context
    from e2b_code_interpreter.models import Execution as Reply

_FLOOD = 32 * MiB  # the SDK keeps in memory whatever code prints
_GRACE = 3.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PID = "__import__('os').getpid()"
_DEAD = frozenset({"ContextRestarting", "UnexpectedEndOfExecution"})
_TYPES = (
    ("image/png", "png"),
    ("image/jpeg", "jpeg"),
    ("text/html", "html"),
    ("text/markdown", "markdown"),
)
_RESTARTED = "The session was restarted: nothing that was defined is left."


class PythonSession:
    """One context. It is started at the first call."""

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, limit: int, renew: Renew) -> None:
        self._sdk = sdk
        self._options = options
        self._limit = limit
        self._renew = renew
        self._lock = asyncio.Lock()
        self._context: Context | None = None
        self._pid = 0
        self._interrupted: Literal["", "timeout", "interrupted"] = ""
        self._running = False

    async def run(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run code; after ``seconds`` the kernel gets SIGINT, and is restarted if that fails."""
        async with self._lock:
            await self._renew(seconds)
            context = await self._ready()
            self._interrupted, self._running = "", True
            work = Evaluation(self._sdk, context, self._limit)
            task = asyncio.ensure_future(self._evaluate(work, code))
            try:
                done, _ = await asyncio.wait([task], timeout=seconds)
                if not done:
                    self._interrupted = "timeout"
                    await self._stop(task)
            except asyncio.CancelledError:
                await asyncio.shield(self._stop(task))
                raise
            finally:
                self._running = False
            return await self._outcome(work, task)

    async def interrupt(self) -> None:
        """Send SIGINT to the kernel."""
        if self._running:
            self._interrupted = "interrupted"
            await self._signal()

    async def restart(self) -> None:
        """Start clean."""
        await self.interrupt()
        async with self._lock:
            if self._context is not None:
                await self._restart()

    async def aclose(self) -> None:
        """Remove the context. One that is gone with its sandbox has ended as well."""
        with suppress(SandboxError):
            await self.interrupt()
        async with self._lock:
            context, self._context = self._context, None
            if context is not None:
                with suppress(SandboxError), self._options.asked_to("end the session"):
                    await self._sdk.remove_code_context(context)

    async def _stop(self, task: asyncio.Task[Execution]) -> None:
        """SIGINT, which keeps the state; a restart where that does not help."""
        await self._signal()
        await asyncio.wait([task], timeout=_GRACE)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            await self._restart()

    async def _outcome(self, work: Evaluation, task: asyncio.Task[Execution]) -> Execution:
        if task.cancelled():
            return work.ended(Execution("timeout", note=_RESTARTED))
        result = task.result()
        if result.status == "crashed":
            await self._restart()
            return replace(result, note=_RESTARTED)
        if self._interrupted and result.status == "error":
            return replace(result, status=self._interrupted)
        return result

    async def _ready(self) -> Context:
        with self._options.asked_to("start a Python session"):
            if self._context is None:
                self._context = await self._sdk.create_code_context()
            if not self._pid:
                answer = await self._sdk.run_code(_PID, context=self._context, timeout=30)
                self._pid = int(answer.text or 0)
        return self._context

    async def _evaluate(self, work: Evaluation, code: str) -> Execution:
        with self._options.asked_to("run the code"):
            return await work.run(code)

    async def _signal(self) -> None:
        with self._options.asked_to("interrupt the session"):
            await self._sdk.commands.run(f"kill -INT {self._pid}", user="root")

    async def _restart(self) -> None:
        assert self._context is not None
        self._pid = 0
        with self._options.asked_to("restart the session"):
            await self._sdk.restart_code_context(self._context)


class Evaluation:
    """One piece of code in a context, its output bounded by ``limit`` bytes a stream."""

    def __init__(self, sdk: AsyncSandbox, context: Context, limit: int) -> None:
        self._sdk = sdk
        self._context = context
        self._streams = {name: Capture(limit // 2) for name in ("stdout", "stderr")}
        self._total = 0

    async def run(self, code: str) -> Execution:
        """Run it to its end."""
        try:
            reply = await self._sdk.run_code(
                code,
                context=self._context,
                on_stdout=lambda message: self._take("stdout", message.line),
                on_stderr=lambda message: self._take("stderr", message.line),
                timeout=0,
            )
        except SandboxError as flood:
            return self.ended(Execution("crashed", error=flood.message))
        return self.ended(_shown(reply))

    def ended(self, result: Execution) -> Execution:
        """A result with what was written until now."""
        return replace(
            result,
            stdout=self._streams["stdout"].text(),
            stderr=self._streams["stderr"].text(),
            dropped=sum(one.dropped for one in self._streams.values()),
        )

    def _take(self, stream: str, text: str) -> None:
        data = text.encode("utf-8", "replace")
        self._streams[stream].add(data)
        self._total += len(data)
        if self._total > _FLOOD:
            raise SandboxError(
                f"The code wrote more than {_FLOOD // MiB} MiB and was stopped.",
                hint="Print less, or write to a file.",
            )


def _shown(reply: Reply) -> Execution:
    displays = tuple(
        Display(mime, data)
        for result in reply.results
        for mime, name in _TYPES
        if (data := getattr(result, name))
    )
    if reply.error is None:
        return Execution("ok", value=reply.text, displays=displays)
    error = _COLOURS.sub("", reply.error.traceback) or f"{reply.error.name}: {reply.error.value}"
    status: Literal["error", "crashed"] = "crashed" if reply.error.name in _DEAD else "error"
    return Execution(status, displays=displays, error=error)
