"""A lean MCP server that reaches out: by HTTP(S) through the proxy, and by plain TCP."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

TEXT: dict[str, Any] = {"type": "object", "properties": {"url": {"type": "string"}}}
LOCK = threading.Lock()
KEPT: list[socket.socket] = []


def fetch(args: dict[str, Any]) -> str:
    found = []
    for url in args["url"].split():
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                found.append(f"{answer.status} {answer.read().decode()}")
        except urllib.error.HTTPError as error:
            found.append(f"{error.code} {error.read().decode().strip()}")
        except OSError as error:
            found.append(f"failed: {error}")
    return "\n".join(found)


def talk(args: dict[str, Any]) -> str:
    with socket.create_connection(("127.0.0.1", int(args["url"])), timeout=20) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").read().decode()


def keep(args: dict[str, Any]) -> str:
    """Open a tunnel once, keep it, and say something in it at every call."""
    if not KEPT:
        KEPT.append(socket.create_connection(("127.0.0.1", 3128), timeout=20))
        KEPT[0].sendall(f"CONNECT {args['url']} HTTP/1.1\r\nHost: {args['url']}\r\n\r\n".encode())
        while b"\r\n\r\n" not in (head := KEPT[0].recv(1000)):
            assert head, "no tunnel"
    KEPT[0].sendall(b"ping")
    return KEPT[0].recv(4).decode()


def direct(args: dict[str, Any]) -> str:
    host, _, port = args["url"].partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return f"failed: {error.strerror}"
    return "connected"


def environment(_: dict[str, Any]) -> str:
    return json.dumps(dict(os.environ))


def die(args: dict[str, Any]) -> str:
    """Ask for something, and die before there is an answer."""
    sock = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    sock.sendall(f"GET {args['url']} HTTP/1.1\r\nHost: {args['url'][7:-1]}\r\n\r\n".encode())
    sock.recv(1000)
    os._exit(3)


TOOLS: dict[str, Callable[[dict[str, Any]], str]] = {
    one.__name__: one for one in (fetch, talk, keep, direct, environment, die)
}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    match request["method"]:
        case "initialize":
            return {
                "protocolVersion": request["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "fetching", "version": "1"},
            }
        case "tools/list":
            hints = {"readOnlyHint": True, "openWorldHint": True}
            tools = [
                {"name": name, "description": name, "inputSchema": TEXT, "annotations": hints}
                for name in TOOLS
            ]
            return {"tools": tools}
        case "tools/call":
            text = TOOLS[request["params"]["name"]](request["params"].get("arguments") or {})
            return {"content": [{"type": "text", "text": text}]}
        case _:
            raise LookupError(request["method"])


def serve(request: dict[str, Any]) -> None:
    try:
        said: dict[str, Any] = {"result": answer(request)}
    except LookupError:
        said = {"error": {"code": -32601, "message": "no such method"}}
    except Exception as error:  # noqa: BLE001  whatever it is, the client is told
        said = {"error": {"code": -32000, "message": repr(error)}}
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **said}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            threading.Thread(target=serve, args=(message,), daemon=True).start()
