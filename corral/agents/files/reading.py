"""Reading a file that somebody else may have put there: bounded, and not past its folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from corral.errors import ConfigError

MAX_BYTES = 256 * 1024
"""The largest file that is read as an agent."""


def read_text(path: Path, inside: Path | None = None) -> str:
    """The text of a regular file. A link is followed, but not out of ``inside``.

    Raises ``ConfigError``. A file that is replaced meanwhile by a link or a pipe is refused, too.
    """
    try:
        real = path.resolve(strict=True)
        if inside is not None and not real.is_relative_to(inside.resolve()):
            raise ConfigError(
                f"{path} is, or goes through, a link that leads out of {inside}.",
                hint="Put a copy of the file there instead.",
            )
        found = _read(real)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Check that the file is there and that you may read it.",
        ) from error
    except RuntimeError as error:  # what Python 3.11 makes of a link to itself
        raise ConfigError(f"{path} is a link to itself.", hint="Remove it.") from error
    if found is None:
        raise ConfigError(f"{path} is not a file.", hint="Name a Markdown file.")
    if len(found) > MAX_BYTES:
        raise ConfigError(
            f"{path} is larger than {MAX_BYTES // 1024} KiB, which no agent is.",
            hint="Keep its instructions short, and let it read the rest as files.",
        )
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a UTF-8 text file.", hint="Save it as UTF-8 and try again."
        ) from error


def _read(path: Path) -> bytes | None:
    """The first bytes of a file, one more than it may have; ``None`` where it is no file."""
    # Opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        return file.read(MAX_BYTES + 1)
