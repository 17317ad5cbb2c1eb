"""Servers on stdio as a client's file could name them; the argument says what is wrong."""

from __future__ import annotations

import json
import os
import sys

MODE = sys.argv[1]

if MODE == "dies":
    sys.exit("no database at /var/x")
if MODE == "silent":
    sys.stdin.read()
if MODE == "chatty":
    sys.stdout.write("Welcome!\n")
    sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    told = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        told["result"] = {
            "protocolVersion": request["params"]["protocolVersion"],
            "capabilities": {},
            "serverInfo": {"name": "trying", "version": "7"},
        }
    elif request["method"] == "tools/list" and MODE != "refuses":
        # The tool's name is what the client gave as its environment.
        named = f"{os.environ.get('KEY')}-{os.environ.get('CORRAL_TEST_SHELL')}"
        page = request["params"].get("cursor")
        names = [] if MODE == "empty" else [named if page is None else "second"]
        told["result"] = {"tools": [{"name": name} for name in names]}
        if page is None:
            told["result"]["nextCursor"] = "2"
    else:
        told["error"] = {"code": -32601, "message": "no such method"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
