"""The ``python`` server: code in sessions that keep their state, or in fresh interpreters."""

from __future__ import annotations

import os
import sys
import time
from binascii import a2b_base64
from pathlib import Path

from corral.mcp_servers.options import options_of
from corral.mcp_servers.produced import Produced, Watch
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.python.layers import PackageLayers
from corral.mcp_servers.python.sessions import MAX_SESSIONS, PythonSessions
from corral.mcp_servers.tool import Answer, Call, Effects, Image, JsonObject, Tool
from corral.sandbox.guest import code_schemas, processes
from corral.sandbox.guest.client import Order
from corral.sandbox.guest.outcome import Outcome

_MAX_MESSAGE = 2000

_INSTALLED_OUTPUT: JsonObject = {
    "type": "object",
    "properties": {"installed": {"type": "object", "additionalProperties": {"type": "string"}}},
    "required": ["installed"],
}


_CHANGES = Effects(read_only=False, destructive=True)
EFFECTS = {
    "run_code": _CHANGES,
    "restart_session": _CHANGES._replace(idempotent=True),
    "list_sessions": Effects(read_only=True, idempotent=True),
    "install_packages": Effects(read_only=False, idempotent=True, open_world=True),
}
"""What each tool does to its surroundings."""


class PythonTools:
    """The tools over one server's interpreters, in one folder."""

    def __init__(self, folder: Path, sessions: PythonSessions, packages: PackageLayers) -> None:
        self._written = Watch(str(folder))
        self._sessions = sessions
        self._packages = packages

    def tools(self) -> dict[str, Tool]:
        """The declarations by name."""
        return {tool.name: tool for tool in declarations(self)}

    def run_code(self, call: Call) -> Answer:
        """Run one piece of code; calls in one session wait for each other."""
        begun = time.time()
        order = Order(
            call.text("code"),
            call.number("timeout", code_schemas.DEFAULT_TIMEOUT),
            self._packages.folder,
            call.cancelled.is_set,
            _Reporter(call).add if call.followed else None,
        )
        if call.flag("fresh"):
            outcome = self._sessions.run_fresh(order)
        else:
            outcome = self._sessions.run(call.text("session", code_schemas.MAIN_SESSION), order)
        advice = self._packages.advice(outcome.error or "")
        return _answer(outcome, advice, self._written.since(begun))

    def restart_session(self, call: Call) -> Answer:
        """End a session; what it held is gone."""
        name = call.text("session", code_schemas.MAIN_SESSION)
        self._sessions.restart(name)
        return Answer(f"Session {name!r} has ended; the next call in it starts clean.")

    def list_sessions(self, call: Call) -> Answer:
        """Every session that there is."""
        del call
        found = self._sessions.listing()
        lines = [f"{one['session']}: {one['runs']} runs{_busy(one)}" for one in found]
        return Answer("\n".join(lines) or "(no sessions yet)", {"sessions": found})

    def install_packages(self, call: Call) -> Answer:
        """Make packages that are installed on this machine importable, in all sessions."""
        installed = self._packages.add(call.texts("packages"))
        listing = ", ".join(f"{name} {version}" for name, version in installed.items())
        text = f"Ready to be imported, in running sessions as well: {listing}."
        return Answer(text, {"installed": installed})

    def close(self) -> None:
        """End all sessions, and whatever runs in them."""
        self._sessions.close()


