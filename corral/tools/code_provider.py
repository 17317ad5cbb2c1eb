"""The tool server ``python`` where code runs in no process of ours: at E2B, or in Monty.

The same tools as those of ``corral/mcp_servers/python/server.py`` in the same words, so that an
agent need not know. What differs is said in the description of ``run_code``: where files are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from corral.errors import SandboxError, ToolServerError
from corral.jsontypes import Json, JsonObject
from corral.sandbox.backends.e2b.backend import E2BBackend
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.backends.monty import MontyBackend
from corral.sandbox.contract import Execution, Profile, Sandbox, SandboxBackend, Session
from corral.sandbox.guest import code_schemas
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.tools.definitions import check_tools, result_of
from corral.tools.images import Images
from corral.tools.settings import BuiltinSettings, E2BSettings
from corral.tools.text import one_line
from corral.tools.wire import Answer, Declared, Hints

_SERVER = "python"
_MAX_SESSIONS = 8

_ABOUT = (
    "Run Python code and return what it prints, the value of its last expression, "
    "plots as images and data frames as tables. Variables and imports stay for the next call. "
)
_AT_E2B = (
    "It runs in a sandbox of the service E2B, with files of its own in the current folder: the "
    "workspace is not there. There is no network and no input()."
)
_IN_MONTY = (
    "It runs in an interpreter that knows a part of Python: no files, no network, no packages, and "
    "of the standard library only pieces such as math, json, re, datetime and asyncio."
)
_INPUT: JsonObject = {
    "type": "object",
    "properties": code_schemas.RUN_CODE,
    "required": ["code"],
    "additionalProperties": False,
}
_RESTART_INPUT: JsonObject = {
    "type": "object",
    "properties": {"session": code_schemas.SESSION},
    "additionalProperties": False,
}


def code_provider(settings: BuiltinSettings, environ: Mapping[str, str]) -> ToolProvider:
    """The server ``python`` for ``[python] backend = "e2b"`` or ``"monty"``; nothing is started.

    ``environ`` has the key to E2B.
    """
    if settings.python.backend == "e2b":
        backend = E2BBackend(e2b_options(settings.e2b, environ))
        # What the code does is done in the sandbox; that code and data leave is the open world.
        hints = Hints(read_only=False, destructive=True, idempotent=False, open_world=True)
        return CodeTools(backend, f"{_ABOUT}{_AT_E2B}", hints)
    hints = Hints(read_only=True, destructive=False, idempotent=False, open_world=False)
    return CodeTools(MontyBackend(), f"{_ABOUT}{_IN_MONTY}", hints)


def e2b_options(settings: E2BSettings, environ: Mapping[str, str]) -> E2BOptions:
    """``[e2b]`` with the key that it names."""
    return E2BOptions(
        api_key=environ.get(settings.api_key_env, ""),
        domain=settings.domain,
        api_url=settings.api_url,
        sandbox_url=settings.sandbox_url,
        template=settings.template,
        timeout=settings.timeout,
    )


@dataclass
class _Named:
    """A session, how many runs it has seen, and how many are under way."""

    session: Session
    runs: int = 0
    busy: int = 0

    async def run(self, code: str, seconds: float) -> Execution:
        """Run code in it."""
        self.runs += 1
        self.busy += 1
        try:
            return await self.session.run(code, seconds=seconds)
        finally:
            self.busy -= 1


@dataclass
class _Open:
    """The sandbox while there is one, and its sessions by name."""

    sandbox: Sandbox
    sessions: dict[str, _Named] = field(default_factory=dict)


class CodeTools:
    """A ``ToolProvider`` over sandboxes of one back end, one at a time, opened when first used."""

    def __init__(self, backend: SandboxBackend, about: str, hints: Hints) -> None:
        self._backend = backend
        declared = (
            Declared("run_code", about, _INPUT, code_schemas.OUTCOME, hints),
            Declared(
                "restart_session",
                "End a session and all that runs in it. Its variables are lost.",
                _RESTART_INPUT,
                hints=Hints(hints.read_only, hints.destructive, True, hints.open_world),
            ),
            Declared(
                "list_sessions",
                f"The sessions that there are; there can be {_MAX_SESSIONS}.",
                {"type": "object", "properties": {}, "additionalProperties": False},
                code_schemas.SESSIONS,
                Hints(read_only=True, destructive=False, idempotent=True, open_world=False),
            ),
        )
        self._work = {
            "run_code": self._run,
            "restart_session": self._restart,
            "list_sessions": self._list,
        }
        self._specs = {
            spec.tool: spec for spec in check_tools(_SERVER, declared, trusted=True).specs
        }
        self._open: _Open | None = None
        self._opening = asyncio.Lock()

    @property
    def name(self) -> str:
        """``python``."""
        return _SERVER

    async def list_tools(self) -> list[ToolSpec]:
        """The tools; nothing is started for that."""
        return list(self._specs.values())

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call a tool. Raises ``ToolServerError`` when the sandbox cannot be had or was lost."""
        spec = self._specs.get(tool)
        if spec is None:
            return ToolResult(f"{_SERVER} has no tool {one_line(tool)!r}.", is_error=True)
        limit = asyncio.timeout(options.timeout)
        try:
            async with limit:
                return result_of(spec, await self._work[tool](args))
        except SandboxError as error:
            await self.aclose()  # the next call opens another one
            raise ToolServerError(error.message, hint=error.hint) from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolServerError(
                f"{_SERVER} did not answer {tool} within {options.timeout:g} s. "
                "The call may or may not have happened.",
                hint="Raise the timeout if the code needs longer.",
            ) from None

    async def aclose(self) -> None:
        """Stop the sandbox. One that cannot be reached ends by itself."""
        opened, self._open = self._open, None
        if opened is not None:
            with suppress(SandboxError):
                await opened.sandbox.stop()

    async def _run(self, args: JsonObject) -> Answer:
        opened = await self._ready()
        code, seconds = str(args["code"]), float(args.get("timeout", code_schemas.DEFAULT_TIMEOUT))
        if args.get("fresh"):
            return _answer(await opened.sandbox.run_code(code, seconds=seconds))
        name = str(args.get("session", code_schemas.MAIN_SESSION))
        if name not in opened.sessions:
            if len(opened.sessions) >= _MAX_SESSIONS:
                return Answer(f"There are {_MAX_SESSIONS} sessions already.", is_error=True)
            opened.sessions[name] = _Named(await opened.sandbox.session("python"))
        return _answer(await opened.sessions[name].run(code, seconds))

    async def _restart(self, args: JsonObject) -> Answer:
        name = str(args.get("session", code_schemas.MAIN_SESSION))
        named = self._open.sessions.pop(name, None) if self._open else None
        if named is None:
            return Answer(f"There is no session {name!r}.", is_error=True)
        await named.session.aclose()
        return Answer(f"Session {name!r} has ended; the next call in it starts clean.")

    async def _list(self, args: JsonObject) -> Answer:
        del args
        sessions = self._open.sessions if self._open else {}
        found: list[Json] = [
            {"session": name, "runs": one.runs, "busy": one.busy > 0}
            for name, one in sessions.items()
        ]
        lines = [
            f"{name}: {one.runs} runs{', one under way' if one.busy else ''}"
            for name, one in sessions.items()
        ]
        text = "\n".join(lines) or "(no sessions yet)"
        return Answer(text, {"sessions": found}, has_structured=True)

    async def _ready(self) -> _Open:
        async with self._opening:
            if self._open is None:
                self._open = _Open(await self._backend.open(Profile()))
            return self._open


def _answer(done: Execution) -> Answer:
    images = [display for display in done.displays if display.mime.startswith("image/")]
    tables = [display.data for display in done.displays if display.mime == "text/markdown"]
    if done.value is None:
        tables += [display.data for display in done.displays if display.mime == "text/html"]
    parts = [done.stdout, f"[stderr]\n{done.stderr}" if done.stderr else ""]
    parts += tables or [done.value or ""]
    parts += [done.error or "", done.note]
    shown = Images()
    parts += [shown.note(one.mime, one.data) for one in images]
    structured: JsonObject = {
        "status": "cancelled" if done.status == "interrupted" else done.status,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "value": done.value,
        "error": done.error,
        "dropped_bytes": done.dropped,
        "images": len(images),
        "files": [],
    }
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    return Answer(
        text or "(no output)",
        structured,
        has_structured=True,
        is_error=done.status != "ok",
        images=shown.taken,
    )
