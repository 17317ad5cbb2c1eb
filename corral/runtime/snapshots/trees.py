"""What a folder holds, as a content: a tree object per folder, stored among the blobs.

A folder's object names its files by the digests of their contents and its folders by the digests
of their own objects (a Merkle tree), so one that did not change is stored once and compared by
its name alone. Names that are not UTF-8 are kept as Python reads them (``surrogateescape``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

from sqlalchemy import Connection, select

from corral.errors import StorageError
from corral.runtime import blobs
from corral.runtime.tables import snapshots

Owner: TypeAlias = tuple[int, int]
"""A user's and a group's number."""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: its content's digest, its size in bytes, its permissions."""

    digest: str
    size: int
    mode: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder by the digest of its tree object."""

    digest: str
    mode: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, as it is written; nobody follows it."""

    target: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not kept, and therefore never touched. ``size`` is 0 where it is moot."""

    reason: str
    size: int = 0


Node: TypeAlias = File | Folder | Link | LeftOut
Tree: TypeAlias = dict[str, Node]
"""A folder's entries by name."""

Fetch: TypeAlias = Callable[[str], Tree]
"""Gives a tree by its digest. Raises ``StorageError``."""

_LETTERS: dict[str, Callable[..., Node]] = {
    "f": lambda digest, size, mode, uid, gid: File(digest, size, mode, (uid, gid)),
    "d": lambda digest, mode, uid, gid: Folder(digest, mode, (uid, gid)),
    "l": Link,
    "x": LeftOut,
}


_write = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def encode(tree: Mapping[str, Node]) -> bytes:
    """The one content of a tree."""
    return _write({name: _row(node) for name, node in tree.items()}).encode("ascii")


def _row(node: Node) -> list[Any]:
    match node:
        case File(digest, size, mode, owner):
            return ["f", digest, size, mode, *owner]
        case Folder(digest, mode, owner):
            return ["d", digest, mode, *owner]
        case Link(target):
            return ["l", target]
        case LeftOut(reason, size):
            return ["x", reason, size]


def decode(content: bytes) -> Tree:
    """Read what ``encode`` wrote. Raises ``StorageError`` for anything else."""
    try:
        rows: dict[str, list[Any]] = json.loads(content)
        tree = {name: _LETTERS[row[0]](*row[1:]) for name, row in rows.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise _damaged() from error
    # What is put back is written by these names: none may lead elsewhere.
    if any(name in ("", ".", "..") or "/" in name or "\0" in name for name in tree):
        raise _damaged()
    return tree


def _damaged() -> StorageError:
    return StorageError(
        "A stored folder of a snapshot is damaged.",
        hint="Rewind without the files (--keep-files), or restore the database from a backup.",
    )


def digest_of(content: bytes) -> str:
    """The name of a content: its SHA-256 in hexadecimal."""
    return sha256(content).hexdigest()


def join(folder: str, name: str) -> str:
    """The path of a name in a folder; the workspace itself is the empty path."""
    return f"{folder}/{name}" if folder else name


def left_out(fetch: Fetch, root: str, path: str = "") -> Iterator[tuple[str, LeftOut]]:
    """Everything that a snapshot does not hold, by path."""
    for name, node in sorted(fetch(root).items()):
        if isinstance(node, LeftOut):
            yield join(path, name), node
        elif isinstance(node, Folder):
            yield from left_out(fetch, node.digest, join(path, name))


def stored_trees(connection: Connection) -> Fetch:
    """Trees as the database holds them, each read once."""
    known: dict[str, Tree] = {}

    def fetch(digest: str) -> Tree:
        if digest not in known:
            known[digest] = decode(blobs.get(connection, digest))
        return known[digest]

    return fetch


def roots(connection: Connection) -> set[str]:
    """The digests of the outermost folders of all snapshots."""
    query = select(snapshots.c.root).where(snapshots.c.root.is_not(None)).distinct()
    return set(connection.execute(query).scalars())


def reachable(connection: Connection, wanted: Iterable[str]) -> set[str]:
    """The digests of every content that snapshots with these roots need.

    A folder that is missing or damaged is passed over: what it named cannot be reached.
    """
    fetch = stored_trees(connection)
    # Apart, because a file may hold what reads like a folder.
    files: set[str] = set()
    folders: set[str] = set()
    pending = list(wanted)
    while pending:
        digest = pending.pop()
        if digest in folders:
            continue
        folders.add(digest)
        try:
            nodes = fetch(digest).values()
        except StorageError:
            continue
        files.update(node.digest for node in nodes if isinstance(node, File))
        pending.extend(node.digest for node in nodes if isinstance(node, Folder))
    return files | folders
