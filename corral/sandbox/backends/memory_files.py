"""Files of a sandbox without an operating system: names and contents, in memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from corral.errors import SandboxError
from corral.sandbox.contract import Entry, Limits, MiB
from corral.sandbox.files.walk import name_of, parts_of


@dataclass(frozen=True)
class _File:
    data: bytes
    modified: float


class MemoryFiles:
    """``Files`` over a dictionary, no larger than the limits allow. There are no folders."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._files: dict[str, _File] = {}

    def as_dict(self) -> dict[str, bytes]:
        """All of them, by name."""
        return {name: file.data for name, file in self._files.items()}

    async def read(self, path: str, *, limit: int = 64 * MiB) -> bytes:
        """A file's content."""
        data = self._file(path).data
        if len(data) > limit:
            raise SandboxError(
                f"{path} has {len(data)} bytes, more than the {limit} that may be read.",
                hint="Raise the limit.",
            )
        return data

    async def write(self, path: str, data: bytes) -> None:
        """Create or replace a file."""
        name = name_of(path)
        others = sum(len(one.data) for key, one in self._files.items() if key != name)
        allowed = min(self._limits.file_size, self._limits.written - others)
        if len(data) > allowed:
            raise SandboxError(
                f"{name} would have {len(data)} bytes, and there is room for {allowed}.",
                hint="Remove files, or raise the limits file_size and written.",
            )
        self._files[name] = _File(bytes(data), time.time())

    async def listing(self, path: str = ".", *, deep: bool = False) -> list[Entry]:
        """All files."""
        del deep
        if parts_of(path):
            _refuse("folders")
        return [
            Entry(PurePosixPath(name), "file", len(file.data), file.modified)
            for name, file in sorted(self._files.items())
        ]

    async def make_folder(self, path: str) -> None:
        """Always ``SandboxError``."""
        del path
        _refuse("folders")

    async def move(self, source: str, target: str) -> None:
        """Rename a file."""
        name, file = name_of(target), self._file(source)
        del self._files[name_of(source)]
        self._files[name] = file

    async def remove(self, path: str) -> None:
        """Remove a file."""
        self._file(path)
        del self._files[name_of(path)]

    async def put_archive(self, archive: bytes, path: str = ".") -> int:
        """Always ``SandboxError``."""
        del archive, path
        _refuse("archives")

    async def get_archive(self, path: str = ".") -> bytes:
        """Always ``SandboxError``."""
        del path
        _refuse("archives")

    def _file(self, path: str) -> _File:
        name = name_of(path)
        if name not in self._files:
            raise SandboxError(f"There is no file {name}.", hint="See `listing` for those.")
        return self._files[name]


def _refuse(what: str) -> NoReturn:
    raise SandboxError(
        f"This sandbox has no {what}: its files are only names with contents.",
        hint="Use a back end with an operating system.",
    )
