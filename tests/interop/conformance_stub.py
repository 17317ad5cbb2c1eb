"""The command that the conformance suite starts for a scenario: it asks the process that plays it.

python conformance_stub.py SOCKET URL
"""

from __future__ import annotations

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    scenario = {
        "url": sys.argv[-1],
        "name": os.environ.get("MCP_CONFORMANCE_SCENARIO", ""),
        "context": json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}"),
    }
    client.sendall(json.dumps(scenario).encode() + b"\n")
    with client.makefile() as answer:
        came = json.loads(answer.readline())
sys.stdout.write("\n".join(came["said"]) + "\n")
sys.exit(came["code"])
