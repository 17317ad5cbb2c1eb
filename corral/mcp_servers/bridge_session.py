"""What a bridge knows of its client's session, so that the session outlives the host. No I/O."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final, NamedTuple, TypeGuard

from corral.mcp_servers.wire import Oversized

Message = dict[str, Any]

LOST: Final = -32000
INVALID_REQUEST: Final = -32600
_OWN = "corral-bridge"  # what the ids of our own requests begin with
_KEPT = 1 << 16  # a longer request is not sent again
_SUBSCRIBING = ("resources/subscribe", "resources/unsubscribe")
_SUBSCRIPTIONS, _LONGEST_URI = 64, 2_048  # more than a host allows
_UPDATED: Message = {"jsonrpc": "2.0", "method": "notifications/resources/updated"}
_LOST_CALL = (
    "Corral was started again while it worked on this call. What a run has begun goes on: call "
    "runs_list, and run_result with its handle."
)
_LOST_REQUEST = "Corral was started again while it worked on this request. Send it again."


class _Sent(NamedTuple):
    """A client's request that has no answer yet. ``line`` is empty where it was too long."""

    method: str
    line: bytes
    is_again: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again: once, and only what does nothing."""
        return bool(self.line) and self.method != "tools/call" and not self.is_again


class Outgoing:
    """Lines on their way to one side. ``size`` is in bytes."""

    def __init__(self) -> None:
        self.size = 0
        self._lines: deque[memoryview] = deque()

    def add(self, line: bytes) -> None:
        """Put a line at the end."""
        self._lines.append(memoryview(line + b"\n"))
        self.size += len(line) + 1

    def head(self, most: int) -> memoryview:
        """What is to be written next, at most so many bytes; there must be something."""
        return self._lines[0][:most]

    def written(self, count: int) -> None:
        """Take away so many bytes from the front, which were in ``head``."""
        self.size -= count
        rest = self._lines.popleft()[count:]
        if rest:
            self._lines.appendleft(rest)

    def take(self, others: Outgoing) -> None:
        """Put the lines of others at the end, which then have none."""
        self._lines.extend(others._lines)
        self.size += others.size
        others.clear()

    def clear(self) -> None:
        """Drop everything."""
        self._lines.clear()
        self.size = 0


class Session:
    """The lines of one client, and those of the hosts that it has one after another.

    ``to_host`` and ``to_client`` are the lines that are to be written.
    """

    def __init__(self) -> None:
        self.to_host = Outgoing()
        self.to_client = Outgoing()
        self._pending: dict[int | str, _Sent] = {}
        self._hello: bytes | None = None
        self._ready: bytes | None = None
        self._greeting: str | None = None
        self._subscribed: dict[str, Message] = {}
        self._renewed: dict[int | str, str] = {}
        self._held = Outgoing()
        self._life = 0

    @property
    def is_waiting(self) -> bool:
        """Whether the client has something to come."""
        return bool(self._pending or self.to_client.size)

    @property
    def owed(self) -> int:
        """Bytes of the client's that the host has not taken, or may not before its greeting."""
        return self.to_host.size + self._held.size

    def from_client(self, line: bytes | Oversized) -> None:
        """Take a line of the client's."""
        if isinstance(line, Oversized):
            self._fail(line.request, INVALID_REQUEST, str(line))
        elif line.strip() and (sent := self._noted(line)):
            self._send(sent)

    def from_host(self, line: bytes | Oversized) -> None:
        """Take a line of the host's."""
        if isinstance(line, Oversized):
            if isinstance(line.request, int | str):
                self._pending.pop(line.request, None)
                self._fail(line.request, LOST, f"The answer cannot be passed on: {line}.")
            return
        message = _parsed(line)
        number = message.get("id")
        if "method" not in message and _is_id(number):
            if number == self._greeting:
                self._greeted()
                return
            if (uri := self._renewed.pop(number, None)) is not None:
                # What happened in between nobody has told.
                self.to_client.add(_line({**_UPDATED, "params": {"uri": uri}}))
                return
            self._pending.pop(number, None)
        elif "method" in message and self._life and "id" in message:
            # A late answer to a host that is gone must not pass for one to this host's question.
            line = _line({**message, "id": f"{self._life}:{json.dumps(number)}"})
        self.to_client.add(line)

    def restarted(self) -> None:
        """Go on with another host: tell it the handshake, and what may be asked again.

        The rest of what the client waits for is answered with what to do.
        """
        self._life += 1
        self.to_host.clear()
        self._held.clear()
        self._renewed.clear()
        pending, self._pending = self._pending, {}
        is_known = self._hello is not None and not any(
            sent.method == "initialize" for sent in pending.values()
        )
        self._greeting = f"{_OWN}:{self._life}" if is_known else None
        if self._hello is not None and self._greeting is not None:
            hello = _line({**_parsed(self._hello), "id": self._greeting})
            self.to_host.add(hello)
        for number, sent in pending.items():
            if sent.is_repeatable:
                self._pending[number] = sent._replace(is_again=True)
                self._send(sent.line)
            else:
                words = _LOST_CALL if sent.method == "tools/call" else _LOST_REQUEST
                self._fail(number, LOST, words)

    def give_up(self, why: str) -> None:
        """Answer all that is open with why nothing more will come."""
        for number in list(self._pending):
            self._fail(number, LOST, why)
        self._pending.clear()

    def _noted(self, line: bytes) -> bytes | None:
        """The line as the host is to have it; what must be known of it later is kept."""
        message = _parsed(line)
        method, number = message.get("method"), message.get("id")
        if method is None:
            return self._own_answer(message, line) if "id" in message else line
        if method == "initialize":
            self._hello, self._ready = line, None
        elif method == "notifications/initialized":
            self._ready = line
        elif method in _SUBSCRIBING:
            self._note_subscription(message)
        if _is_id(number):
            self._pending[number] = _Sent(str(method), line if len(line) <= _KEPT else b"")
        return line

    def _note_subscription(self, message: Message) -> None:
        match message:
            case {"method": "resources/subscribe", "params": {"uri": str(uri)}}:
                if len(self._subscribed) < _SUBSCRIPTIONS and len(uri) < _LONGEST_URI:
                    self._subscribed[uri] = message
            case {"params": {"uri": str(uri)}}:
                self._subscribed.pop(uri, None)

    def _own_answer(self, message: Message, line: bytes) -> bytes | None:
        """The client's answer, by the number that this host gave; ``None``: it asked another."""
        if self._life == 0:
            return line
        life, _, number = str(message["id"]).partition(":")
        if life != str(self._life) or not number:
            return None
        return _line({**message, "id": _parsed_number(number)})

    def _send(self, line: bytes) -> None:
        if self._greeting is None:
            self.to_host.add(line)
        else:
            self._held.add(line)

    def _greeted(self) -> None:
        """The host has answered the handshake: it can have the rest."""
        self._greeting = None
        if self._ready is not None:
            self.to_host.add(self._ready)
        for at, (uri, message) in enumerate(self._subscribed.items()):
            number = f"{_OWN}:{self._life}:{at}"
            self._renewed[number] = uri
            self.to_host.add(_line({**message, "id": number}))
        self.to_host.take(self._held)

    def _fail(self, number: int | str | None, code: int, words: str) -> None:
        error = {"code": code, "message": words}
        self.to_client.add(_line({"jsonrpc": "2.0", "id": number, "error": error}))


def _parsed(line: bytes) -> Message:
    """A message, or nothing where it is none: then the host says what is wrong with it."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _parsed_number(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_id(value: object) -> TypeGuard[int | str]:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _line(message: Message) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
