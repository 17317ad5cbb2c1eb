"""The ``python`` server: one tool, ``run_code``, in a session that lasts as long as the server."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from corral.mcp_servers.options import roots_of
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.session import Outcome, Session
from corral.mcp_servers.tool import Answer, Call, Effects, JsonObject, Tool, ToolFault

DEFAULT_TIMEOUT, MAX_TIMEOUT = 30, 600
_LOOK = 0.1

_OUTPUT: JsonObject = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ok", "error", "timeout", "crashed", "cancelled"]},
        "stdout": {"type": "string"},
        "stderr": {"type": "string"},
        "value": {"type": ["string", "null"]},
        "error": {"type": ["string", "null"]},
        "dropped_bytes": {"type": "integer"},
    },
    "required": ["status", "stdout", "stderr", "value", "error", "dropped_bytes"],
}


class PythonTool:
    """``run_code`` over one session."""

    def __init__(self, folder: Path) -> None:
        self._session = Session(folder)
        self._lock = threading.Lock()

    def tool(self) -> Tool:
        """The declaration."""
        return Tool(
            name="run_code",
            title="Run Python code",
            description=(
                "Run Python code and return what it prints and the value of its last expression. "
                "Variables and imports stay for the next call. Files are in the workspace, "
                "which is the current folder. There is no network."
            ),
            properties={
                "code": {"type": "string", "description": "The code to run."},
                "timeout": {
                    "type": "number",
                    "minimum": 0.1,
                    "maximum": MAX_TIMEOUT,
                    "default": DEFAULT_TIMEOUT,
                    "description": "Seconds after which it is stopped.",
                },
            },
            required=("code",),
            effects=Effects(read_only=False, destructive=True),
            run=self.run_code,
            output=_OUTPUT,
        )

    def run_code(self, call: Call) -> Answer:
        """Run one piece of code; calls wait for each other."""
        while not self._lock.acquire(timeout=_LOOK):
            if call.cancelled.is_set():
                raise ToolFault("Cancelled before it ran.")
        try:
            timeout = call.number("timeout", DEFAULT_TIMEOUT)
            return _answer(self._session.run(call.text("code"), timeout, call.cancelled.is_set))
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the session, and whatever runs in it."""
        if self._lock.acquire(timeout=1.0):
            self._session.end()


def _answer(outcome: Outcome) -> Answer:
    parts = [outcome.stdout]
    if outcome.stderr:
        parts.append(f"[stderr]\n{outcome.stderr}")
    parts += [part for part in (outcome.value, outcome.error, outcome.note) if part]
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    structured: JsonObject = {
        "status": outcome.status,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "value": outcome.value,
        "error": outcome.error,
        "dropped_bytes": outcome.dropped,
    }
    return Answer(text or "(no output)", structured, is_error=outcome.status != "ok")


def main(argv: list[str] | None = None) -> int:
    """Serve on standard input; code runs in the folder that ``--root`` names, else this one."""
    folder = roots_of("python", sys.argv[1:] if argv is None else argv)[0]
    tool = PythonTool(folder)
    identity = Identity(
        name="corral-python",
        title="Python",
        version="1.0.0",
        instructions=f"Python code in a lasting session; the current folder is {folder}.",
    )
    return Server(identity, {"run_code": tool.tool()}, tool.close).serve()


if __name__ == "__main__":
    sys.exit(main())
