"""The ``files`` server: list, read, search, write and edit text in the granted folders."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from corral.mcp_servers import reading, search, writing
from corral.mcp_servers.beneath import Roots, kind, open_folder
from corral.mcp_servers.options import roots_of
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.tool import Answer, Call, Effects, JsonObject, Tool, ToolFault

_MAX_ENTRIES = 1000
_READS = Effects(read_only=True, idempotent=True)

_PATH: JsonObject = {
    "type": "string",
    "minLength": 1,
    "description": "A path relative to the workspace, or an absolute one inside it.",
}

_TEXT: JsonObject = {"type": "string"}
_COUNT: JsonObject = {"type": "integer"}


def _object(**properties: JsonObject) -> JsonObject:
    return {"type": "object", "properties": properties, "required": list(properties)}


class Files:
    """The tools over one set of granted folders."""

    def __init__(self, folders: list[Path]) -> None:
        self._roots = Roots(folders)
        # Two edits of one file at a time would each undo the other.
        self._writing = threading.Lock()

    def tools(self) -> dict[str, Tool]:
        """The tools by name."""
        made = [self._list(), self._read(), self._search(), self._write(), self._edit()]
        return {tool.name: tool for tool in made}

    def _list(self) -> Tool:
        return Tool(
            name="list_directory",
            title="List a folder",
            description="List what is in a folder: name, kind and size in bytes.",
            properties={"path": {**_PATH, "default": "."}},
            required=(),
            effects=_READS,
            run=_guarded(self.list_directory),
            output=_object(
                path=_TEXT,
                entries={"type": "array", "items": _object(name=_TEXT, kind=_TEXT, size=_COUNT)},
                left_out=_COUNT,
            ),
        )

    def _read(self) -> Tool:
        return Tool(
            name="read_file",
            title="Read a text file",
            description=(
                "Read a text file, or some of its lines. A long file comes in parts; "
                "the answer says how to read on."
            ),
            properties={
                "path": _PATH,
                "offset": {
                    "type": "integer",
                    "minimum": 1,
                    "default": 1,
                    "description": "The first line to read, counted from 1.",
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": reading.MAX_LINES,
                    "default": reading.MAX_LINES,
                    "description": "How many lines to read at most.",
                },
            },
            required=("path",),
            effects=_READS,
            run=_guarded(lambda call: reading.read_file(self._roots, call)),
        )

    def _search(self) -> Tool:
        return Tool(
            name="search_files",
            title="Search in text files",
            description="Find lines that match a regular expression in a folder's text files.",
            properties={
                "pattern": {
                    "type": "string",
                    "minLength": 1,
                    "description": "A regular expression, in Python's syntax.",
                },
                "path": {**_PATH, "default": "."},
                "glob": {
                    "type": "string",
                    "minLength": 1,
                    "description": "Search only in files with such a name or path, like *.py.",
                },
            },
            required=("pattern",),
            effects=_READS,
            run=_guarded(lambda call: search.search_files(self._roots, call)),
            output=_object(
                matches={"type": "array", "items": _object(path=_TEXT, line=_COUNT, text=_TEXT)},
                files=_COUNT,
                complete={"type": "boolean"},
            ),
        )

    def _write(self) -> Tool:
        return Tool(
            name="write_file",
            title="Write a text file",
            description="Create a text file, or replace all of it. Missing folders are made.",
            properties={"path": _PATH, "content": {**_TEXT, "description": "The whole new text."}},
            required=("path", "content"),
            effects=Effects(read_only=False, destructive=True, idempotent=True),
            run=_guarded(self.write_file),
            output=_object(path=_TEXT, bytes=_COUNT, created={"type": "boolean"}),
        )

    def _edit(self) -> Tool:
        return Tool(
            name="edit_file",
            title="Edit a text file",
            description=(
                "Replace one passage of a text file. The old text must occur exactly once, "
                "so give enough of its surroundings."
            ),
            properties={
                "path": _PATH,
                "old": {**_TEXT, "minLength": 1, "description": "The text to replace, exactly."},
                "new": {**_TEXT, "description": "The text to put in its place."},
            },
            required=("path", "old", "new"),
            effects=Effects(read_only=False, destructive=True),
            run=_guarded(self.edit_file),
            output=_object(path=_TEXT, diff=_TEXT),
        )

    def list_directory(self, call: Call) -> Answer:
        """The entries of one folder, sorted by name."""
        with self._roots.at(call.text("path", ".")) as place:
            folder = open_folder(place)
            try:
                names = sorted(os.listdir(folder))  # noqa: PTH208 -- of a descriptor
                entries = [_entry(folder, name) for name in names[:_MAX_ENTRIES]]
            finally:
                os.close(folder)
            left_out = max(0, len(names) - _MAX_ENTRIES)
            lines = [f"{e['name']}{_mark(e)}" for e in entries] or ["(empty)"]
            if left_out:
                lines.append(f"[{left_out} more entries are not listed]")
            data: JsonObject = {"path": place.shown, "entries": entries, "left_out": left_out}
            return Answer("\n".join(lines), data)

    def write_file(self, call: Call) -> Answer:
        """Replace or create one file."""
        with self._writing:
            return writing.write_file(self._roots, call)

    def edit_file(self, call: Call) -> Answer:
        """Replace one passage of one file."""
        with self._writing:
            return writing.edit_file(self._roots, call)


def _entry(folder: int, name: str) -> JsonObject:
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return {"name": name, "kind": "unknown", "size": 0}
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return {"name": name, "kind": kind(status.st_mode).split()[-1], "size": size}


def _mark(entry: JsonObject) -> str:
    match entry["kind"]:
        case "folder":
            return "/"
        case "file":
            return f"  ({entry['size']} bytes)"
        case other:
            return f"  ({other})"


def _guarded(run: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
    """Say in words why the system refused."""

    def guarded(call: Call) -> Answer:
        try:
            return run(call)
        except OSError as error:
            path = call.text("path", ".")
            raise ToolFault(f"{path}: {(error.strerror or 'failed').lower()}.") from error

    return guarded


def main(argv: list[str] | None = None) -> int:
    """Serve the folders that ``--root`` names (the current one by default) on standard input."""
    folders = roots_of("files", sys.argv[1:] if argv is None else argv)
    names = ", ".join(str(folder) for folder in folders)
    identity = Identity(
        name="corral-files",
        title="Files",
        version="1.0.0",
        instructions=f"Text files in {names}. Paths are relative to the first of these folders.",
    )
    return Server(identity, Files(folders).tools()).serve()


if __name__ == "__main__":
    sys.exit(main())
