"""The file of a saved state: a head, the tokens, and what llama.cpp gave, under one HMAC.

    8 bytes   magic                  32 bytes  identity of the model and its context
    4 bytes   version                32 bytes  adapters
    4 bytes   number of tokens       32 bytes  HMAC-SHA256 of all the rest
    8 bytes   size of the data       then the tokens, 4 bytes each, and the data

Numbers are little endian, tokens as this machine has them. Nothing of the data is looked at before
the HMAC is found right over the very bytes that llama.cpp then gets.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from corral.runtime.models.local.states.key import is_own_file

MAGIC = b"CORRALKV"
VERSION = 1
DRAFT_PREFIX = ".draft-"

_HEAD = struct.Struct("<8sIIQ32s32s32s")
_SIGNED = _HEAD.size - 32
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class BadStateError(Exception):
    """A file that is no state, or not a whole one. Never leaves ``states``."""


class NewerStateError(Exception):
    """A file that a newer version of Corral wrote. Never leaves ``states``."""


@dataclass(frozen=True)
class Head:
    """What a file says that it holds; ``tokens`` are ``token_bytes``. Not yet authenticated."""

    identity: bytes
    adapters: bytes
    tokens: bytes
    size: int

    def packed(self, mac: bytes) -> bytes:
        """The first bytes of the file."""
        count = len(self.tokens) // 4
        return _HEAD.pack(MAGIC, VERSION, count, self.size, self.identity, self.adapters, mac)

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return _HEAD.size + len(self.tokens) + self.size


def read_head(path: Path) -> Head:
    """The head of a file. Raises ``BadStateError``, ``NewerStateError`` and ``OSError``."""
    with _opened(path) as file:
        return _read_head(file)[0]


def read_data(path: Path, key: bytes, expected: Head) -> bytearray:
    """The data of a file that is still what ``expected`` says. Raises as ``read_head``."""
    with _opened(path) as file:
        head, mac = _read_head(file)
        if head != expected:
            raise BadStateError
        data = bytearray(head.size)
        _read_into(file, memoryview(data))
    if not hmac.compare_digest(_mac(key, head, data), mac):
        raise BadStateError
    return data


def write(path: Path, key: bytes, head: Head, data: bytes | bytearray) -> None:
    """Write a file as a whole or not at all. Raises ``OSError``.

    It is not flushed to the disk: what a power cut leaves of it has no right HMAC.
    """
    draft = path.with_name(f"{DRAFT_PREFIX}{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(draft, _CREATE, 0o600)
    try:
        # Held as long as this process lives: a draft that can be locked is of one that was killed.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for part in (head.packed(_mac(key, head, data)), head.tokens, data):
            _write_all(descriptor, memoryview(part))
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def is_abandoned(draft: Path) -> bool:
    """Whether whoever wrote a draft is gone."""
    with suppress(OSError):
        descriptor = os.open(draft, _READ)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
    return False


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, _READ)
    try:
        if not is_own_file(descriptor):
            raise BadStateError
        yield descriptor
    finally:
        os.close(descriptor)


def _read_head(file: int) -> tuple[Head, bytes]:
    start = bytearray(_HEAD.size)
    _read_into(file, memoryview(start))
    magic, version, count, size, identity, adapters, mac = _HEAD.unpack(start)
    if version > VERSION and magic == MAGIC:
        raise NewerStateError
    if (magic, version) != (MAGIC, VERSION):
        raise BadStateError
    if _HEAD.size + 4 * count + size != os.fstat(file).st_size:
        raise BadStateError
    tokens = bytearray(4 * count)
    _read_into(file, memoryview(tokens))
    return Head(identity, adapters, bytes(tokens), size), mac


def _read_into(file: int, target: memoryview) -> None:
    while target:
        count = os.readv(file, [target])
        if not count:
            raise BadStateError
        target = target[count:]


def _write_all(file: int, data: memoryview) -> None:
    while data:
        data = data[os.write(file, data) :]


def _mac(key: bytes, head: Head, data: bytes | bytearray) -> bytes:
    digest = hmac.new(key, head.packed(bytes(32))[:_SIGNED], "sha256")
    digest.update(head.tokens)
    digest.update(data)
    return digest.digest()
