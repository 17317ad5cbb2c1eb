"""A server on stdio whose tools stand in the file that is its argument, as they are just then."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def answer(method: str, params: dict[str, Any], tools: Path) -> dict[str, Any]:
    match method:
        case "initialize":
            info = {"name": "declared", "version": "1"}
            capabilities: dict[str, Any] = {"tools": {}}
            version = params["protocolVersion"]
            return {"protocolVersion": version, "capabilities": capabilities, "serverInfo": info}
        case "tools/list":
            named = json.loads(tools.read_text())
            schema = {"type": "object", "properties": {"text": {"type": "string"}}}
            return {
                "tools": [
                    {"name": name, "description": text, "inputSchema": schema, **hints(name)}
                    for name, text in named.items()
                ]
            }
        case "tools/call":
            text = f"{params['arguments'].get('text', '')} {os.environ.get('GREETING', '')}"
            return {"content": [{"type": "text", "text": text}]}
        case _:
            raise LookupError(method)


def hints(name: str) -> dict[str, Any]:
    """What a tool claims whose name says that it only looks."""
    return {"annotations": {"readOnlyHint": True}} if name.startswith("look") else {}


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    told: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        told["result"] = answer(request["method"], request.get("params") or {}, Path(sys.argv[1]))
    except LookupError:
        told["error"] = {"code": -32601, "message": "no such method"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
