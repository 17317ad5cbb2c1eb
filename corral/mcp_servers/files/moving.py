"""The tools ``move``, ``delete``, ``list_trash`` and ``restore``."""

from __future__ import annotations

import errno
import os
import time

from corral.mcp_servers.answer_shapes import COUNT, MAYBE_COUNT, TEXT, array, record
from corral.mcp_servers.beneath import Place, Roots
from corral.mcp_servers.files import trash
from corral.mcp_servers.files.trash import Deleted
from corral.mcp_servers.files.workspace import PATH, Workspace
from corral.mcp_servers.paging import page_arguments, page_of
from corral.mcp_servers.tool import READS, Answer, Call, Effects, JsonObject, Tool, ToolFault
from corral.sandbox.guest import beneath

_PAGE, _MOST = 100, 1000


def tools(workspace: Workspace) -> list[Tool]:
    """The four tools over a workspace."""
    return [_move(workspace), _delete(workspace), _list_trash(workspace), _restore(workspace)]


def _move(workspace: Workspace) -> Tool:
    return Tool(
        name="move",
        title="Move or rename",
        description=(
            "Move or rename a file or folder. Nothing may stand at the destination; missing "
            "folders on the way there are made."
        ),
        properties={"source": PATH, "destination": PATH},
        required=("source", "destination"),
        effects=Effects(read_only=False, destructive=True),
        run=workspace.changing(move),
        output=record(source=TEXT, destination=TEXT),
    )


def _delete(workspace: Workspace) -> Tool:
    days = trash.MAX_AGE // 86400
    return Tool(
        name="delete",
        title="Delete",
        description=(
            f"Move a file or folder to the trash. restore brings it back, for {days} days and "
            "until the trash is full."
        ),
        properties={"path": PATH},
        required=("path",),
        effects=Effects(read_only=False, destructive=True),
        run=workspace.changing(delete),
        output=record(path=TEXT, id=TEXT, bytes=COUNT),
    )


def _list_trash(workspace: Workspace) -> Tool:
    item = record(id=TEXT, path=TEXT, deleted=TEXT, bytes=COUNT)
    return Tool(
        name="list_trash",
        title="List the trash",
        description="List what was deleted and can be restored, the newest first.",
        properties=page_arguments(_MOST, _PAGE),
        required=(),
        effects=READS,
        run=workspace.reading(list_trash),
        output=record(items=array(item), total=COUNT, next_offset=MAYBE_COUNT),
    )


def _restore(workspace: Workspace) -> Tool:
    return Tool(
        name="restore",
        title="Restore from the trash",
        description="Put back what was deleted last at a path, or the deletion that id names.",
        properties={
            "path": {**PATH, "description": "Where it was before it was deleted."},
            "id": {"type": "string", "minLength": 1, "description": "As list_trash gives it."},
        },
        required=("path",),
        effects=Effects(read_only=False),
        run=workspace.changing(restore),
        output=record(path=TEXT, id=TEXT),
    )


def move(roots: Roots, call: Call) -> Answer:
    """The tool ``move``."""
    with roots.at(call.text("source"), write=True, link=True) as old:
        trash.measured(old)
        with roots.at(call.text("destination"), write=True, link=True, create=True) as new:
            _check_free(old, new)
            _rename(old, new)
            data: JsonObject = {"source": old.shown, "destination": new.shown}
            return Answer(f"Moved {old.shown} to {new.shown}.", data)


def _check_free(old: Place, new: Place) -> None:
    there = beneath.status_of(new.folder, new.name)
    mine = os.stat(old.name, dir_fd=old.folder, follow_symlinks=False)
    respelled = there is not None and os.path.samestat(there, mine) and new.name != old.name
    if there is not None and not (respelled and there.st_nlink == 1):
        raise ToolFault(f"{new.shown} exists: delete it first, or move to another name.")


def _rename(old: Place, new: Place) -> None:
    try:
        os.rename(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ToolFault(f"{old.shown} cannot be moved into itself.") from error
        if error.errno in (errno.EXDEV, errno.EBUSY):
            raise ToolFault(f"{new.shown} is on another file system than {old.shown}.") from error
        raise
    for folder in (old.folder, new.folder):
        os.fsync(folder)


def delete(roots: Roots, call: Call) -> Answer:
    """The tool ``delete``."""
    with roots.at(call.text("path"), write=True, link=True) as place:
        deleted = trash.discard(place)
        data: JsonObject = {"path": deleted.path, "id": deleted.id, "bytes": deleted.size}
        return Answer(f"Moved {deleted.path} to the trash, as {deleted.id}.", data)


def list_trash(roots: Roots, call: Call) -> Answer:
    """The tool ``list_trash``."""
    with roots.at(".") as place:
        page = page_of(trash.listed(place.root.fd), call, _PAGE)
    items = [_shown(one) for one in page.items]
    lines = [f"{one['deleted']}  {one['path']}  ({one['id']})" for one in items]
    note = page.note("deletions")
    lines += [note] if note else []
    data: JsonObject = {"items": items, "total": page.total, "next_offset": page.next}
    return Answer("\n".join(lines) or "The trash is empty.", data)


def _shown(one: Deleted) -> JsonObject:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(min(max(one.time, 0), 1e11)))
    return {"id": one.id, "path": one.path, "deleted": when, "bytes": one.size}


def restore(roots: Roots, call: Call) -> Answer:
    """The tool ``restore``."""
    path, wanted = call.text("path"), call.text("id")
    with roots.at(path, write=True, link=True, create=True) as place:
        found = [one for one in trash.listed(place.root.fd) if one.path == place.shown]
        found = [one for one in found if wanted in ("", one.id)]
        if not found:
            raise ToolFault(f"Nothing in the trash was at {place.shown}: list_trash says what is.")
        trash.restore(place, found[0])
        return Answer(f"Restored {place.shown}.", {"path": place.shown, "id": found[0].id})
