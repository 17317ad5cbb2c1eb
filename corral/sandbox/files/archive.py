"""Archives from and for untrusted hands: every entry is checked before the first one is written."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import stat
import tarfile
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from corral.errors import SandboxError
from corral.sandbox.contract import GiB, MiB
from corral.sandbox.files import tar
from corral.sandbox.files.tar import Refused
from corral.sandbox.files.walk import folder_beneath, parts_of
from corral.sandbox.guest import beneath

_CHUNK = MiB
_RATIO_FROM = 16 * MiB
_XZ_MEMORY = 128 * MiB
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_USUAL = 0o600


@dataclass(frozen=True)
class Bounds:
    """What an archive may hold. Sizes in bytes, unpacked; ``ratio`` is unpacked to packed size and
    counts from 16 MiB on.
    """

    total: int = GiB
    file: int = 256 * MiB
    entries: int = 50_000
    ratio: int = 200


@dataclass(frozen=True)
class _Entry:
    parts: tuple[str, ...]
    kind: Literal["file", "folder"]
    mode: int
    size: int
    open: Callable[[], BinaryIO]


def unpacked(archive: bytes, folder: int, bounds: Bounds) -> int:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into an open folder; how many entries.

    Permissions lose their set-id bits, owners are ours, files that are there are replaced. Raises
    ``SandboxError`` before anything is written for an archive that is not fit.
    """
    try:
        with _entries_of(archive, bounds) as entries:
            _check(entries, len(archive), bounds)
            for entry in entries:
                _unpack(entry, folder)
            return len(entries)
    except (Refused, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError) as error:
        raise SandboxError(
            f"The archive is not unpacked: {error}.",
            hint="Archives hold plain files and folders below their own root, nothing else.",
        ) from error


@contextmanager
def _entries_of(archive: bytes, bounds: Bounds) -> Iterator[list[_Entry]]:
    if archive[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            yield list(_zipped(opened, bounds))
        return
    with tempfile.TemporaryFile() as file:
        for piece in _decompressed(archive, bounds):
            file.write(piece)
        file.seek(0)
        yield list(_tarred(file, bounds))


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _decompressed(archive: bytes, bounds: Bounds) -> Iterator[bytes]:
    """What an archive holds once it is decompressed, bounded while that is found out."""
    magics: Sequence[tuple[bytes, Callable[[], _Decompressor]]] = (
        (b"BZh", bz2.BZ2Decompressor),
        (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)),
    )
    most = bounds.total + bounds.entries * 3 * tar.BLOCK
    if archive.startswith(b"\x1f\x8b"):
        pieces = _gunzipped(archive)
    else:
        make = next((make for magic, make in magics if archive.startswith(magic)), None)
        pieces = iter((archive,)) if make is None else _pieces(make(), archive)
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > most or (total > _RATIO_FROM and total > bounds.ratio * len(archive)):
            raise Refused("it unpacks to more than it may")
        yield piece


def _pieces(work: _Decompressor, data: bytes) -> Iterator[bytes]:
    while not work.eof:
        piece = work.decompress(data, _CHUNK)
        data = b""
        if not piece and not work.eof:
            raise Refused("it ends too early")
        yield piece


def _gunzipped(data: bytes) -> Iterator[bytes]:
    work = zlib.decompressobj(wbits=31)
    while not work.eof:
        piece = work.decompress(data, _CHUNK)
        data = work.unconsumed_tail
        if not piece and not data and not work.eof:
            raise Refused("it ends too early")
        yield piece


def _tarred(file: BinaryIO, bounds: Bounds) -> Iterator[_Entry]:
    end = os.fstat(file.fileno()).st_size
    for count, member in enumerate(tar.members(file)):
        if count >= bounds.entries:
            raise Refused(f"it holds more than {bounds.entries} entries")
        if member.offset + member.size > end:
            raise Refused(f"{member.name!r} is cut off")
        yield _Entry(
            _parts(member.name), member.kind, member.mode, member.size, _slice(file, member)
        )


def _slice(file: BinaryIO, member: tar.Member) -> Callable[[], BinaryIO]:
    def content() -> BinaryIO:
        file.seek(member.offset)
        return io.BytesIO(file.read(member.size))

    return content


