"""An MCP server whose log says what really happened, over stdio or streamable HTTP.

    python _ledger.py LOG [PORT]

Each call is a line of LOG with its idempotency key, on the disk before the call is answered.
``pay`` must not happen twice, ``put`` may (idempotentHint), and ``look`` changes nothing
(readOnlyHint). A call takes ``seconds`` before and after its line is written, and is answered up to
``stall`` seconds late when it is the first with its key. The server ends with its input, but never
before a call that it has begun is in the log.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "corral/idempotency-key"

NUMBER = {"type": "number"}
PROPERTIES = {"what": {"type": "string"}, "seconds": NUMBER, "stall": NUMBER}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["what"]}
HINTS: dict[str, dict[str, bool]] = {
    "pay": {},
    "put": {"idempotentHint": True},
    "look": {"readOnlyHint": True},
}


input_ended = threading.Event()


def call(params: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked, which is to write it down."""
    name, args = params["name"], params.get("arguments") or {}
    seconds = args.get("seconds", 0.0)
    before = Path(sys.argv[1])
    known = before.exists() and params["_meta"][KEY] in before.read_text()
    line = json.dumps({"tool": name, "what": args["what"], "key": params["_meta"][KEY]})
    time.sleep(seconds)  # what is measured: a kill comes before the write, or after it
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, line.encode() + b"\n")
    os.fsync(log)
    os.close(log)
    time.sleep(seconds)  # so that a kill can also come after the write
    input_ended.wait(0.0 if known else args.get("stall", 0.0))
    return {"content": [{"type": "text", "text": f"{name} {args['what']}"}]}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request, in either era of the protocol."""
    params = request.get("params") or {}
    result: dict[str, Any]
    match request["method"]:
        case "initialize":
            info = {"name": "ledger", "version": "1"}
            result = {"protocolVersion": params["protocolVersion"], "serverInfo": info}
            result["capabilities"] = {"tools": {}}
        case "server/discover":
            result = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
            result |= {"ttlMs": 0, "cacheScope": "public"}
        case "tools/list":
            tools = [
                {"name": name, "inputSchema": SCHEMA, "annotations": hints}
                for name, hints in HINTS.items()
            ]
            result = {"tools": tools, "ttlMs": 0, "cacheScope": "private"}
        case "tools/call":
            result = call(params)
        case _:
            result = {}
    return {"jsonrpc": "2.0", "id": request["id"], "result": {"resultType": "complete", **result}}


def over_stdio() -> None:
    """Answer each line in a thread of its own, so that calls can overlap."""
    lock = threading.Lock()

    def serve(request: dict[str, Any]) -> None:
        text = json.dumps(answer(request)) + "\n"
        with lock:
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except BrokenPipeError:
                os._exit(0)  # nobody is left to hear it

    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request and "method" in request:
            threading.Thread(target=serve, args=(request,)).start()
    input_ended.set()


class Handler(BaseHTTPRequestHandler):
    """Streamable HTTP without streams: a request, a JSON answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        request = json.loads(self.rfile.read(length))
        if "id" not in request:
            self.reply(202, b"")
            return
        self.reply(200, json.dumps(answer(request)).encode())

    def do_GET(self) -> None:
        self.reply(405, b"")

    do_DELETE = do_GET  # noqa: N815  http.server calls the method of this very name

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's
        """Not to standard error."""


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
    else:
        over_stdio()
