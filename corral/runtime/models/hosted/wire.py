"""What an HTTP answer may be before an SDK reads it, and what its headers say.

The SDKs collect an event of a stream until it ends, at a cost that grows with the square of its
lines, and have no bound. Importing this brings ``httpx2``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2

from corral.runtime.models.hosted.errors import NotTheProtocol

_MIB = 1024 * 1024
_LONGEST_EVENT = 8 * _MIB
_MOST_LINES = 1000
_LONGEST_ANSWER = 256 * _MIB
_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")

PLAIN = {"accept-encoding": "identity"}
"""Headers for an answer that is not compressed, so that its size is what is counted."""

Hear = Callable[[Mapping[str, str]], None]


def hooks(hear: Hear | None) -> dict[str, list[Callable[..., Any]]]:
    """An HTTP client's event hooks: ``hear`` gets the headers of every answer."""

    async def on_response(response: httpx2.Response) -> None:
        _check(response)
        if hear is not None:
            hear(response.headers)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Bounded(response.stream)

    return {"response": [on_response]}


def _check(response: httpx2.Response) -> None:
    """Raise ``NotTheProtocol`` for a page, for one value instead of a stream, and for a bomb."""
    headers = response.headers
    if headers.get("content-encoding", "identity") != "identity":
        raise NotTheProtocol("The answer is compressed, which was not asked for.")
    kind = headers.get("content-type", "")
    whole = kind.startswith("application/json") and "content-length" in headers
    if response.is_success and (whole or kind.startswith("text/html")):
        raise NotTheProtocol(f"The answer is {kind} and no stream.")


class _Bounded(httpx2.AsyncByteStream):
    """A stream of events, each of which has an end."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream
        self._total = 0
        self._event = 0
        self._lines = 0
        self._tail = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._stream:
            self._count(data)
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _count(self, data: bytes) -> None:
        self._total += len(data)
        seen = self._tail + data
        ended = max(seen.rfind(end) for end in _ENDS)
        if ended >= 0:
            self._event = self._lines = 0
            data = seen[ended:]
        self._event += len(data)
        self._lines += data.count(b"\n") + data.count(b"\r")
        self._tail = seen[-3:]
        too_much = self._event > _LONGEST_EVENT or self._lines > _MOST_LINES
        if too_much or self._total > _LONGEST_ANSWER:
            raise NotTheProtocol("The answer has no end.")
