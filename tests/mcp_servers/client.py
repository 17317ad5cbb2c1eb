"""A client that sends what a test wants, byte for byte; the SDK's would refuse to."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "corral" / "mcp_servers"
TIMEOUT = 30.0

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class RawClient:
    """One server process and its pipes."""

    def __init__(self, command: list[str], cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd or ROOT,
        )
        self._id = 0
        self._buffer = b""

    @classmethod
    def of(cls, name: str, *roots: Path) -> RawClient:
        """One of our servers, started the way the sandbox starts it."""
        options = [part for root in roots for part in ("--root", str(root))]
        return cls([sys.executable, "-I", "-S", str(FOLDER), name, *options])

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, method: str, params: Any = None, *, modern: bool = True) -> int:
        """Send a request without waiting; its id."""
        self._id += 1
        body = dict(params or {})
        if modern:
            body["_meta"] = ENVELOPE
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": body}
        self.write(json.dumps(message).encode() + b"\n")
        return self._id

    def notify(self, method: str, params: Any) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        """The next message, whatever it answers."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                assert selector.select(TIMEOUT), "the server did not answer"
                chunk = self.process.stdout.read1(1 << 16)  # type: ignore[attr-defined]  # BufferedReader
                assert chunk, "the server closed its output"
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def request(self, method: str, params: Any = None, *, modern: bool = True) -> dict[str, Any]:
        """Send a request and wait for the next message, which must answer it."""
        number = self.send(method, params, modern=modern)
        message = self.receive()
        assert message["id"] == number
        return message

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool; its result."""
        message = self.request("tools/call", {"name": tool, "arguments": arguments})
        result: dict[str, Any] = message["result"]
        return result

    def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must work; its text."""
        result = self.call(tool, **arguments)
        text: str = result["content"][0]["text"]
        assert not result.get("isError"), text
        return text

    def fault(self, tool: str, **arguments: Any) -> str:
        """Call a tool that must fail; its text."""
        result = self.call(tool, **arguments)
        text: str = result["content"][0]["text"]
        assert result.get("isError"), text
        return text
