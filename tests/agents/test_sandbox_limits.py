"""``[sandbox_limits]``: what each tool server may use, and what an entry's own limits change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import corral
from corral.jsontypes import JsonObject
from corral.runtime.approvals.replies import Approved
from corral.runtime.config import Settings

CODE = "import resource\nresource.getrlimit(resource.RLIMIT_NOFILE)[0]"
SERVER = """
import json, resource, sys

def answer(method, params):
    if method == "initialize":
        info = {"name": "counts", "version": "1"}
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "files", "inputSchema": {"type": "object"}}]}
    text = str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return {"content": [{"type": "text", "text": text}]}

for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        said = {"result": answer(message["method"], message.get("params", {}))}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}), flush=True)
"""


async def approve(_approval: corral.Approval) -> Approved:
    return Approved()


@pytest.mark.parametrize(
    ("usual", "own", "expected"),
    [({}, {}, 256), ({"open_files": 40}, {}, 40), ({"open_files": 40}, {"open_files": 50}, 50)],
)
async def test_they_hold_for_every_server(
    settings: Settings, tmp_path: Path, usual: JsonObject, own: JsonObject, expected: int
) -> None:
    script = tmp_path / "counts.py"
    script.write_text(SERVER)
    entry = {
        "command": sys.executable,
        "args": [str(script)],
        "grants": [str(script)],
        "limits": own,
    }
    limited = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "sandbox_limits": usual,
            "mcp": {"counts": entry},
        }
    )
    async with corral.open(limited) as c:
        options = corral.RunOptions(approver=approve)
        theirs = await c.call_tool("counts__files", {}, options)
        assert theirs.output == str(expected), theirs.error
        ours = await c.call_tool("python__run_code", {"code": CODE}, options)
        assert ours.output == str(usual.get("open_files", 256))
