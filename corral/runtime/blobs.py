"""Contents stored once: by their SHA-256, compressed, whoever refers to them.

Plain functions of a connection, so that what refers to a blob is stored in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import zstandard
from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from corral.errors import StorageError
from corral.runtime.tables import blobs

INLINE = 4096
"""Texts of up to this many bytes stay in their row."""

MAX_BLOB = 256 * 2**20
"""Largest content, in bytes, that is ever unpacked."""

_AT_ONCE = 500


@dataclass(frozen=True)
class Packed:
    """A content ready to be stored: its digest, its size in bytes, and its compressed form."""

    digest: str
    size: int
    data: bytes


def pack(content: bytes, digest: str | None = None) -> Packed:
    """Compress a content. Slow enough to be done outside of the writer's thread.

    ``digest`` saves a caller that knows it from having it computed again.
    """
    digest = digest or sha256(content).hexdigest()
    return Packed(digest, len(content), zstandard.compress(content, 3))


def put(connection: Connection, packed: Packed) -> str:
    """Store a content, unless it is there already, and return its digest."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"digest": packed.digest, "size": packed.size, "data": packed.data}
    connection.execute(dialect.insert(blobs).values(row).on_conflict_do_nothing())
    return packed.digest


def put_all(connection: Connection, contents: Sequence[Packed]) -> None:
    """Store contents, but those that are there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    rows = [{"digest": one.digest, "size": one.size, "data": one.data} for one in contents]
    if rows:
        connection.execute(dialect.insert(blobs).on_conflict_do_nothing(), rows)


def get(connection: Connection, digest: str) -> bytes:
    """A content. Raises ``StorageError`` when it is missing or is not what its digest says."""
    return get_all(connection, [digest])[digest]


def get_all(connection: Connection, digests: Iterable[str]) -> dict[str, bytes]:
    """Contents by digest. Raises as ``get``."""
    wanted = sorted(set(digests))
    found: dict[str, bytes] = {}
    for first in range(0, len(wanted), _AT_ONCE):
        some = wanted[first : first + _AT_ONCE]
        for row in connection.execute(select(blobs).where(blobs.c.digest.in_(some))):
            found[row.digest] = unpack(Packed(row.digest, row.size, row.data))
    for digest in wanted:
        if digest not in found:
            raise StorageError(
                f"The stored content {digest[:12]} is missing from the database.",
                hint="Restore the database from a backup; everything else stays readable.",
            )
    return found


def unpack(packed: Packed) -> bytes:
    """The content. Raises ``StorageError`` when it is not what its digest says."""
    if packed.size <= MAX_BLOB:
        try:
            # Never more than was said: a small frame can unpack to gigabytes.
            with zstandard.ZstdDecompressor().stream_reader(packed.data) as reader:
                content = reader.read(packed.size + 1)
        except zstandard.ZstdError:
            content = b""
        if sha256(content).hexdigest() == packed.digest:
            return content
    raise StorageError(
        f"The stored content {packed.digest[:12]} is damaged.",
        hint="Restore the database from a backup; everything else stays readable.",
    )
