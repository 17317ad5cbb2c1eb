"""The sandbox contract: what may be granted, what is limited, and how a command is started.

A profile is data. A back end turns it into a command line that a parent can spawn with plain
pipes; everything else (namespaces, system-call filter, limits, watchdog) is the back end's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

MiB = 1024 * 1024


@dataclass(frozen=True)
class Grant:
    """One folder of the host that is visible inside, at the same path."""

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class Limits:
    """Limits on the whole process tree inside; sizes in bytes, times in seconds."""

    memory: int = 1024 * MiB
    processes: int = 64
    cpu_seconds: int = 600
    open_files: int = 256
    file_size: int = 256 * MiB
    tmp_size: int = 256 * MiB


@dataclass(frozen=True)
class Profile:
    """Everything that a sandboxed process gets. What is not here it does not have.

    There is no network. ``env`` is the whole environment besides ``PATH``, ``HOME`` and
    ``LANG``. ``workdir`` must lie in a grant, or be ``None`` for a private empty folder.
    """

    grants: tuple[Grant, ...] = ()
    workdir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Launch:
    """A command ready to be spawned: argv and the complete environment of the launcher.

    Killing the spawned process, or its parent's death, ends the whole tree inside.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Health:
    """What ``probe`` found: whether the back end holds, and in words why not."""

    backend: str
    ok: bool
    detail: str
    hint: str = ""


class SandboxBackend(Protocol):
    """One way to isolate a process tree."""

    @property
    def name(self) -> str:
        """The back end's name, as written in the configuration."""
        ...

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``.

        Raises ``SandboxError``, with what to install, when this back end cannot be had here.
        """
        ...

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        ...
