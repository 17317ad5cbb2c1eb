"""What leads from one snapshot of a workspace to another, path by path."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from corral.runtime.snapshots.trees import (
    Fetch,
    File,
    Folder,
    LeftOut,
    Node,
    join,
    left_out,
)

Kept: TypeAlias = Node | None


@dataclass(frozen=True)
class Change:
    """One path that is not the same: what is there, and what is to be (``None``: nothing)."""

    path: str
    before: Node | None
    after: Node | None

    @property
    def kind(self) -> Literal["created", "removed", "changed"]:
        """What making it so does to the path."""
        if self.before is None:
            return "created"
        return "removed" if self.after is None else "changed"

    @property
    def size(self) -> int:
        """Bytes of the file that is to be, or of the one that is to go."""
        node = self.after or self.before
        return node.size if isinstance(node, File) else 0

    def reversed(self) -> Change:
        """The change that takes this one back."""
        return Change(self.path, self.after, self.before)


@dataclass
class Difference:
    """All changes, in the order of their paths, and what is left alone although it differs."""

    changes: list[Change] = field(default_factory=list)
    left_alone: dict[str, LeftOut] = field(default_factory=dict)

    def reversed(self) -> Difference:
        """The way back."""
        return Difference([change.reversed() for change in self.changes], self.left_alone)


def difference(fetch: Fetch, before: str, after: str) -> Difference:
    """From the outermost folder ``before`` to ``after``; both by their digests.

    What either of them leaves out is no change: nobody knows what it held, so nobody touches it,
    nor what stands in its way.
    """
    found = Difference()
    _compare(fetch, "", (before, after), found)
    return found


def _compare(fetch: Fetch, path: str, folders: tuple[str, str], found: Difference) -> None:
    before, after = (fetch(digest) for digest in folders)
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            _entry(fetch, join(path, name), (old, new), found)


def _entry(fetch: Fetch, path: str, nodes: tuple[Kept, Kept], found: Difference) -> None:
    old, new = nodes
    if isinstance(old, LeftOut) or isinstance(new, LeftOut):
        _left_alone(path, old, new, found)
    elif isinstance(old, Folder) and isinstance(new, Folder):
        if not _same(replace(old, digest=""), replace(new, digest="")):
            found.changes.append(Change(path, old, new))
        if old.digest != new.digest:
            _compare(fetch, path, (old.digest, new.digest), found)
    elif isinstance(old, Folder) and new is not None and any(left_out(fetch, old.digest)):
        found.left_alone[path] = LeftOut("a folder with files that are left out is in its place")
    elif not _same(old, new):
        stays = isinstance(old, Folder) and _removals(fetch, path, old, found)
        if not stays:
            found.changes.append(Change(path, old, new))
        if isinstance(new, Folder):
            _creations(fetch, path, new, found)


def _left_alone(path: str, old: Kept, new: Kept, found: Difference) -> None:
    if isinstance(old, LeftOut):
        if not isinstance(new, LeftOut):
            found.left_alone[path] = old
    elif isinstance(new, LeftOut):
        gone = f"it is gone and was not kept: {new.reason}"
        found.left_alone[path] = new if old is not None else LeftOut(gone, new.size)


def _removals(fetch: Fetch, path: str, folder: Folder, found: Difference) -> bool:
    """Everything in a folder goes; whether the folder stays, because of what is left out."""
    stays = False
    for name, node in sorted(fetch(folder.digest).items()):
        inner = join(path, name)
        if isinstance(node, LeftOut):
            found.left_alone[inner] = node
            stays = True
        elif isinstance(node, Folder) and _removals(fetch, inner, node, found):
            stays = True
        else:
            found.changes.append(Change(inner, node, None))
    return stays


def _creations(fetch: Fetch, path: str, folder: Folder, found: Difference) -> None:
    for name, node in sorted(fetch(folder.digest).items()):
        inner = join(path, name)
        if isinstance(node, LeftOut):
            _left_alone(inner, None, node, found)
            continue
        found.changes.append(Change(inner, None, node))
        if isinstance(node, Folder):
            _creations(fetch, inner, node, found)


def _same(old: Kept, new: Kept) -> bool:
    """Whether two nodes are the same to us: only root can give a file to another user."""
    return old == new if os.geteuid() == 0 else _unowned(old) == _unowned(new)


def _unowned(node: Kept) -> Kept:
    return replace(node, owner=(0, 0)) if isinstance(node, File | Folder) else node
