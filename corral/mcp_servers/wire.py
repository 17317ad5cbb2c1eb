"""Lines of JSON over standard input and output, which nothing else can then disturb."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

MAX_LINE = 16 * 1024 * 1024
"""The longest message that is read, in bytes."""

_CHUNK = 1 << 16
_ID = re.compile(rb'"id"\s*:\s*(-?\d{1,18}|"(?:[^"\\]|\\.){0,200}")')


class Oversized(Exception):
    """A message was longer than ``MAX_LINE``; ``request`` is its id, if that could be seen."""

    def __init__(self, request: int | str | None) -> None:
        super().__init__(f"the message is longer than {MAX_LINE} bytes")
        self.request = request


class Frames:
    """Bytes as they come, cut into lines in linear time. What is too long is not kept."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped: bytes | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes | Oversized]:
        """The messages that end in this chunk."""
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if self._skipped is None and len(self._buffer) + len(part) <= MAX_LINE:
                yield bytes(self._buffer + part)
            else:
                yield Oversized(request_id(self._skipped or bytes(self._buffer[:_CHUNK])))
            self._buffer.clear()
            self._skipped = None
        if self._skipped is None:
            self._buffer += rest
        if len(self._buffer) > MAX_LINE:
            self._skipped = bytes(self._buffer[:_CHUNK])
            self._buffer.clear()


class Wire:
    """The two ends of the pipe. Takes descriptors 0 and 1 away from the rest of the process:
    a stray ``print`` goes to standard error, a stray ``input`` finds nothing.
    """

    def __init__(self) -> None:
        self._input = os.dup(0)
        self._output = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def lines(self) -> Iterator[bytes | Oversized]:
        """Every message until the other side closes; one that is too long is not kept."""
        frames = Frames()
        while chunk := os.read(self._input, _CHUNK):
            yield from frames.feed(chunk)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message whole. Raises ``BrokenPipeError`` when nobody reads any more."""
        # Half of a surrogate pair is no UTF-8, and a reader may refuse the whole line for it.
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        data = memoryview(text.encode("utf-8", "replace") + b"\n")
        with self._lock:
            while data:
                data = data[os.write(self._output, data) :]


def request_id(start: bytes) -> int | str | None:
    """The id of the request that begins so, if it can be seen."""
    found = _ID.search(start)
    if found is None:
        return None
    value: int | str = json.loads(found.group(1))
    return value
