"""A lean MCP server over standard input and output, with the standard library alone.

Both eras of the protocol: the ``initialize`` handshake (2024-11-05 to 2025-11-25), and the
stateless requests of 2026-07-28 that carry version and capabilities in ``_meta``. A call runs
in a thread of its own, so pings and cancellations are answered while it works.

Source: modelcontextprotocol.io/specification, "Base protocol", "Lifecycle", "Tools".
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from corral.mcp_servers.tool import Answer, Call, JsonObject, Tool, ToolFault
from corral.mcp_servers.wire import Oversized, Wire

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSION = "2026-07-28"

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR, UNSUPPORTED_VERSION = -32602, -32603, -32022

_PREFIX = "io.modelcontextprotocol/"
_VERSION_KEY = _PREFIX + "protocolVersion"
_CAPABILITIES_KEY = _PREFIX + "clientCapabilities"
_CAPABILITIES: JsonObject = {"tools": {"listChanged": False}}
_CONCURRENT_CALLS = 16
_MOST_CALLS = 256
_IDLE_SECONDS = 1.0
_NO_THREAD = "there is no thread or no memory left for this call; try again later"


class RequestError(Exception):
    """A request that the protocol refuses; becomes a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: JsonObject | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class Identity(NamedTuple):
    """How a server presents itself."""

    name: str
    title: str
    version: str
    instructions: str

    def info(self) -> JsonObject:
        """MCP's ``Implementation``."""
        return {"name": self.name, "title": self.title, "version": self.version}


