"""The files of a sandbox of E2B: below the home of its user, by the service's own interface.

What lies outside is the sandbox's own system, not this machine: links are refused so that a file is
what its path says, not because anything of the host could be reached.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from corral.errors import SandboxError
from corral.sandbox.backends.e2b.lease import Renew
from corral.sandbox.backends.e2b.service import E2BOptions
from corral.sandbox.contract import Entry, MiB
from corral.sandbox.files.local import LocalFiles
from corral.sandbox.files.walk import name_of, parts_of

if TYPE_CHECKING:
    from e2b import EntryInfo
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

_DEEP = 64
_TRANSFER = 60.0
_MOST = 64 * MiB
_PACK = (
    r"find . -mindepth 1 \( -type f -o -type d \) -print0 | "
    'tar --null --no-recursion --verbatim-files-from -T - -cf "$1"'
)


class E2BFiles:
    """``Files`` over the SDK. A path is relative to the user's home, which is the workspace."""

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, renew: Renew) -> None:
        self._sdk = sdk
        self._options = options
        self._renew = renew

    async def read(self, path: str, *, limit: int = _MOST) -> bytes:
        """A regular file's content, read no further than ``limit``."""
        name = name_of(path)
        await self._check_links(name)
        with self._options.asked_to(f"read {name}"):
            if _kind(await self._sdk.files.get_info(name)) != "file":
                _refuse(f"{name} is no regular file.", "Read a file.")
            return await self._bounded(name, limit)

    async def write(self, path: str, data: bytes) -> None:
        """Write beside it and rename: whole or not at all."""
        name = name_of(path)
        await self._check_links(name)
        beside = str(PurePosixPath(name).with_name(f".corral-{secrets.token_hex(8)}"))
        with self._options.asked_to(f"write {name}"):
            await self._sdk.files.write(beside, data)
            await self._sdk.files.rename(beside, name)

    async def listing(self, path: str = ".", *, deep: bool = False) -> list[Entry]:
        """What is in a folder."""
        name = str(PurePosixPath(*parts_of(path)))
        await self._check_links(name)
        with self._options.asked_to(f"list {name}"):
            base = PurePosixPath((await self._sdk.files.get_info(name)).path)
            found = await self._sdk.files.list(name, depth=_DEEP if deep else 1)
        entries = (_entry(info, base, PurePosixPath(name)) for info in found)
        return sorted(entries, key=lambda entry: entry.path)

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""
        name = name_of(path)
        await self._check_links(name)
        with self._options.asked_to(f"make the folder {name}"):
            await self._sdk.files.make_dir(name)

    async def move(self, source: str, target: str) -> None:
        """Rename a file or folder."""
        old, new = name_of(source), name_of(target)
        await self._check_links(str(PurePosixPath(old).parent))
        await self._check_links(new)
        with self._options.asked_to(f"move {old} to {new}"):
            await self._sdk.files.make_dir(str(PurePosixPath(new).parent))
            await self._sdk.files.rename(old, new)

    async def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all that is in it."""
        name = name_of(path)
        await self._check_links(str(PurePosixPath(name).parent))
        with self._options.asked_to(f"remove {name}"):
            await self._sdk.files.get_info(name)
            await self._sdk.files.remove(name)

    async def put_archive(self, archive: bytes, path: str = ".") -> int:
        """Check and unpack it here, and send what is left of it to be unpacked there."""
        name = str(PurePosixPath(*parts_of(path)))
        await self._check_links(name)
        with _staged() as here:
            entries = await here.put_archive(archive)
            harmless = await here.get_archive()
        with self._options.asked_to(f"unpack an archive in {name}"):
            await self._sdk.files.make_dir(name)
            await self._with_archive(f'tar -xf "$1" -C {shlex.quote(name)}', harmless)
        return entries

    async def get_archive(self, path: str = ".") -> bytes:
        """Have it packed there, and packed again here: what comes from there is not trusted."""
        name = str(PurePosixPath(*parts_of(path)))
        await self._check_links(name)
        with self._options.asked_to(f"pack {name}"):
            given = await self._with_archive(f"cd {shlex.quote(name)} && {_PACK}", None)
        with _staged() as here:
            await here.put_archive(given)
            return await here.get_archive()

    async def _with_archive(self, script: str, archive: bytes | None) -> bytes:
        """Run a script that reads or (``None``) writes an archive, whose path it is given."""
        beside = f"/tmp/corral-{secrets.token_hex(8)}"  # noqa: S108  in the sandbox, nobody guesses it
        try:
            if archive is not None:
                await self._sdk.files.write(beside, archive)
            await self._sdk.commands.run(shlex.join(["bash", "-c", script, "tar", beside]))
            return b"" if archive is not None else await self._bounded(beside, _MOST)
        finally:
            await self._sdk.commands.run(f"rm -f {beside}")

    async def _bounded(self, name: str, limit: int) -> bytes:
        data = bytearray()
        async with await self._sdk.files.read(name, format="stream") as pieces:
            async for piece in pieces:
                data += piece
                if len(data) > limit:
                    _refuse(f"{name} has more than {limit} bytes.", "Ask with a higher limit.")
        return bytes(data)

    async def _check_links(self, name: str) -> None:
        await self._renew(_TRANSFER)
        parts = PurePosixPath(name).parts
        above = [str(PurePosixPath(*parts[:n])) for n in range(1, len(parts) + 1)]
        looks = (self._is_link(one) for one in above)
        with self._options.asked_to(f"look at {name}"):
            for found in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(found, BaseException):
                    raise found
                if found:
                    _refuse(f"{name} goes through a link.", "Name the file that it leads to.")

    async def _is_link(self, name: str) -> bool:
        from e2b import FileNotFoundException

        try:
            return _kind(await self._sdk.files.get_info(name)) == "link"
        except FileNotFoundException:
            return False


@contextmanager
def _staged() -> Iterator[LocalFiles]:
    """An empty folder here, for the time that an archive is looked at."""
    with tempfile.TemporaryDirectory(prefix="corral-e2b-") as folder:
        descriptor = os.open(Path(folder), os.O_RDONLY | os.O_DIRECTORY)
        here = LocalFiles(descriptor)
        os.close(descriptor)
        try:
            yield here
        finally:
            here.close()


def _kind(info: EntryInfo) -> Literal["file", "folder", "link", "other"]:
    if info.symlink_target or info.type is None:
        return "link" if info.symlink_target else "other"
    kinds: dict[str, Literal["file", "folder", "link"]] = {
        "file": "file",
        "dir": "folder",
        "symlink": "link",
    }
    return kinds[info.type.value]


def _entry(info: EntryInfo, base: PurePosixPath, name: PurePosixPath) -> Entry:
    path = name / PurePosixPath(info.path).relative_to(base)
    return Entry(path, _kind(info), info.size, info.modified_time.timestamp())


def _refuse(what: str, hint: str) -> None:
    raise SandboxError(what, hint=hint)
