"""Where a server listens and with which token, for ``install`` and ``doctor`` to read: a file that
only its owner can read, there as long as the server runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from corral.mcp_servers.serving.security import serving_folder

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Listening:
    """One server that runs. ``token`` is empty where an authorization server gives them out."""

    url: str
    token: str
    what: str
    pid: int


@contextmanager
def announced(home: Path, listening: Listening) -> Iterator[Path]:
    """Say it as long as this lasts."""
    path = serving_folder(home) / f"http-{listening.pid}.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, _CREATE, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(listening), file)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def running(home: Path) -> list[Listening]:
    """The servers that run on this machine for this home; what a killed one left is removed."""
    found = []
    for path in sorted((home / "serve").glob("http-*.json")):
        with suppress(OSError, ValueError, TypeError):
            one = Listening(**json.loads(path.read_text("utf-8")))
            if _is_alive(one.pid):
                found.append(one)
            else:
                path.unlink(missing_ok=True)
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
