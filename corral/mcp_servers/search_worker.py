"""The child process of ``search_files``: match a regular expression against a folder's files."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from collections.abc import Iterator

from corral.mcp_servers.beneath import Place, open_folder
from corral.mcp_servers.reading import is_binary
from corral.mcp_servers.tool import JsonObject, ToolFault

MAX_MATCHES = 200
_MAX_FILE = 8 * 1024 * 1024
_MAX_FILES = 50_000
_MAX_TEXT = 300
_SKIPPED = frozenset({".git", ".hg", ".svn", "__pycache__", "node_modules", ".venv"})


def main(argv: list[str]) -> int:
    """Search below an inherited folder descriptor; writes one JSON line for each match."""
    order = json.loads(argv[0])
    expression = re.compile(order["pattern"])
    matches = files = 0
    complete = True
    for shown, data in _texts(int(argv[1]), order):
        files += 1
        for number, line in enumerate(data.splitlines(), 1):
            if expression.search(line):
                _say({"path": shown, "line": number, "text": line[:_MAX_TEXT]})
                matches += 1
                if matches >= MAX_MATCHES:
                    break
        if matches >= MAX_MATCHES or files >= _MAX_FILES:
            complete = False
            break
    _say({"done": files, "complete": complete})
    return 0


def _say(item: JsonObject) -> None:
    sys.stdout.write(json.dumps(item) + "\n")
    sys.stdout.flush()


def _texts(folder: int, order: JsonObject) -> Iterator[tuple[str, str]]:
    if order["only"]:
        place = Place(folder, order["only"], (order["only"],))
        names = iter([(_shown(order["base"], order["only"]), place.folder, place.name)])
    else:
        names = _walk(folder, order["base"])
    for shown, parent, name in names:
        if order["glob"] and not _fits(order["glob"], shown, name):
            continue
        text = _text_of(parent, name)
        if text is not None:
            yield shown, text


def _fits(glob: str, shown: str, name: str) -> bool:
    patterns = [glob, glob.removeprefix("**/")]
    return any(fnmatch.fnmatchcase(text, p) for text in (shown, name) for p in patterns)


def _shown(base: str, name: str) -> str:
    return name if base == "." else f"{base}/{name}"


def _walk(folder: int, base: str) -> Iterator[tuple[str, int, str]]:
    """Every file below, depth first, sorted; links are not followed."""
    for name in sorted(os.listdir(folder)):
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode):
                yield _shown(base, name), folder, name
            elif stat.S_ISDIR(mode) and name not in _SKIPPED:
                inner = open_folder(Place(folder, name, (name,)))
                try:
                    yield from _walk(inner, _shown(base, name))
                finally:
                    os.close(inner)
        except (OSError, ToolFault):
            continue  # gone meanwhile, or not ours to read


def _text_of(folder: int, name: str) -> str | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE:
                return None
            data = file.read(_MAX_FILE)
    except OSError:
        return None
    return None if is_binary(data[:8192]) else data.decode("utf-8", "replace")
