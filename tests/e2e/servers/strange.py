"""A server on stdio whose tool has a schema that no grammar can express: nothing fits it."""

from __future__ import annotations

import json
import sys
from typing import Any

PICK = {
    "name": "pick",
    "description": "Pick things.",
    "inputSchema": {
        "type": "object",
        "properties": {"of": {"type": "array", "minItems": 3, "maxItems": 2}},
        "required": ["of"],
    },
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            info = {"name": "strange", "version": "1"}
            version = params["protocolVersion"]
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [PICK]}
        case "tools/call":
            return {"content": [{"type": "text", "text": ", ".join(params["arguments"]["of"])}]}
        case _:
            raise LookupError(method)


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    told: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
    try:
        told["result"] = answer(request["method"], request.get("params") or {})
    except LookupError:
        told["error"] = {"code": -32601, "message": "no such method"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
