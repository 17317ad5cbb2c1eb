"""The tools ``list_directory`` and ``tree``."""

from __future__ import annotations

import os
import stat

from corral.mcp_servers.answer_shapes import COUNT, FLAG, MAYBE_COUNT, TEXT, array, record
from corral.mcp_servers.beneath import Roots, open_folder
from corral.mcp_servers.files.walking import Entry, Rules, listed, rules_at
from corral.mcp_servers.files.workspace import PATH, Workspace
from corral.mcp_servers.paging import page_arguments, page_of
from corral.mcp_servers.tool import READS, Answer, Call, JsonObject, Tool
from corral.sandbox.guest import beneath
from corral.sandbox.guest.beneath import kind

_PAGE, _MOST = 1000, 5000
_TREE_PAGE, _TREE_MOST, _TREE_FOLDER = 400, 2000, 100
_DEPTH, _MAX_DEPTH = 3, 16


def tools(workspace: Workspace) -> list[Tool]:
    """Both tools over a workspace."""
    entry = record(name=TEXT, kind=TEXT, size=COUNT)
    return [
        Tool(
            name="list_directory",
            title="List a folder",
            description="List what is in a folder: name, kind and size in bytes.",
            properties={"path": {**PATH, "default": "."}, **page_arguments(_MOST, _PAGE)},
            required=(),
            effects=READS,
            run=workspace.reading(list_directory),
            output=record(path=TEXT, entries=array(entry), total=COUNT, next_offset=MAYBE_COUNT),
        ),
        Tool(
            name="tree",
            title="Show a folder's tree",
            description="Show the folders and files below a folder, without what git ignores.",
            properties={
                "path": {**PATH, "default": "."},
                "depth": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": _MAX_DEPTH,
                    "default": _DEPTH,
                    "description": "How many levels to show.",
                },
                "limit": page_arguments(_TREE_MOST, _TREE_PAGE)["limit"],
            },
            required=(),
            effects=READS,
            run=workspace.reading(tree),
            output=record(path=TEXT, entries=array(record(path=TEXT, kind=TEXT)), complete=FLAG),
        ),
    ]


def list_directory(roots: Roots, call: Call) -> Answer:
    """The entries of one folder, sorted by name."""
    with roots.at(call.text("path", ".")) as place:
        folder = open_folder(place)
        try:
            page = page_of(beneath.names_in(folder), call, _PAGE)
            entries = [_entry(folder, name) for name in page.items]
        finally:
            os.close(folder)
        lines = [f"{e['name']}{_mark(e)}" for e in entries] or ["(empty)"]
        note = page.note("entries")
        data: JsonObject = {
            "path": place.shown,
            "entries": entries,
            "total": page.total,
            "next_offset": page.next,
        }
        return Answer("\n".join([*lines, note] if note else lines), data)


def _entry(folder: int, name: str) -> JsonObject:
    try:
        status = beneath.status_of(folder, name)
    except OSError:
        status = None
    if status is None:
        return {"name": name, "kind": "unknown", "size": 0}
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return {"name": name, "kind": _kind(status), "size": size}


def _kind(status: os.stat_result) -> str:
    return kind(status.st_mode).split()[-1]


def _mark(entry: JsonObject) -> str:
    match entry["kind"]:
        case "folder":
            return "/"
        case "file":
            return f"  ({entry['size']} bytes)"
        case other:
            return f"  ({other})"


def tree(roots: Roots, call: Call) -> Answer:
    """The tree below one folder, bounded in depth, in lines, and in lines of one folder."""
    limit = int(call.number("limit", _TREE_PAGE))
    with roots.at(call.text("path", ".")) as place:
        folder = open_folder(place)
        try:
            drawn = _Tree(call, len(place.parts), limit)
            rules = rules_at(place.root.fd, place.parts)
            drawn.draw(folder, place.parts, rules, int(call.number("depth", _DEPTH)))
        finally:
            os.close(folder)
        lines = drawn.lines or ["(empty)"]
        if not drawn.complete:
            lines.append("[not all is shown: name a folder of it, or raise limit]")
        data: JsonObject = {
            "path": place.shown,
            "entries": drawn.entries,
            "complete": drawn.complete,
        }
        return Answer("\n".join(lines), data)


class _Tree:
    def __init__(self, call: Call, base: int, limit: int) -> None:
        self._call, self._base, self._room = call, base, limit
        self.lines: list[str] = []
        self.entries: list[JsonObject] = []
        self.complete = True

    def draw(self, folder: int, parts: tuple[str, ...], rules: Rules, depth: int) -> None:
        """Draw what is in one folder, and so on; folders that may not be read are only named."""
        waiting = listed(folder, parts, rules)
        for shown, entry in enumerate(waiting):
            if self._room <= 0 or shown >= _TREE_FOLDER or self._call.cancelled.is_set():
                self._leave_out(1 + sum(1 for _ in waiting), len(entry.parts))
                return
            self._name(entry)
            if entry.is_folder:
                self._enter(entry, rules, depth)

    def _enter(self, entry: Entry, rules: Rules, depth: int) -> None:
        try:
            with beneath.opened(entry.folder, entry.name) as inner:
                if depth > 1:
                    self.draw(inner, entry.parts, rules.below(inner, entry.parts), depth - 1)
                else:
                    self.lines[-1] += _how_many(beneath.names_in(inner))
        except OSError:
            self.lines[-1] += "  (cannot be read)"

    def _name(self, entry: Entry) -> None:
        self._room -= 1
        what = _kind(entry.status)
        indent = "  " * (len(entry.parts) - self._base - 1)
        mark = "/" if entry.is_folder else "" if what == "file" else f"  ({what})"
        self.lines.append(f"{indent}{entry.name}{mark}")
        self.entries.append({"path": "/".join(entry.parts), "kind": what})

    def _leave_out(self, count: int, depth: int) -> None:
        self.complete = False
        self.lines.append("  " * (depth - self._base - 1) + f"[{count} more]")


def _how_many(names: list[str]) -> str:
    return f"  ({len(names)} inside)" if names else ""
