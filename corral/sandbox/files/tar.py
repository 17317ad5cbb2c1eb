"""A strict reader of tar archives: linear in their size, bounded in memory, and easily refused.

The standard library's reader follows what an archive says of itself: sizes of headers, sparse
maps, links. This one knows plain files and folders, GNU's long names and the ``path`` and ``size``
of pax headers, and refuses the rest.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

BLOCK = 512

_MAX_HEADER = 64 * 1024
_TYPES: dict[bytes, Literal["file", "folder"]] = {b"0": "file", b"\0": "file", b"5": "folder"}
_REFUSED = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
}


class Refused(Exception):
    """An archive that is not unpacked; the text says why."""


class Member(NamedTuple):
    """One entry: what it is called, its permissions, and where its content is."""

    name: str
    kind: Literal["file", "folder"]
    mode: int
    size: int
    offset: int


def members(file: BinaryIO) -> Iterator[Member]:
    """The entries of an uncompressed archive, in order. Raises ``Refused``."""
    pending: dict[str, str] = {}
    while True:
        header = file.read(BLOCK)
        if not header.strip(b"\0"):
            return  # the end, or an archive without one
        _check(header)
        kind = header[156:157]
        size = int(pending.get("size", -1))
        size = size if size >= 0 else _number(header[124:136])
        if kind in (b"x", b"g", b"L"):
            payload = _payload(file, _number(header[124:136]))
            if kind != b"g":  # what holds for all entries is nothing that we use
                pending |= _pax(payload) if kind == b"x" else {"path": _text(payload)}
            continue
        name = pending.get("path") or _name(header)
        if kind not in _TYPES:
            raise Refused(f"{name!r} is {_REFUSED.get(kind, 'an entry of an unknown kind')}")
        offset = file.tell()
        yield Member(name, _TYPES[kind], _number(header[100:108]), size, offset)
        file.seek(offset + -(-size // BLOCK) * BLOCK)
        pending = {}


def _check(header: bytes) -> None:
    if len(header) < BLOCK:
        raise Refused("it ends within a header")
    stated = _number(header[148:156])
    if stated != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise Refused("a header is damaged")


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        value = int.from_bytes(field[1:], "big")
        if field[0] != 0x80 or value >= 1 << 62:
            raise Refused("a number is out of range")
        return value
    text = field.strip(b" \0")
    try:
        return int(text, 8) if text else 0
    except ValueError as error:
        raise Refused("a number is damaged") from error


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return _text(name)


def _text(data: bytes) -> str:
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise Refused("a name is not UTF-8") from error


def _payload(file: BinaryIO, size: int) -> bytes:
    if size > _MAX_HEADER:
        raise Refused("a header is too long")
    data = file.read(-(-size // BLOCK) * BLOCK)
    if len(data) < size:
        raise Refused("it ends within a header")
    return data[:size]


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header that are used: ``LENGTH KEY=VALUE`` and a line's end each."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        if not len(digits) + 1 < length <= len(data):
            raise Refused("a header is damaged")
        key, _, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise Refused("it holds a sparse file")
        if key == b"path" or (key == b"size" and value.isdigit() and len(value) < 19):
            found[key.decode()] = _text(value)
        data = data[length:]
    return found
