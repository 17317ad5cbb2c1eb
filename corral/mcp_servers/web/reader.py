"""Has pages read by a process of their own, which is ended when one takes it too long.

Parsers and what looks for a page's main text are made for pages that are meant well: some input
takes them minutes. The process stays for the next page and leaves by itself when none comes.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.tool import Call, ToolFault
from corral.mcp_servers.web.page import IDLE, Kind, Link, Page, Want

_FOLDER = str(Path(__file__).resolve().parent.parent)
_SECONDS = 10.0
_LOOK = 0.1
_PIECE = 1 << 16
_MAX_ANSWER = 64 * 1024 * 1024
_SLOW = "The main text could not be found in time; this is all text of the page."


class Order(NamedTuple):
    """Content to read: what it is, in which charset by its headers, and what is wanted of it."""

    kind: Kind
    content: bytes
    url: str = ""
    charset: str = ""
    want: Want = "markdown"

    @property
    def line(self) -> bytes:
        """The order without its content, as the process reads it."""
        fields = {**self._asdict(), "content": None, "size": len(self.content)}
        return json.dumps(fields).encode() + b"\n"


class Reader:
    """One process that reads one page at a time."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self._command = [sys.executable, "-I", "-S", _FOLDER, "_page", *packages]
        self._process: subprocess.Popen[bytes] | None = None
        self._used = 0.0
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Start the process while something else is waited for."""
        with self._lock:
            self._running()

    def read(self, order: Order, call: Call) -> Page:
        """Read one page. Raises ``ToolFault`` when it cannot be read within seconds."""
        with self._lock:
            exchange = _Exchange(self._running(), order, call)
            try:
                return exchange.page()
            finally:
                if not exchange.over:
                    self._end()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        now = time.monotonic()
        if self._process is not None and (
            now - self._used > IDLE / 2 or self._process.poll() is not None
        ):
            self._end()
        self._used = now
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        return self._process

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process = None


class _Exchange:
    """One order and its answer, within one span of time. ``over``: all of the answer has come."""

    def __init__(self, process: subprocess.Popen[bytes], order: Order, call: Call) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.over = False
        self._order, self._call = order, call
        self._into, self._out = process.stdin.fileno(), process.stdout.fileno()
        self._end = time.monotonic() + _SECONDS
        self._buffer = bytearray()

    def page(self) -> Page:
        """The page as it was read; without its main text where finding that takes too long."""
        try:
            self._send(memoryview(self._order.line + self._order.content))
            first, more = self._receive()
        except (BrokenPipeError, EOFError) as error:
            raise ToolFault("The page is too large to be read.") from error
        except TimeoutError as error:
            raise ToolFault(f"The page could not be read within {_SECONDS:.0f} s.") from error
        if more:
            try:
                first, more = self._receive()
            except (EOFError, TimeoutError):
                return first._replace(note=_SLOW)
        self.over = not more
        return first

    def _send(self, data: memoryview) -> None:
        while data:
            self._wait(into=True)
            data = data[os.write(self._into, data[:_PIECE]) :]

    def _receive(self) -> tuple[Page, bool]:
        """The next line of the answer, and whether another follows it."""
        while b"\n" not in self._buffer:
            self._wait(into=False)
            piece = os.read(self._out, _PIECE)
            if not piece or len(self._buffer) > _MAX_ANSWER:
                raise EOFError
            self._buffer += piece
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        said = json.loads(line)
        page = Page(**said["page"])
        return page._replace(links=[Link(*link) for link in page.links]), said["more"]

    def _wait(self, *, into: bool) -> None:
        while time.monotonic() < self._end:
            if self._call.cancelled.is_set():
                raise ToolFault("Cancelled.")
            reads, writes = ([], [self._into]) if into else ([self._out], [])
            if any(select.select(reads, writes, [], _LOOK)):
                return
        raise TimeoutError
