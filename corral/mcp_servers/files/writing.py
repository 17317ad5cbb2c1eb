"""The tools ``write_file`` and ``edit_file``: whole or not at all, and on the disk at the end."""

from __future__ import annotations

import os

from corral.mcp_servers.answer_shapes import COUNT, FLAG, TEXT, record
from corral.mcp_servers.beneath import Place, Roots, fitting, open_regular
from corral.mcp_servers.files.differences import unified
from corral.mcp_servers.files.workspace import PATH, Workspace
from corral.mcp_servers.tool import Answer, Call, Effects, Tool, ToolFault
from corral.sandbox.guest import beneath

_MAX_EDIT = 8 * 1024 * 1024
_MAX_CANDIDATES, _MAX_COMPARED = 5000, 200


def tools(workspace: Workspace) -> list[Tool]:
    """Both tools over a workspace."""
    return [
        Tool(
            name="write_file",
            title="Write a text file",
            description="Create a text file, or replace all of it. Missing folders are made.",
            properties={"path": PATH, "content": {**TEXT, "description": "The whole new text."}},
            required=("path", "content"),
            effects=Effects(read_only=False, destructive=True, idempotent=True),
            run=workspace.changing(write_file),
            output=record(path=TEXT, bytes=COUNT, created=FLAG, diff=TEXT),
        ),
        Tool(
            name="edit_file",
            title="Edit a text file",
            description=(
                "Replace one passage of a text file. The old text must occur exactly once, "
                "so give enough of its surroundings; or set all, to replace it everywhere."
            ),
            properties={
                "path": PATH,
                "old": {**TEXT, "minLength": 1, "description": "The text to replace, exactly."},
                "new": {**TEXT, "description": "The text to put in its place."},
                "all": {**FLAG, "default": False},
            },
            required=("path", "old", "new"),
            effects=Effects(read_only=False, destructive=True),
            run=workspace.changing(edit_file),
            output=record(path=TEXT, diff=TEXT),
        ),
    ]


def write_file(roots: Roots, call: Call) -> Answer:
    """The tool ``write_file``."""
    data = encoded(call.text("content"))
    with roots.at(call.text("path"), write=True, create=True) as place:
        if place.name == ".":
            raise ToolFault(f"{place.shown} is a folder, not a file.")
        before = _text_before(place)
        with fitting(place):
            created = beneath.replace(place.folder, place.name, data)
        diff = "" if created or before is None else unified(place.shown, before, data.decode())
        verb = "Created" if created else "Replaced"
        said = f"{verb} {place.shown}: {len(data)} bytes."
        return Answer(
            f"{said}\n{diff}" if diff else said,
            {"path": place.shown, "bytes": len(data), "created": created, "diff": diff},
        )


def edit_file(roots: Roots, call: Call) -> Answer:
    """The tool ``edit_file``."""
    old, new = call.text("old"), call.text("new")
    if old == new:
        raise ToolFault("The old and the new text are the same; nothing was changed.")
    with roots.at(call.text("path"), write=True) as place:
        before = whole_text(place)
        count = before.count(old)
        if count == 0:
            raise ToolFault(_not_found(place.shown, before, old))
        if count > 1 and not call.flag("all"):
            where = ", ".join(str(line) for line in _lines_of(before, old))
            raise ToolFault(
                f"The old text occurs {count} times in {place.shown} (lines {where}). "
                "Give more of what is around it, so that it is found once."
            )
        after = before.replace(old, new)
        with fitting(place):
            beneath.replace(place.folder, place.name, encoded(after))
        diff = unified(place.shown, before, after)
        return Answer(f"Edited {place.shown}:\n{diff}", {"path": place.shown, "diff": diff})


def encoded(text: str) -> bytes:
    """A text as UTF-8. Raises ``ToolFault`` for one that has no such form."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolFault("The text holds half of a character (a lone surrogate).") from error


def whole_text(place: Place) -> str:
    """All of a text file. Raises ``ToolFault`` for one that is too large, or not UTF-8."""
    with os.fdopen(open_regular(place), "rb") as file:
        data = file.read(_MAX_EDIT + 1)
    if len(data) > _MAX_EDIT:
        raise ToolFault(f"{place.shown} is larger than {_MAX_EDIT} bytes; it cannot be edited.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ToolFault(f"{place.shown} is not UTF-8 text; it cannot be edited.") from error


def _text_before(place: Place) -> str | None:
    """The text that is replaced, where there is one that can be shown."""
    with fitting(place):
        if beneath.regular(place.folder, place.name) is None:
            return None
    try:
        return whole_text(place)
    except ToolFault:
        return None


def _lines_of(text: str, part: str) -> list[int]:
    """The line numbers at which a part occurs, the first ten."""
    lines: list[int] = []
    at = text.find(part)
    while at >= 0 and len(lines) < 10:
        lines.append(text.count("\n", 0, at) + 1)
        at = text.find(part, at + len(part))
    return lines


def _not_found(shown: str, text: str, old: str) -> str:
    import difflib  # only an edit needs it

    message = f"The old text does not occur in {shown}; nothing was changed."
    if "\r\n" in text and "\r" not in old and old in text.replace("\r\n", "\n"):
        return f"{message} The file ends its lines with CR LF: put \\r\\n into the old text."
    wanted = next((line for line in old.splitlines() if line.strip()), "")[:_MAX_COMPARED]
    lines = [line[:_MAX_COMPARED] for line in text.splitlines()[:_MAX_CANDIDATES]]
    near = difflib.get_close_matches(wanted, [line for line in lines if line.strip()], n=1)
    if not near:
        return f"{message} Read the file and copy the passage exactly."
    number = lines.index(near[0]) + 1
    return f"{message} Nearest is line {number}: {near[0]!r}. Spaces count."
