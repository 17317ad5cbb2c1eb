"""The tool ``apply_patch``: a unified diff over several files, all of it or nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from corral.mcp_servers.answer_shapes import TEXT, array, record
from corral.mcp_servers.beneath import Place, Roots, fitting
from corral.mcp_servers.files import patches, trash
from corral.mcp_servers.files.differences import MAX_DIFF, unified
from corral.mcp_servers.files.patches import BadPatch, FilePatch
from corral.mcp_servers.files.workspace import Workspace
from corral.mcp_servers.files.writing import encoded, whole_text
from corral.mcp_servers.tool import Answer, Call, Effects, JsonObject, Tool, ToolFault
from corral.sandbox.guest import beneath

_MARK = "\ufeff"


def tools(workspace: Workspace) -> list[Tool]:
    """The tool over a workspace."""
    return [
        Tool(
            name="apply_patch",
            title="Apply a patch",
            description=(
                "Apply a unified diff (--- a/path, +++ b/path, @@ -1,2 +1,3 @@) to text files: all "
                "of it, or nothing if any hunk does not fit. Line numbers may be off, the lines "
                "themselves not. /dev/null on one side creates or deletes a file; deleted files "
                "go to the trash."
            ),
            properties={
                "patch": {
                    **TEXT,
                    "minLength": 1,
                    "maxLength": patches.MAX_PATCH,
                    "description": "The unified diff.",
                }
            },
            required=("patch",),
            effects=Effects(read_only=False, destructive=True),
            run=workspace.changing(apply_patch),
            output=record(files=array(record(path=TEXT, change=TEXT)), diff=TEXT),
        )
    ]


class _Change(NamedTuple):
    """What becomes of one path: its text before and after, ``None`` where there is no file."""

    path: str
    before: str | None
    after: str | None
    mode: int | None = None

    @property
    def word(self) -> str:
        if self.before is None:
            return "created"
        return "deleted" if self.after is None else "changed"


def apply_patch(roots: Roots, call: Call) -> Answer:
    """The tool ``apply_patch``."""
    try:
        found = patches.parse(call.text("patch"))
        changes = [change for patch in found for change in _changes(roots, patch)]
    except BadPatch as error:
        raise ToolFault(str(error)) from error
    seen: set[str] = set()
    for change in changes:
        if change.path in seen:
            raise ToolFault(f"The patch changes {change.path} twice: put its hunks together.")
        seen.add(change.path)
    _carry_out(roots, changes)
    diff = "\n".join(unified(each.path, each.before, each.after) for each in changes)
    diff = diff if len(diff) <= MAX_DIFF else diff[:MAX_DIFF] + "\n[the diff goes on]"
    data: JsonObject = {
        "files": [{"path": each.path, "change": each.word} for each in changes],
        "diff": diff,
    }
    return Answer(f"Patched {len(changes)} files:\n{diff}", data)


def _changes(roots: Roots, patch: FilePatch) -> Iterator[_Change]:
    """What a file's patch comes to; a new name makes it two changes."""
    before, mode, source = None, None, ""
    if patch.old is not None:
        with roots.at(patch.old, write=True) as place:
            before, source = _read(place), place.shown
            mode = _mode(place)
    after = _patched(patch, before or "")
    if patch.new is None:
        if after:
            raise BadPatch(f"The patch deletes {source}, but not all of its lines: nothing done.")
        yield _Change(source, before, None)
    elif patch.new == patch.old:
        yield _Change(source, before, after)
    else:
        yield _Change(_new_name(roots, patch.new), None, after, mode)
        if patch.old is not None:
            yield _Change(source, before, None)


def _read(place: Place) -> str:
    try:
        return whole_text(place)
    except FileNotFoundError as error:
        raise ToolFault(
            f"There is no {place.shown} to patch; --- /dev/null creates a file."
        ) from error


def _mode(place: Place) -> int | None:
    status = beneath.status_of(place.folder, place.name)
    return None if status is None else stat.S_IMODE(status.st_mode)


def _patched(patch: FilePatch, text: str) -> str:
    mark = _MARK if text.startswith(_MARK) else ""
    return mark + patches.apply(patch, text.removeprefix(mark))


def _new_name(roots: Roots, path: str) -> str:
    try:
        with roots.at(path, write=True) as place:
            if beneath.status_of(place.folder, place.name) is not None:
                raise ToolFault(f"{place.shown} exists already; nothing was changed.")
            return place.shown
    except FileNotFoundError:
        return path  # in a folder that is yet to be made


class _Step(NamedTuple):
    """A change about to be made: where, and the name under which its new content waits."""

    change: _Change
    place: Place
    staged: str


def _carry_out(roots: Roots, changes: list[_Change]) -> None:
    """Write everything beside its place, then put it there; back again if that breaks off."""
    with ExitStack() as stack:
        steps = [stack.enter_context(_staged(roots, change)) for change in changes]
        done: list[_Step] = []
        try:
            for step in steps:
                done.append(step)
                _do(step)
        except BaseException:
            for step in reversed(done):
                _undo(step)
            raise


@contextmanager
def _staged(roots: Roots, change: _Change) -> Iterator[_Step]:
    with roots.at(change.path, write=True, create=change.before is None) as place:
        staged = ""
        if change.after is not None:
            with fitting(place):
                data = encoded(change.after)
                staged = beneath.stage(place.folder, place.name, data, change.mode)
        try:
            yield _Step(change, place, staged)
        finally:
            if staged:
                beneath.discard(place.folder, staged)


def _do(step: _Step) -> None:
    place = step.place
    if step.staged:
        os.rename(step.staged, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        os.fsync(place.folder)
    else:
        trash.discard(place)


def _undo(step: _Step) -> None:
    place, before = step.place, step.change.before
    if before is None:
        beneath.discard(place.folder, place.name)
    else:
        beneath.replace(place.folder, place.name, encoded(before))
