"""The logins at servers, each in a file of its own that only its owner can read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.errors import StorageError
from corral.jsontypes import JsonObject
from corral.tools.oauth.settings import OAuthEntry

_MAX = 1024 * 1024
_PAUSE = 0.05


def logins_folder(home: Path) -> Path:
    """Where logins are kept in Corral's own folder."""
    return home / "logins"


@dataclass(frozen=True)
class LoginFile:
    """What is known of the login at the server ``name``, as JSON; of another address it is nothing.

    It holds tokens: its folder is 0700 and the file 0600, and nothing of it is ever shown.
    """

    folder: Path
    name: str
    url: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / f"{self.name}.json"

    def read(self) -> JsonObject:
        """What is kept; empty when there is none, or it is of another address."""
        try:
            found: Any = json.loads(self.path.read_bytes()[:_MAX])
        except (OSError, ValueError):
            return {}
        fits = isinstance(found, dict) and found.get("url") == self.url
        return dict(found) if fits else {}

    def update(self, **parts: Any) -> None:
        """Keep some parts anew, at once or not at all. Raises ``StorageError``."""
        whole = {**self.read(), **parts, "url": self.url}
        new = self.folder / f".{self.name}.{secrets.token_hex(4)}"
        try:
            self._make_folder()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(whole, file)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise self._unusable(error) from error

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Be the only one, of all processes, that renews this login. Raises ``StorageError``.

        A refresh token counts once: of two that use the same one, the second loses the login.
        """
        try:
            self._make_folder()
            descriptor = os.open(self.folder / f".{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            while not _is_taken(descriptor):  # noqa: ASYNC110  # nothing tells that it is free
                await asyncio.sleep(_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"The login at {self.name} cannot be kept in {self.folder}: {error.strerror}.",
            hint="Set CORRAL_HOME to a folder of your own.",
        )

    async def remove(self) -> bool:
        """Forget the login; whether there was one. Who renews it just now is waited for.

        Raises ``StorageError``.
        """
        if not self.path.exists():
            return False
        async with self.locked():
            self.path.unlink(missing_ok=True)
        return True


def _is_taken(descriptor: int) -> bool:
    """Whether the lock of an open file is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class Person:
    """How a person logs in: where the browser returns to, how it is sent there, what it brings.

    ``returned`` gives the fields of the address that it opens: ``code``, ``state``, ``iss``.
    """

    redirect_uri: str
    show: Callable[[str], Awaitable[None]]
    returned: Callable[[], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Login:
    """The login at one server: how it is made, and the folder in which it is kept, if any.

    Where a ``person`` is there, they log in when the server wants it.
    """

    entry: OAuthEntry = field(default_factory=OAuthEntry)
    folder: Path | None = None
    person: Person | None = None

    def file(self, name: str, url: str) -> LoginFile | None:
        """Where the login at ``url`` is kept, when requests are to go out with it.

        Somebody has logged in there, or can, or nobody needs to.
        """
        if self.folder is None:
            return None
        found = LoginFile(self.folder, name, url)
        is_used = self.entry.unattended or self.person is not None or "tokens" in found.read()
        return found if is_used else None
