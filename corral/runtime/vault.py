"""The vault of a thread: what its placeholders stand for, encrypted in the database.

AES-256-GCM (NIST SP 800-38D) under a key in a file of the home folder that only its owner may read.
The key is made when the first value is kept. Without it nothing in the database says what a
placeholder stands for; with it, a run that is resumed days later in another process still works.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from corral.errors import StorageError
from corral.policies.placeholders import TAG_LENGTH, placeholder
from corral.runtime.database import Database
from corral.runtime.statements import Query
from corral.runtime.tables import vault

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "vault-key"
_KEY_BYTES = 32
_NONCE_BYTES = 12

MOST_VALUES = 10_000
"""Values that are kept for one thread; what is found beyond that is redacted for good."""

MOST_WANTED = 300
"""So many of these are looked for wherever they stand, and all that a tool was given."""


_Row = dict[str, str | bytes]


class VaultKey:
    """The key of a home folder's vault."""

    def __init__(self, home: Path) -> None:
        self.path = home / KEY_FILE

    def load(self) -> bytes | None:
        """The key, if there is one. Raises ``StorageError`` for a file that is none."""
        try:
            key = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(
                f"The key of the vault cannot be read: {self.path}: {error.strerror}.",
                hint="See to it that you may read it, or set `reversible = false` in [redaction].",
            ) from error
        if len(key) != _KEY_BYTES:
            raise StorageError(
                f"{self.path} is not a key of {_KEY_BYTES} bytes.",
                hint="Bring it back from a backup. If it is lost, move it away: a new one is made, "
                "and what was redacted before stays so.",
            )
        return key

    def make(self) -> bytes:
        """The key, made if there is none. Another process may be making it, too."""
        key = self.load()
        if key is not None:
            return key
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f".{KEY_FILE}.{os.getpid()}.{os.urandom(4).hex()}")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(os.urandom(_KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(draft, self.path)  # whoever comes first: it never replaces a key
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        made = self.load()
        assert made is not None
        return made


class Vault:
    """What the placeholders of one thread stand for. A ``Keeper`` for a ``Redactor``."""

    def __init__(self, database: Database, key: VaultKey, thread: str) -> None:
        self._database = database
        self._key = key
        self._thread = thread
        self._values: dict[str, str] = {}
        self._placeholders: dict[str, str] = {}
        self._wanted: list[tuple[str, str]] = []
        self.lost: frozenset[str] = frozenset()
        """Placeholders whose values cannot be read any more: their key is gone."""

    async def load(self) -> None:
        """Read what is kept. Raises ``StorageError`` when the key's file cannot be used."""
        thread = {"thread": self._thread}
        rows = await self._database.glance(lambda connection: _KEPT.all(connection, thread))
        key = self._key.load() if rows else None
        lost = set()
        for name, data in rows:
            value = _open(key, self._sealed_for(name), data) if key else None
            if value is None:
                lost.add(name)
            else:
                self._take(name, value)
        self.lost = frozenset(lost)

    @property
    def wanted(self) -> Sequence[tuple[str, str]]:
        """See ``Keeper.wanted``."""
        return self._wanted

    def keep(self, kind: str, value: str) -> str:
        """The placeholder of a value, the same one every time in this thread."""
        known = self._placeholders.get(value)
        if known is not None:
            return known
        if len(self._values) >= MOST_VALUES:
            return placeholder(kind)
        key = self._key.make()
        name = self._new_name(key, kind, value)
        sealed = _seal(key, self._sealed_for(name), value)
        self._take(name, value)
        row: _Row = {"thread_id": self._thread, "placeholder": name, "data": sealed}
        self._database.append(lambda connection: _store(connection, [row]))
        return name

    def value(self, name: str) -> str | None:
        """What a placeholder stands for; ``None`` for one that is not of this thread."""
        return self._values.get(name)

    def give_away(self, name: str) -> str | None:
        """``value``, which from now on is looked for in whatever comes back."""
        value = self._values.get(name)
        if value is not None and (_kind(name), value) not in self._wanted:
            self._wanted.append((_kind(name), value))
        return value

    async def copy_to(self, thread: str) -> None:
        """Keep all of this for another thread as well, which goes on from here."""
        if not self._values:
            return
        other = Vault(self._database, self._key, thread)
        key = self._key.make()
        rows: list[_Row] = [
            {
                "thread_id": thread,
                "placeholder": name,
                "data": _seal(key, other._sealed_for(name), value),
            }
            for name, value in self._values.items()
        ]
        await self._database.write(lambda connection: _store(connection, rows), durable=False)

    def _take(self, name: str, value: str) -> None:
        self._values[name] = value
        self._placeholders[value] = name
        if len(self._wanted) < MOST_WANTED:
            self._wanted.append((_kind(name), value))

    def _new_name(self, key: bytes, kind: str, value: str) -> str:
        """A placeholder that nobody can guess, and that is nobody else's in this thread."""
        attempt = 0
        while True:
            text = f"{self._thread}\0{attempt}\0{value}".encode("utf-8", "surrogatepass")
            code = hmac.digest(key, b"placeholder\0" + text, "sha256")
            tag = base64.b32encode(code).decode().lower()[:TAG_LENGTH]
            name = placeholder(kind, tag)
            if name not in self._values and name not in self.lost:
                return name
            attempt += 1

    def _sealed_for(self, name: str) -> bytes:
        return f"{self._thread}\0{name}".encode()


def _kind(name: str) -> str:
    return name.removeprefix("[redacted:").partition("#")[0]


def _store(connection: Connection, rows: list[_Row]) -> None:
    """Insert rows; what is there already is the same."""
    insert = sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert
    connection.execute(insert(vault).on_conflict_do_nothing(), rows)


def _seal(key: bytes, place: bytes, value: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(key).encrypt(nonce, value.encode("utf-8", "surrogatepass"), place)


def _open(key: bytes, place: bytes, data: bytes) -> str | None:
    from cryptography.exceptions import InvalidTag

    try:
        plain = _cipher(key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place)
    except InvalidTag:
        return None
    return plain.decode("utf-8", "surrogatepass")


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(hmac.digest(key, b"encryption", "sha256"))


_KEPT = Query(
    select(vault.c.placeholder, vault.c.data).where(vault.c.thread_id == bindparam("thread"))
)
