"""MCP with our own tool servers over their pipes: lines of JSON, without the SDK.

They speak the version of 2026-07-28, ask nothing, and always offer the same tools. What they send
is checked all the same: programs that a model has written run beside them in their sandbox.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from corral.jsontypes import JsonObject
from corral.tools.connection import Lost
from corral.tools.contract import Progress
from corral.tools.guard import BrokenProtocolError, Guard
from corral.tools.images import Images
from corral.tools.process import MAX_LINE, LineTooLongError, ServerProcess
from corral.tools.relay import Relay
from corral.tools.text import one_line
from corral.tools.wire import CLOSED, Answer, Declared, Hints, Page, Refusal, Request, Session
from corral.version import VERSION

_PARSE_ERROR: Final = -32700
_INVALID_PARAMS: Final = -32602
_PREFIX: Final = "io.modelcontextprotocol/"
_META: Final = {
    _PREFIX + "protocolVersion": "2026-07-28",
    _PREFIX + "clientCapabilities": {},
    _PREFIX + "clientInfo": {"name": "corral", "version": VERSION},
}
_GONE: Final = Refusal(CLOSED, "Connection closed")


class NoSessionError(Exception):
    """The server did not greet back."""


@asynccontextmanager
async def open_own(process: ServerProcess, lost: Lost, grace: float) -> AsyncIterator[Session]:
    """A session with ``process``, which is stopped with everything it started at the end.

    It then has ``grace`` seconds. Raises ``NoSessionError``.
    """
    session = _OwnSession(process, lost)
    reading = asyncio.create_task(session.read())
    try:
        await session.greet()
        yield session
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        await process.stop(grace)


@dataclass(frozen=True)
class _Asked:
    """A request without an answer yet, and who hears how far it is."""

    answer: asyncio.Future[JsonObject | Refusal]
    relay: Relay | None


class _OwnSession:
    """``Session`` with one process."""

    def __init__(self, process: ServerProcess, lost: Lost) -> None:
        self._process = process
        self._lost = lost
        self._guard = Guard()
        self._numbers = itertools.count(1)
        self._asked: dict[int, _Asked] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._instructions = ""

    @property
    def legacy(self) -> bool:
        """Never: ours are of this version."""
        return False

    @property
    def instructions(self) -> str:
        """What the server says of itself."""
        return self._instructions

    async def greet(self) -> None:
        """See that it is there. Raises ``NoSessionError``."""
        found = await self._ask("server/discover", {})
        if isinstance(found, Refusal):
            raise NoSessionError(found.message)
        self._instructions = _text(found.get("instructions"))

    async def list_page(self, cursor: str | None) -> Page | Refusal:
        """One page of the tools on offer."""
        found = await self._ask("tools/list", {} if cursor is None else {"cursor": cursor})
        return found if isinstance(found, Refusal) else _page(found)

    async def call(self, request: Request) -> Answer | Refusal:
        """Call a tool."""
        params = {"name": request.tool, "arguments": request.args}
        found = await self._ask("tools/call", params, request.meta, request.progress)
        return found if isinstance(found, Refusal) else _answer(found)

    async def _ask(
        self,
        method: str,
        params: JsonObject,
        meta: Mapping[str, Any] = {},
        progress: Progress | None = None,
    ) -> JsonObject | Refusal:
        number = next(self._numbers)
        token = {} if progress is None else {"progressToken": number}
        params["_meta"] = {**_META, **meta, **token}
        asked = _Asked(
            asyncio.get_running_loop().create_future(),
            None if progress is None else Relay(progress),
        )
        self._asked[number] = asked
        try:
            line = _line({"id": number, "method": method, "params": params})
            return await self._sent(line, asked.answer)
        except ValueError as error:
            return Refusal(_INVALID_PARAMS, f"the arguments are no JSON: {one_line(str(error))}")
        except asyncio.CancelledError:
            self._start(self._cancel(number))
            raise
        finally:
            del self._asked[number]
            if asked.relay is not None:
                await asked.relay.finish()

    async def _sent(
        self, line: bytes, answer: asyncio.Future[JsonObject | Refusal]
    ) -> JsonObject | Refusal:
        if self._is_over:
            return _GONE
        with suppress(BrokenPipeError):  # the end of its output is what tells that it is gone
            await self._process.write(line)
        return await answer

    async def _cancel(self, number: int) -> None:
        params = {"requestId": number}
        with suppress(BrokenPipeError):
            await self._process.write(
                _line({"method": "notifications/cancelled", "params": params})
            )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def read(self) -> None:
        """Everything that the server says, until it goes."""
        try:
            reason = await self._take_all()
            if reason:
                self._process.kill()
            else:
                await self._process.ended(0.5)  # its exit code is a moment behind its last output
            self._lost(reason or self._process.fate())
        finally:
            self._is_over = True
            for asked in self._asked.values():
                if not asked.answer.done():
                    asked.answer.set_result(_GONE)

    async def _take_all(self) -> str:
        """Why the server must be stopped; empty: it has closed its output."""
        try:
            while line := await self._process.read_line():
                if not line.isspace():
                    await self._take(line)
        except LineTooLongError:
            return f"sent a message of more than {MAX_LINE // 2**20} MiB and was stopped"
        except BrokenProtocolError as broken:
            return f"{broken} and was stopped"
        return ""

    async def _take(self, line: bytes) -> None:
        match _parsed(line):
            case {"method": "notifications/progress", "params": dict() as params}:
                await self._guard.notified()
                self._progressed(params)
            case {"id": int() as number, "result": dict() as result}:
                self._answered(number, result)
            case {
                "id": int() as number,
                "error": {"code": int() as code, "message": str() as text},
            }:
                self._answered(number, Refusal(code, one_line(text, 500)))
            case {"id": int() as number}:
                self._answered(number, _not_valid("its answer is not JSON-RPC"))
            case _:
                self._process.remember(line)
                self._guard.noise()

    def _answered(self, number: int, answer: JsonObject | Refusal) -> None:
        asked = self._asked.get(number)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(answer)

    def _progressed(self, params: JsonObject) -> None:
        match params:
            case {"progressToken": int() as number, "progress": int() | float() as done}:
                asked, total, message = (
                    self._asked.get(number),
                    params.get("total"),
                    params.get("message"),
                )
                if asked is not None and asked.relay is not None:
                    total = total if isinstance(total, int | float) else None
                    asked.relay.tell(done, total, message if isinstance(message, str) else None)


def _line(message: JsonObject) -> bytes:
    """Raises ``ValueError`` for numbers that JSON does not have."""
    text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def _parsed(line: bytes) -> Any:
    """What a line says, read with replacement characters where it is broken UTF-8."""
    with suppress(ValueError):
        return from_json(line)
    with suppress(ValueError):
        return from_json(line.decode("utf-8", "replace"))
    return None


def _page(found: JsonObject) -> Page | Refusal:
    tools = found.get("tools")
    declared = [_declared(tool) for tool in tools] if isinstance(tools, list) else [None]
    usable = [tool for tool in declared if tool is not None]
    if len(usable) < len(declared):
        return _not_valid("its list of tools is none")
    following = found.get("nextCursor")
    return Page(usable, following if isinstance(following, str) else None)


def _declared(tool: Any) -> Declared | None:
    match tool:
        case {"name": str() as name, "inputSchema": dict() as schema}:
            output, hints = tool.get("outputSchema"), tool.get("annotations")
            said = hints if isinstance(hints, dict) else {}
            title = _text(tool.get("title"))
            return Declared(
                name=name,
                description=_text(tool.get("description")) or title,
                input_schema=schema,
                output_schema=output if isinstance(output, dict) else None,
                title=title,
                hints=Hints(
                    read_only=_flag(said.get("readOnlyHint")),
                    destructive=_flag(said.get("destructiveHint")),
                    idempotent=_flag(said.get("idempotentHint")),
                    open_world=_flag(said.get("openWorldHint")),
                ),
            )
        case _:
            return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _answer(found: JsonObject) -> Answer | Refusal:
    content = found.get("content")
    if not isinstance(content, list):
        return _not_valid("its answer has no content")
    images = Images()
    text = "\n".join(_block(block, images) for block in content)
    return Answer(
        text=text,
        structured=found.get("structuredContent"),
        has_structured="structuredContent" in found,
        is_error=found.get("isError") is True,
        images=images.taken,
    )


def _block(block: object, images: Images) -> str:
    match block:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "image", "mimeType": str() as mime_type, "data": str() as data}:
            return images.note(mime_type, data)
        case {"type": "resource_link", "uri": str() as uri, "name": str() as name}:
            return f"[resource {one_line(uri)}: {one_line(name)}]"
        case _:
            return "[content of an unknown kind, not shown]"


def _not_valid(what: str) -> Refusal:
    return Refusal(_PARSE_ERROR, f"not valid MCP: {what}")
