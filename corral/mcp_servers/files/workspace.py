"""What the tools share: the granted folders, and words for their schemas."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from corral.mcp_servers.beneath import Roots
from corral.mcp_servers.tool import Answer, Call, JsonObject, ToolFault

PATH: JsonObject = {
    "type": "string",
    "minLength": 1,
    "description": "A path relative to the workspace, or an absolute one inside it.",
}


class Workspace:
    """The granted folders, and who may change them: one call at a time, or two edits of one file
    would undo each other. ``rg`` is the ripgrep program, if there is one to use.
    """

    def __init__(self, folders: list[Path], rg: str | None = None) -> None:
        self.roots = Roots(folders)
        self.rg = rg
        self._writing = threading.Lock()

    def reading(self, run: Callable[[Roots, Call], Answer]) -> Callable[[Call], Answer]:
        """A tool that only reads."""
        return lambda call: self._guarded(run, call)

    def changing(self, run: Callable[[Roots, Call], Answer]) -> Callable[[Call], Answer]:
        """A tool that changes something."""

        def changed(call: Call) -> Answer:
            with self._writing:
                return self._guarded(run, call)

        return changed

    def _guarded(self, run: Callable[[Roots, Call], Answer], call: Call) -> Answer:
        """Say in words why the system refused."""
        try:
            return run(self.roots, call)
        except OSError as error:
            named = (call.arguments.get(name) for name in ("path", "source"))
            path = next((text for text in named if isinstance(text, str)), ".")
            raise ToolFault(f"{path}: {(error.strerror or 'failed').lower()}.") from error
