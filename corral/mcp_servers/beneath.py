"""Paths that cannot leave their folder, whoever exchanges what meanwhile.

Every component is opened by itself, relative to the one before and never through a symbolic
link; a link is read and walked the same way, so one that stays inside works and one that leads
out does not. (The kernel's ``openat2`` would do, but a sandbox's filter cannot look into its
arguments and so refuses it.)
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.tool import ToolFault
from corral.sandbox.guest import beneath
from corral.sandbox.guest.beneath import FOLDER, Unfit
from corral.sandbox.guest.names import PROTECTED, TRASH

_MAX_LINKS = 40
_PROTECTED = {**PROTECTED, TRASH: "delete and restore keep it"}


class Root(NamedTuple):
    """A granted folder: its open descriptor and its path."""

    fd: int
    path: Path


class Place(NamedTuple):
    """Where a path leads: an open folder, a name in it (``.`` for the folder itself), and the
    components from its ``root``, all links resolved. The descriptors live as long as the
    context.
    """

    folder: int
    name: str
    parts: tuple[str, ...]
    root: Root

    @property
    def shown(self) -> str:
        """The path from the root, as tools show it."""
        return "/".join(self.parts) or "."

    @property
    def is_root(self) -> bool:
        """Whether it is a granted folder itself."""
        return not self.parts


def folded(name: str) -> str:
    """What all spellings of a name have in common that some file system takes for the same."""
    if name.isascii():
        return name.lower().rstrip(". ")
    import unicodedata  # few names need it

    usual = unicodedata.normalize("NFKC", name)
    seen = "".join(c for c in usual if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", seen.casefold()).rstrip(". ")


class Roots:
    """The granted folders, opened once. The first is where relative paths start."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 -- "..", but links stay
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._roots = [Root(os.open(folder, flags), folder) for folder in self.folders]

    @contextmanager
    def at(
        self, path: str, *, write: bool = False, create: bool = False, link: bool = False
    ) -> Iterator[Place]:
        """Walk to a path; its last component need not exist. ``create`` makes folders on the way,
        ``link`` means a link at the end itself, not what it leads to.

        Raises ``ToolFault`` for a path outside of the roots, through something else than
        folders, or, to ``write``, through a protected name; ``FileNotFoundError`` when a folder
        on the way is missing.
        """
        if "\0" in path:
            raise ToolFault("A path cannot hold a NUL character.")
        index, rest = self._split(path)
        walk = _Walk(self._roots[index], path, write=write, link=link)
        try:
            yield walk.go(rest, create=create)
        finally:
            walk.close()

    def _split(self, path: str) -> tuple[int, list[str]]:
        if not path.startswith("/"):
            return 0, path.split("/")
        wanted = Path(path)
        for index, folder in enumerate(self.folders):
            if folder == wanted or folder in wanted.parents:
                return index, list(wanted.relative_to(folder).parts)
        allowed = ", ".join(str(folder) for folder in self.folders)
        raise ToolFault(f"{path} is outside of the granted folders: {allowed}.")


class _Walk:
    def __init__(self, root: Root, path: str, *, write: bool, link: bool) -> None:
        self._root, self._path = root, path
        self._write, self._keeps_link = write, link
        self._opened: list[tuple[str, int]] = []
        self._links = 0

    def close(self) -> None:
        while self._opened:
            os.close(self._opened.pop()[1])

    def go(self, parts: list[str], *, create: bool) -> Place:
        for part in parts:  # before any folder is made
            self._check(part)
        pending = deque(part for part in parts if part not in {"", "."})
        while pending:
            part = pending.popleft()
            self._check(part)
            if part == "..":
                self._up()
            elif (target := self._link(part, last=not pending)) is not None:
                self._follow(target, pending)
            elif pending:
                self._enter(part, create=create)
            else:
                part = self._spelled(part)
                return Place(self._here, part, (*self._names, part), self._root)
        return Place(self._here, ".", self._names, self._root)

    def _check(self, part: str) -> None:
        reason = _PROTECTED.get(folded(part)) if self._write else None
        if reason:
            raise ToolFault(f"{self._path} cannot be written: {part} is protected, {reason}.")

    @property
    def _here(self) -> int:
        return self._opened[-1][1] if self._opened else self._root.fd

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._opened)

    def _spelled(self, part: str) -> str:
        """The name as the folder has it: letters with accents can be written in two ways."""
        if part.isascii() or beneath.status_of(self._here, part) is not None:
            return part
        names = beneath.names_in(self._here)
        return next((name for name in names if _composed(name) == _composed(part)), part)

    def _up(self) -> None:
        if not self._opened:
            raise ToolFault(f"{self._path} leads out of the granted folder.")
        os.close(self._opened.pop()[1])

    def _link(self, part: str, *, last: bool) -> str | None:
        if last and self._keeps_link:
            return None
        try:
            return os.readlink(part, dir_fd=self._here)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return None
            raise

    def _follow(self, target: str, pending: deque[str]) -> None:
        self._links += 1
        if self._links > _MAX_LINKS:
            raise ToolFault(f"{self._path} goes through too many symbolic links.")
        if target.startswith("/"):
            wanted = Path(target)
            if self._root.path not in (wanted, *wanted.parents):
                raise ToolFault(f"{self._path} is a link that leads out of the granted folder.")
            self.close()
            target = str(wanted.relative_to(self._root.path))
        steps = [part for part in target.split("/") if part not in {"", "."}]
        pending.extendleft(reversed(steps))

    def _enter(self, part: str, *, create: bool) -> None:
        here = self._here
        try:
            try:
                folder = os.open(part, FOLDER, dir_fd=here)
            except FileNotFoundError:
                if not create:
                    raise
                os.mkdir(part, dir_fd=here)
                folder = os.open(part, FOLDER, dir_fd=here)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise ToolFault(f"{self._path}: {part} is not a folder.") from error
            raise
        self._opened.append((part, folder))


def _composed(name: str) -> str:
    import unicodedata  # few names need it

    return unicodedata.normalize("NFC", name)


def open_folder(place: Place) -> int:
    """Open a folder for listing."""
    try:
        return os.open(place.name, FOLDER, dir_fd=place.folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise ToolFault(f"{place.shown} is not a folder.") from error
        raise


def open_regular(place: Place) -> int:
    """Open a regular file for reading; nothing else is opened, and nothing blocks."""
    with fitting(place):
        return beneath.open_regular(place.folder, place.name)


@contextmanager
def fitting(place: Place) -> Iterator[None]:
    """Say by its path what is not what was asked for."""
    try:
        yield
    except Unfit as error:
        raise ToolFault(f"{place.shown} {error}.") from error
