"""Search text files for a regular expression, in a process that can be ended.

Python's matcher cannot be interrupted, and some expressions take it longer than the universe
has: the work is done by a child, which is killed when its time is up.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from corral.mcp_servers.beneath import Roots, open_folder
from corral.mcp_servers.tool import Answer, Call, JsonObject, ToolFault

if TYPE_CHECKING:
    import subprocess

TIMEOUT = 10.0
"""Seconds after which a search is stopped."""

_MAX_OUTPUT = 1 << 20


def search_files(roots: Roots, call: Call) -> Answer:
    """The tool ``search_files``."""
    pattern = call.text("pattern")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolFault(f"The pattern is not a regular expression: {error}.") from error
    with roots.at(call.text("path", ".")) as place:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        folder_mode = stat.S_ISDIR(status.st_mode)
        start = open_folder(place) if folder_mode else os.dup(place.folder)
        try:
            only = "" if folder_mode else place.name
            base = place.shown if folder_mode else "/".join(place.parts[:-1]) or "."
            order = {"pattern": pattern, "glob": call.text("glob"), "only": only, "base": base}
            return _answer(_Worker(order, start).run(call))
        finally:
            os.close(start)


class _Found:
    def __init__(self) -> None:
        self.matches: list[JsonObject] = []
        self.files = 0
        self.complete = self.timed_out = False


class _Worker:
    def __init__(self, order: JsonObject, folder: int) -> None:
        self._order, self._folder = order, folder
        self._found = _Found()

    def run(self, call: Call) -> _Found:
        import subprocess  # only a search needs it

        here = str(Path(__file__).resolve().parent)
        command = [sys.executable, "-I", "-S", here, "_search", json.dumps(self._order)]
        with subprocess.Popen(
            [*command, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=(self._folder,),
        ) as process:
            try:
                self._collect(process, call)
            finally:
                process.kill()
        return self._found

    def _collect(self, process: subprocess.Popen[bytes], call: Call) -> None:
        assert process.stdout is not None
        output = process.stdout.fileno()
        deadline = time.monotonic() + TIMEOUT
        buffer = b""
        taken = 0
        while taken < _MAX_OUTPUT and not call.cancelled.is_set():
            if time.monotonic() > deadline:
                self._found.timed_out = True
                return
            if not select.select([output], [], [], 0.1)[0]:
                continue
            chunk = os.read(output, 1 << 16)
            if not chunk:
                return
            taken += len(chunk)
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line))

    def _take(self, item: JsonObject) -> None:
        if "done" in item:
            self._found.files, self._found.complete = item["done"], item["complete"]
        else:
            self._found.matches.append(item)


def _answer(found: _Found) -> Answer:
    lines = [f"{m['path']}:{m['line']}: {m['text']}" for m in found.matches]
    if found.timed_out:
        lines.append(
            f"[stopped after {TIMEOUT:.0f} s, so there may be more: simplify the pattern, "
            "or narrow path or glob]"
        )
    elif not found.complete:
        lines.append("[there may be more: narrow the pattern, path or glob]")
    elif not lines:
        lines.append(f"No line matches in {found.files} text files.")
    data: JsonObject = {
        "matches": found.matches,
        "files": found.files,
        "complete": found.complete,
    }
    return Answer("\n".join(lines), data, is_error=found.timed_out and not found.matches)