class _Crew:
    """Threads that do what there is to do, a few at a time and the rest in turn.

    A thread that has had nothing to do for a while ends: what it would cost to keep it is memory.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._working = 0
        self._idle = 0

    def do(self, work: Callable[[], None]) -> None:
        """Begin with ``work``, or put it behind what waits. Raises ``RequestError`` when nobody is
        there to do it, nor can be.
        """
        with self._changed:
            if self._working >= _CONCURRENT_CALLS or len(self._waiting) < self._idle:
                self._wait(work)
                return
            try:
                threading.Thread(target=self._work, args=[work], daemon=True).start()
            except RuntimeError:  # what the sandbox allows is used up, by what calls have started
                if not self._working:
                    raise RequestError(INTERNAL_ERROR, _NO_THREAD) from None
                self._wait(work)
                return
            self._working += 1

    def _wait(self, work: Callable[[], None]) -> None:
        self._waiting.append(work)
        self._changed.notify()

    def _work(self, work: Callable[[], None] | None) -> None:
        while work is not None:
            try:
                work()
            except Exception:  # noqa: BLE001 -- what waits is done all the same
                traceback.print_exc(file=sys.stderr)
            with self._changed:
                work = self._next()
                self._working -= work is None

    def _next(self) -> Callable[[], None] | None:
        if not self._waiting:
            self._idle += 1
            self._changed.wait(_IDLE_SECONDS)
            self._idle -= 1
        return self._waiting.popleft() if self._waiting else None


class Server:
    """One server: its tools, and what is under way. ``serve`` is its whole life."""

    def __init__(
        self,
        identity: Identity,
        tools: Mapping[str, Tool],
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.identity, self.tools, self.close = identity, tools, close
        self._version = ""
        self._calls: dict[int | str, Call] = {}
        self._lock = threading.Lock()
        self._crew = _Crew()

    def serve(self) -> int:
        """Answer requests until standard input ends; 0, the exit status."""
        wire = Wire()
        try:
            for line in wire.lines():
                self._receive(wire, line)
        except BrokenPipeError:
            pass  # nobody is left to answer
        finally:
            for call in list(self._calls.values()):
                call.cancelled.set()
            self.close()
        return 0

    def _receive(self, wire: Wire, line: bytes | Oversized) -> None:
        request: int | str | None = None
        if isinstance(line, bytes) and not line.strip():
            return
        try:
            if isinstance(line, Oversized):
                request = line.request
                raise RequestError(INVALID_REQUEST, str(line))
            message = _parse(line)
            method, request = message.get("method"), message.get("id")
            params = message.get("params") or {}
            if method is None and ("result" in message or "error" in message):
                return  # an answer, and we ask nothing
            _check_shape(request, method, params)
            if request is None:
                self._notified(method, params)
            elif method == "tools/call":
                self._begin_call(wire, request, params)
            else:
                wire.send(_response(request, self._answer(method, params)))
        except RequestError as error:
            wire.send(_failure(request, error))

    def _notified(self, method: object, params: JsonObject) -> None:
        if method == "notifications/cancelled":
            wanted = params.get("requestId")
            call = self._calls.get(wanted) if isinstance(wanted, int | str) else None
            if call is not None:
                call.cancelled.set()

    def _answer(self, method: object, params: JsonObject) -> JsonObject:
        if method == "initialize":
            return self._initialize(params)
        version = self._version_of(params)
        result: JsonObject
        if method == "tools/list":
            if params.get("cursor") is not None:
                raise RequestError(INVALID_PARAMS, "there is one page of tools, so no cursor")
            result = {"tools": [tool.to_json(version) for tool in self.tools.values()]}
        elif method == "server/discover" and version == MODERN_VERSION:
            result = {
                "supportedVersions": [MODERN_VERSION, *reversed(HANDSHAKE_VERSIONS)],
                "capabilities": _CAPABILITIES,
                "instructions": self.identity.instructions,
            }
        elif method == "ping" and version != MODERN_VERSION:
            return {}
        else:
            raise RequestError(METHOD_NOT_FOUND, f"there is no method {method!r}")
        if version == MODERN_VERSION:
            result |= {"ttlMs": 3_600_000, "cacheScope": "private"}
        return self._stamped(result, version)

    def _initialize(self, params: JsonObject) -> JsonObject:
        wanted = params.get("protocolVersion")
        if not isinstance(wanted, str):
            raise RequestError(INVALID_PARAMS, "initialize needs a protocolVersion")
        self._version = wanted if wanted in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]
        return {
            "protocolVersion": self._version,
            "capabilities": _CAPABILITIES,
            "serverInfo": self.identity.info(),
            "instructions": self.identity.instructions,
        }

    def _version_of(self, params: JsonObject) -> str:
        """The version that a request speaks: its own, else the one agreed in the handshake."""
        meta = params.get("_meta")
        if isinstance(meta, dict) and _VERSION_KEY in meta:
            version = meta[_VERSION_KEY]
            if not isinstance(version, str) or not isinstance(meta.get(_CAPABILITIES_KEY), dict):
                raise RequestError(
                    INVALID_PARAMS,
                    f"_meta needs {_VERSION_KEY} (a string) and {_CAPABILITIES_KEY} (an object)",
                )
            if version != MODERN_VERSION:
                raise RequestError(
                    UNSUPPORTED_VERSION,
                    f"protocol version {version} is not supported",
                    {"supported": [MODERN_VERSION, *HANDSHAKE_VERSIONS], "requested": version},
                )
            return version
        if not self._version:
            raise RequestError(
                INVALID_PARAMS,
                f"no handshake yet: send initialize, or a request with {_VERSION_KEY} in _meta",
            )
        return self._version

    def _stamped(self, result: JsonObject, version: str) -> JsonObject:
        if version != MODERN_VERSION:
            return result
        return {
            **result,
            "resultType": "complete",
            "_meta": {_PREFIX + "serverInfo": self.identity.info()},
        }

    def _begin_call(self, wire: Wire, request: int | str, params: JsonObject) -> None:
        version = self._version_of(params)
        tool = self.tools.get(str(params.get("name")))
        arguments = params.get("arguments")
        if tool is None:
            raise RequestError(INVALID_PARAMS, f"there is no tool {params.get('name')!r}")
        if arguments is not None and not isinstance(arguments, dict):
            raise RequestError(INVALID_PARAMS, "arguments must be an object")
        token = _progress_token(params)
        call = Call(arguments or {}, None if token is None else _reporter(wire, token))
        with self._lock:
            if request in self._calls:
                raise RequestError(INVALID_REQUEST, f"the request id {request!r} is in use")
            if len(self._calls) >= _MOST_CALLS:
                raise RequestError(INTERNAL_ERROR, "too many calls at once; try again later")
            self._calls[request] = call

        def work() -> None:
            answer = None if call.cancelled.is_set() else _run(tool, call)
            with self._lock:
                del self._calls[request]
            if answer is not None and not call.cancelled.is_set():
                _try_send(wire, _response(request, self._stamped(answer.to_json(version), version)))

        try:
            self._crew.do(work)
        except RequestError:
            with self._lock:
                del self._calls[request]
            raise


def _parse(line: bytes) -> JsonObject:
    try:
        message: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(PARSE_ERROR, "a line is not JSON") from error
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise RequestError(INVALID_REQUEST, "a message is an object with jsonrpc 2.0, not a batch")
    return message


def _check_shape(request: object, method: object, params: object) -> None:
    if not isinstance(method, str):
        raise RequestError(INVALID_REQUEST, "a request needs a method")
    if request is not None and (isinstance(request, bool) or not isinstance(request, int | str)):
        raise RequestError(INVALID_REQUEST, "an id is a string or an integer")
    if not isinstance(params, dict):
        raise RequestError(INVALID_PARAMS, "params must be an object")


def _run(tool: Tool, call: Call) -> Answer:
    fault = tool.check(call.arguments)
    if fault:
        return Answer(fault, is_error=True)
    try:
        return tool.run(call)
    except ToolFault as error:
        return Answer(str(error), is_error=True)
    except Exception as error:  # noqa: BLE001 -- one broken call must not end the server
        traceback.print_exc(file=sys.stderr)
        return Answer(f"{tool.name} failed inside: {type(error).__name__}", is_error=True)


def _progress_token(params: JsonObject) -> int | str | None:
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, int | str) and not isinstance(token, bool) else None


def _reporter(wire: Wire, token: int | str) -> Callable[[JsonObject], None]:
    def report(progress: JsonObject) -> None:
        params = {"progressToken": token, **progress}
        message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        _try_send(wire, message)

    return report


def _response(request: int | str, result: JsonObject) -> JsonObject:
    return {"jsonrpc": "2.0", "id": request, "result": result}


def _failure(request: object, error: RequestError) -> JsonObject:
    body: JsonObject = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    known = isinstance(request, int | str) and not isinstance(request, bool)
    return {"jsonrpc": "2.0", "id": request if known else None, "error": body}


def _try_send(wire: Wire, message: JsonObject) -> None:
    try:
        wire.send(message)
    except BrokenPipeError:
        return  # the reader of standard input notices the same
