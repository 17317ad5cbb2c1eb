"""Files that an export writes and an import reads: whole or not at all, and never by surprise."""

from __future__ import annotations

import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from corral.errors import ConfigError, ConflictError, NotFoundError, UsageError
from corral.runtime.export.importer import Source
from corral.runtime.export.lines import MAX_SIZE

STANDARD = "-"
"""Names standard input or output."""

_PIECE = 2**20


@contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under ``path`` when the body ends, and not when it fails.

    ``force`` replaces a file that is there. Raises ``ConflictError`` when one is, and
    ``UsageError`` when the file cannot be written.
    """
    require_free(path, force=force)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(beside, path, force=force)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}.",
            hint="Name another file with -o, in a folder that exists and is yours.",
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


def require_free(path: Path, *, force: bool) -> None:
    """Raise ``ConflictError`` when a file may not be written under ``path``."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return  # whatever is wrong with the folder is told when the file is opened
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise ConflictError(f"{path} is there already and is no file.", hint="Name another one.")
    if not force:
        raise ConflictError(
            f"{path} is there already.", hint="Name another file with -o, or add --force."
        )


def _put_in_place(beside: Path, path: Path, *, force: bool) -> None:
    if force:
        beside.replace(path)
        return
    try:
        os.link(beside, path)  # unlike a rename, this never replaces what has come meanwhile
    except FileExistsError:
        require_free(path, force=False)
        raise
    except OSError:  # a file system without links
        beside.rename(path)


@contextmanager
def reading(path: Path | str) -> Iterator[Source]:
    """An export to read; ``-`` is standard input. What can be read once only is copied first.

    Raises ``NotFoundError`` and ``ConfigError`` when there is nothing to read.
    """
    if str(path) == STANDARD:
        with _copied(sys.stdin.buffer, "standard input") as source:
            yield source
        return
    name = str(path)
    try:
        file = Path(path).expanduser().open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no file {name}.", hint="Name an export.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.",
            hint="Name a file that was made with `corral export RUN --jsonl`.",
        ) from error
    with file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            yield Source(file, name)
            return
        with _copied(file, name) as source:
            yield source


@contextmanager
def _copied(file: BinaryIO, name: str) -> Iterator[Source]:
    with tempfile.SpooledTemporaryFile(max_size=_PIECE) as copy:
        size = 0
        while piece := file.read(_PIECE):
            size += len(piece)
            if size > MAX_SIZE:
                raise ConfigError(
                    f"{name} is larger than {MAX_SIZE:,} bytes.",
                    hint="That is more than an import takes; nothing of it was stored.",
                )
            copy.write(piece)
        yield Source(cast("BinaryIO", copy), name)
