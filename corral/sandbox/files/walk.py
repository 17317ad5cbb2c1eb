"""Open a folder beneath another one, whatever whoever is in there exchanges meanwhile.

By ``openat2`` where the kernel has it: one call that refuses every link. Else folder by folder,
each relative to the one before and never through a link.

Source: openat2(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import PurePosixPath

from corral.errors import SandboxError
from corral.sandbox.guest.beneath import FOLDER

MAX_DEPTH = 100
"""Folders inside of one another that a path may go through."""

_OPENAT2 = 437  # the same on every architecture
_BENEATH = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS
_TRIES = 16
_MAX_NAME = 255


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def parts_of(path: str) -> tuple[str, ...]:
    """The components of a path that stays inside. Raises ``SandboxError`` for any other."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise outside(path)
    if "\0" in path or len(pure.parts) > MAX_DEPTH or any(map(_too_long, pure.parts)):
        raise SandboxError(
            f"{path[:200]!r} is no path that a file can have.",
            hint=f"A name has at most {_MAX_NAME} bytes, a path at most {MAX_DEPTH} folders.",
        )
    return pure.parts


def name_of(path: str) -> str:
    """A path in its plain form, of something below the workspace. Raises ``SandboxError``."""
    parts = parts_of(path)
    if not parts:
        raise SandboxError(
            "The workspace itself cannot be read, written, moved or removed.",
            hint="Name something inside it.",
        )
    return "/".join(parts)


def outside(path: str) -> SandboxError:
    """The error for a path that leads out of the workspace."""
    return SandboxError(
        f"{path[:200]!r} leads out of the sandbox's workspace.",
        hint="Paths are relative to the workspace, without `..`, and go through no links.",
    )


@contextmanager
def folder_beneath(root: int, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """The folder at ``parts`` below ``root``; ``create`` makes those that are missing.

    Raises ``SandboxError`` where a link or a file is on the way, ``FileNotFoundError`` and other
    ``OSError``.
    """
    fd = _opened(root, tuple(parts), create=create)
    try:
        yield fd
    finally:
        os.close(fd)


def _opened(root: int, parts: tuple[str, ...], *, create: bool) -> int:
    try:
        if has_openat2() and parts:
            try:
                return _openat2(root, "/".join(parts))
            except FileNotFoundError:
                if not create:
                    raise
        return walked(root, parts, create=create)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR):
            raise outside("/".join(parts)) from error
        raise


@cache
def has_openat2() -> bool:
    """Whether this kernel has the call, and no filter takes it away."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.close(_openat2(-100, "."))  # AT_FDCWD
    except OSError:
        return False
    return True


def _openat2(folder: int, path: str) -> int:
    """Open a folder; ``EAGAIN`` means that something on the way was renamed meanwhile."""
    how = _OpenHow(flags=FOLDER, resolve=_BENEATH)
    call = _syscall()
    for _ in range(_TRIES):
        fd = call(_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code != errno.EAGAIN:
            raise OSError(code, os.strerror(code), path)
    raise OSError(errno.EAGAIN, "it is being renamed all the time", path)


@cache
def _syscall() -> ctypes._NamedFuncPointer:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    return call


def walked(root: int, parts: Sequence[str], *, create: bool = False) -> int:
    """The same folder by folder; the caller closes it. Raises ``OSError``."""
    here = os.dup(root)
    try:
        for part in parts:
            inner = _entered(here, part, create=create)
            os.close(here)
            here = inner
    except BaseException:
        os.close(here)
        raise
    return here


def _entered(folder: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if not create:
            raise
    with suppress(FileExistsError):  # made by somebody else meanwhile
        os.mkdir(name, dir_fd=folder)
    return os.open(name, FOLDER, dir_fd=folder)


def _too_long(name: str) -> bool:
    return len(os.fsencode(name)) > _MAX_NAME