class _Reporter:
    """Hands output on as progress: every piece once, several in one message when they are quick."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._waiting = ""
        self._done = 0

    def add(self, text: str) -> None:
        self._done += len(text)
        self._waiting = (self._waiting + text)[-_MAX_MESSAGE:]
        if self._call.progress(self._done, message=self._waiting):
            self._waiting = ""


def declarations(tools: PythonTools) -> list[Tool]:
    """The tools, as clients see them."""
    return [_running(tools), *_managing(tools)]


def _running(tools: PythonTools) -> Tool:
    return Tool(
        name="run_code",
        title="Run Python code",
        description=(
            "Run Python code and return what it prints, the value of its last expression, "
            "plots as images and data frames as tables. Variables and imports stay for the "
            "next call. Files are in the workspace, which is the current folder. "
            "`await` works at top level. There is no network and no input()."
        ),
        properties=code_schemas.RUN_CODE,
        required=("code",),
        effects=EFFECTS["run_code"],
        run=tools.run_code,
        output=code_schemas.OUTCOME,
    )


def _managing(tools: PythonTools) -> list[Tool]:
    return [
        Tool(
            name="restart_session",
            title="Restart a Python session",
            description="End a session and all that runs in it. Its variables are lost.",
            properties={"session": code_schemas.SESSION},
            required=(),
            effects=EFFECTS["restart_session"],
            run=tools.restart_session,
        ),
        Tool(
            name="list_sessions",
            title="List the Python sessions",
            description=f"The sessions that there are; there can be {MAX_SESSIONS}.",
            properties={},
            required=(),
            effects=EFFECTS["list_sessions"],
            run=tools.list_sessions,
            output=code_schemas.SESSIONS,
        ),
        Tool(
            name="install_packages",
            title="Install Python packages",
            description=(
                "Make packages importable. Only packages that the user has allowed can be "
                "installed; the answer names them."
            ),
            properties={
                "packages": {
                    "type": "array",
                    "items": {"type": "string", "minLength": 1, "maxLength": 100},
                    "minItems": 1,
                    "maxItems": 20,
                    "description": "Names, with a version if it matters: pandas, numpy==2.3.4.",
                }
            },
            required=("packages",),
            effects=EFFECTS["install_packages"],
            run=tools.install_packages,
            output=_INSTALLED_OUTPUT,
        ),
    ]


def _busy(session: JsonObject) -> str:
    return ", one under way" if session["busy"] else ""


def _answer(outcome: Outcome, advice: str, files: Produced) -> Answer:
    images = _images(outcome)
    tables = [content for mime, content in outcome.displays if mime == "text/markdown"]
    if outcome.value is None:
        tables += [content for mime, content in outcome.displays if mime == "text/html"]
    errors = f"[stderr]\n{outcome.stderr}" if outcome.stderr else ""
    shown = tables or [outcome.value or ""]
    parts = [outcome.stdout, errors, *shown, outcome.error, advice, outcome.note, files.note()]
    structured: JsonObject = {
        "status": outcome.status,
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "value": outcome.value,
        "error": outcome.error,
        "dropped_bytes": outcome.dropped,
        "images": len(images),
        "files": files.paths,
    }
    text = "\n".join(part.removesuffix("\n") for part in parts if part)
    empty = f"(images: {len(images)})" if images else "(no output)"
    return Answer(text or empty, structured, outcome.status != "ok", images)


def _images(outcome: Outcome) -> tuple[Image, ...]:
    pictures = [content for mime, content in outcome.displays if mime == "image/png"]
    try:
        return tuple(Image(a2b_base64(content), "image/png") for content in pictures)
    except ValueError:
        return ()  # the code has spoken for its interpreter


def main(argv: list[str] | None = None) -> int:
    """Serve on standard input; code runs in the folder that ``--root`` names, else this one."""
    options = options_of("python", sys.argv[1:] if argv is None else argv)
    folder = options.roots[0]
    os.chdir(folder)
    processes.become_opaque()  # code must not speak for this process, or for another session
    config = options.config
    # First of all: the fork server must come from a process with a single thread.
    packages = PackageLayers.from_config(config)
    sessions = PythonSessions(
        int(config.get("warm", 1)), packages.folder, config.get("preload", [])
    )
    tools = PythonTools(folder, sessions, packages)
    identity = Identity(
        name="corral-python",
        title="Python",
        version="2.0.0",
        instructions=f"Python code in lasting sessions; the current folder is {folder}.",
    )
    return Server(identity, tools.tools(), tools.close).serve()


if __name__ == "__main__":
    sys.exit(main())
