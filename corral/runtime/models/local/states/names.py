"""What the files of saved states are called: nothing of a thread can be read in a name."""

from __future__ import annotations

from hashlib import sha256

SUFFIX = ".state"
_DIGITS = 32


def model_folder(identity: bytes) -> str:
    """The folder of the states that a model made, by its ``identity``."""
    return identity.hex()[:_DIGITS]


def file_name(conversation: str, adapters: bytes) -> str:
    """The name of the one file that a conversation has with these adapters."""
    whole = sha256(adapters + conversation.encode()).hexdigest()[:_DIGITS]
    return f"{thread_digest(conversation.partition('/')[0])}-{whole}{SUFFIX}"


def thread_digest(thread: str) -> str:
    """How the names of a thread's files begin."""
    return sha256(thread.encode()).hexdigest()[:_DIGITS]


def thread_of(name: str) -> str:
    """The ``thread_digest`` in a file's name."""
    return name.partition("-")[0]
