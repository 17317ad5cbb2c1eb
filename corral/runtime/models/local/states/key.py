"""The key under which saved states are authenticated.

llama.cpp trusts what it reads: a state that somebody wrote with intent could do anything in this
process. So a file counts only with an HMAC (RFC 2104) under a key that is in the home folder and
that only its owner may read. Who can read it could change everything else of Corral as well.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

KEY_FILE = "key"
_BYTES = 32


def load_key(folder: Path) -> bytes:
    """The key of a folder, made if there is none that is one. Raises ``OSError``.

    A lost key costs only the states that were written under it.
    """
    path = folder / KEY_FILE
    with suppress(FileNotFoundError, _NotAKeyError):
        return _read(path)
    draft = folder / f".{KEY_FILE}.{os.getpid()}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
        file.write(os.urandom(_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        _place(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return _read(path)


def _place(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # whoever comes first: it never replaces a key
    except FileExistsError:
        with suppress(_NotAKeyError):
            _read(path)
            return
        draft.replace(path)


def _read(path: Path) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _NotAKeyError(*error.args) from error
    with os.fdopen(descriptor, "rb") as file:
        key = file.read(_BYTES + 1) if is_own_file(file.fileno()) else b""
    if len(key) != _BYTES:
        raise _NotAKeyError
    return key


def is_own_file(descriptor: int) -> bool:
    """Whether it is a regular file of this user that nobody else may change or read."""
    found = os.fstat(descriptor)
    is_private = not stat.S_IMODE(found.st_mode) & 0o077
    return stat.S_ISREG(found.st_mode) and is_private and found.st_uid == os.geteuid()


class _NotAKeyError(OSError):
    """There is something in the key's place that cannot be used."""