def _zipped(archive: zipfile.ZipFile, bounds: Bounds) -> Iterator[_Entry]:
    infos = archive.infolist()
    if len(infos) > bounds.entries:
        raise Refused(f"it holds more than {bounds.entries} entries")
    for info in infos:
        mode = info.external_attr >> 16
        kind = stat.S_IFMT(mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refused(f"{info.filename!r} is {beneath.kind(mode)}")
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _ZIP_METHODS:
            raise Refused(f"{info.filename!r} is packed in a way that is not known here")
        if "\\" in info.filename:
            raise Refused(f"{info.filename!r} holds a backslash")
        parts = _parts(info.filename)
        what: Literal["file", "folder"] = "folder" if info.is_dir() else "file"
        yield _Entry(parts, what, mode, info.file_size, _unzip(archive, info))


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    def content() -> BinaryIO:
        with archive.open(info) as file:
            return io.BytesIO(file.read(info.file_size))

    return content


def _parts(name: str) -> tuple[str, ...]:
    try:
        return parts_of(name)
    except SandboxError as error:
        raise Refused(f"{name[:200]!r} would leave the folder, or is no path") from error


def _check(entries: Sequence[_Entry], packed_size: int, bounds: Bounds) -> None:
    """Refuse bombs, and names that are in one another's way, on any file system."""
    total = sum(entry.size for entry in entries)
    too_large = next((entry for entry in entries if entry.size > bounds.file), None)
    if too_large is not None:
        raise Refused(f"{'/'.join(too_large.parts)!r} has more than {bounds.file} bytes")
    if total > bounds.total or (total > _RATIO_FROM and total > bounds.ratio * packed_size):
        raise Refused("it unpacks to more than it may")
    kinds: dict[tuple[str, ...], str] = {}
    for entry in entries:
        folded = tuple(map(_folded, entry.parts))
        if not folded and entry.kind == "file":
            raise Refused("a file has no name")
        for depth in range(1, len(folded)):
            if kinds.setdefault(folded[:depth], "folder") != "folder":
                raise Refused(f"{'/'.join(entry.parts)!r} is in a folder that is a file")
        before = kinds.get(folded)
        if before is not None and not before == entry.kind == "folder":
            raise Refused(f"{'/'.join(entry.parts)!r} is in it twice")
        kinds[folded] = entry.kind


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _unpack(entry: _Entry, folder: int) -> None:
    if entry.kind == "folder":
        with folder_beneath(folder, entry.parts, create=True):
            return
    with entry.open() as content:
        data = content.read(entry.size)
    if len(data) != entry.size:
        raise Refused(f"{'/'.join(entry.parts)!r} is cut off")
    with folder_beneath(folder, entry.parts[:-1], create=True) as parent:
        mode = entry.mode & beneath.PERMISSIONS
        beneath.replace(parent, entry.parts[-1], data, mode | _USUAL if mode else None)


def packed(folder: int, bounds: Bounds) -> bytes:
    """An open folder as a tar archive: files and folders, sorted by name, nothing else.

    Owners and set-id bits are left out. Raises ``SandboxError`` when it holds too much.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _Packer(archive, bounds).add(folder, "")
    return buffer.getvalue()


class _Packer:
    def __init__(self, archive: tarfile.TarFile, bounds: Bounds) -> None:
        self._archive, self._bounds = archive, bounds
        self._total = self._entries = 0

    def add(self, folder: int, path: str, depth: int = 0) -> None:
        for name in beneath.names_in(folder):
            status = beneath.status_of(folder, name)
            inner = f"{path}/{name}" if path else name
            if status is not None and stat.S_ISREG(status.st_mode):
                self._file(folder, name, inner)
            elif status is not None and stat.S_ISDIR(status.st_mode):
                self._count(inner, depth)
                self._archive.addfile(_info(inner, status, tarfile.DIRTYPE))
                with beneath.opened(folder, name) as fd:
                    self.add(fd, inner, depth + 1)

    def _file(self, folder: int, name: str, path: str) -> None:
        with os.fdopen(beneath.open_regular(folder, name), "rb") as file:
            status = os.fstat(file.fileno())
            self._count(path, 0, status.st_size)
            data = file.read(status.st_size)
        info = _info(path, status, tarfile.REGTYPE)
        info.size = len(data)
        self._archive.addfile(info, io.BytesIO(data))

    def _count(self, path: str, depth: int, size: int = 0) -> None:
        self._total += size
        self._entries += 1
        if self._total > self._bounds.total or self._entries > self._bounds.entries or depth > 100:
            raise SandboxError(
                f"The folder holds more than an archive may, seen at {path[-200:]}.",
                hint=f"At most {self._bounds.total} bytes and {self._bounds.entries} entries.",
            )


def _info(path: str, status: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mtime = kind, int(status.st_mtime)
    info.mode = status.st_mode & beneath.PERMISSIONS
    return info
