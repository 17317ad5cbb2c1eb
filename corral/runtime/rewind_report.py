"""What a rewind does, as callers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from corral.memory.changes import Shift
from corral.runtime.rewinding import Point, Way
from corral.runtime.snapshots.difference import Change, Difference
from corral.runtime.snapshots.trees import Folder, LeftOut
from corral.runtime.views import Record


@dataclass(frozen=True)
class TurnView(Record):
    """A run of a thread that stands; ``number`` is what ``--to`` counts."""

    number: int
    run: str
    status: str
    prompt: str
    started_at: str


@dataclass(frozen=True)
class FileChange(Record):
    """A path in the workspace and what becomes of it; ``size`` in bytes."""

    path: str
    change: Literal["created", "removed", "changed"]
    size: int


@dataclass(frozen=True)
class FileLeft(Record):
    """A path that is not touched, or could not be, and why."""

    path: str
    reason: str
    size: int = 0


@dataclass(frozen=True)
class MemoryChange(Record):
    """A fact that is remembered again or not any more."""

    memory: str
    text: str
    change: Literal["remembered", "forgotten"]


@dataclass(frozen=True)
class RewindReport(Record):
    """What a rewind has done, or would do (then ``rewind`` is ``None``).

    ``action`` is ``undo`` when it brings forward again. ``to`` counts the runs that stand then, and
    ``runs`` are those taken back, or brought back. ``left_alone`` is not kept in snapshots and so
    never touched; ``failed`` should have changed and could not. ``notes`` say what else to know.
    """

    thread: str
    action: Literal["rewind", "undo"]
    to: int
    runs: tuple[TurnView, ...]
    workspace: str
    files: tuple[FileChange, ...] = ()
    left_alone: tuple[FileLeft, ...] = ()
    memories: tuple[MemoryChange, ...] = ()
    notes: tuple[str, ...] = ()
    failed: tuple[FileLeft, ...] = ()
    rewind: str | None = None


def turn(point: Point) -> TurnView:
    """A run that stands, or stood, as callers see it."""
    return TurnView(point.number, point.run, point.status, point.prompt, point.started_at)


def file_changes(found: Difference) -> tuple[FileChange, ...]:
    """The changes by path; a folder ends in a slash, and one of permissions alone is a change."""
    changed = sorted(found.changes, key=lambda change: change.path)
    return tuple(FileChange(_shown(change), change.kind, change.size) for change in changed)


def _shown(change: Change) -> str:
    is_folder = isinstance(change.after or change.before, Folder)
    return f"{change.path}/" if is_folder else change.path


def files_left(*found: Mapping[str, LeftOut]) -> tuple[FileLeft, ...]:
    """What is not touched, by path; what is said first of a path counts."""
    by_path = {path: left for some in reversed(found) for path, left in some.items()}
    return tuple(FileLeft(path, left.reason, left.size) for path, left in sorted(by_path.items()))


def memory_changes(shifts: Sequence[Shift]) -> tuple[MemoryChange, ...]:
    """What is remembered again, and what not any more."""
    return tuple(
        MemoryChange(shift.memory, shift.after, "remembered")
        if shift.after is not None
        else MemoryChange(shift.memory, shift.before or "", "forgotten")
        for shift in shifts
    )


def notes(way: Way, *, files: bool) -> tuple[str, ...]:
    """What else to know before a rewind."""
    if not files:
        return ("The files stay as they are.",)
    said = [
        f"The files of before the run {gap.run} were not kept, so what it changed in them stays: "
        f"{gap.problem}"
        for gap in way.gaps
    ]
    if way.others:
        said.append(
            "Runs of other threads have worked in this folder since; what they changed in it goes "
            f"back too: {', '.join(way.others)}."
        )
    return tuple(said)
