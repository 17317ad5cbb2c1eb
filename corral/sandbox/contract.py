"""The sandbox contract: what may be granted, what is limited, and what a sandbox can do.

A profile is data: folders, limits, network, environment. A back end makes a ``Sandbox`` of it, and
says by ``probe`` what it really enforces. Back ends of this machine can also turn a profile into
a plain command (``LocalBackend.launch``), which is how tool servers are started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from corral.sandbox.capabilities import Capabilities, Health
from corral.sandbox.network.rules import Network

KiB, MiB, GiB = 1024, 1024**2, 1024**3


@dataclass(frozen=True)
class Grant:
    """One folder of the host that is visible inside, at the same path."""

    path: Path
    writable: bool = False


@dataclass(frozen=True)
class Limits:
    """Limits on the whole process tree inside; sizes in bytes, times in seconds.

    ``wall_seconds`` ends everything that long after the start, ``None`` never. ``written`` bounds
    what the granted writable folders may grow by in all, ``file_size`` one file. Of the output of
    a command ``output`` bytes a stream are kept, its beginning and its end; the rest is counted.
    """

    memory: int = 1024 * MiB
    processes: int = 64
    cpu_seconds: int = 600
    wall_seconds: float | None = None
    open_files: int = 256
    file_size: int = 256 * MiB
    written: int = GiB
    tmp_size: int = 256 * MiB
    output: int = MiB


@dataclass(frozen=True)
class Profile:
    """Everything that a sandboxed process gets. What is not here it does not have.

    ``env`` is the whole environment besides ``PATH``, ``HOME`` and ``LANG``. ``workdir`` must lie
    in a grant, or be ``None`` for a private empty folder of ``limits.tmp_size`` bytes that lasts
    as long as the sandbox. ``network`` is what may be reached, through the proxy that listens on
    the socket ``proxy`` of the host; without rules there is no network at all. ``packages`` are
    read-only folders of Python packages that sessions can import from. ``hidden`` are folders that
    are not to be seen inside though a grant holds them, but for what in them is granted by itself.
    """

    grants: tuple[Grant, ...] = ()
    workdir: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    network: Network = field(default_factory=Network)
    proxy: Path | None = None
    packages: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Launch:
    """A command ready to be spawned: argv and the complete environment of the launcher.

    Killing the spawned process, or its parent's death, ends the whole tree inside.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Usage:
    """What was used: times in seconds; memory in bytes, the highest of a sandbox's whole tree, or
    of the largest process of a command.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0


Reason = Literal["exited", "timeout", "memory", "cpu", "written", "killed", "cancelled"]


@dataclass(frozen=True)
class Finished:
    """How a command ended. ``code`` is as a shell has it: 128 plus the number for a signal.

    ``stdout`` and ``stderr`` hold the beginning and the end of what was written, ``dropped`` counts
    the bytes between. ``reason`` is ``exited`` unless a limit or the caller ended it; ``detail``
    says it in words.
    """

    code: int
    stdout: bytes = b""
    stderr: bytes = b""
    dropped: int = 0
    reason: Reason = "exited"
    detail: str = ""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Command:
    """A command to run: argv without a shell, and how. Times in seconds.

    ``env`` is added to the sandbox's environment. ``output`` is called with the stream's name
    (``stdout``, ``stderr``) and each piece as it comes.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    cwd: PurePosixPath | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = 60.0
    output: Callable[[str, bytes], None] | None = None


@dataclass(frozen=True)
class Display:
    """One rich output of a piece of code: a MIME type and its content (base64 where binary)."""

    mime: str
    data: str


@dataclass(frozen=True)
class Execution:
    """How one piece of code in a session ended.

    ``value`` is the last expression's, as text. ``displays`` are plots (``image/png``) and tables
    (``text/html`` or ``text/markdown``). ``error`` is a traceback without our own frames. ``note``
    says in words why a session ended; the next call starts a new one.
    """

    status: Literal["ok", "error", "timeout", "interrupted", "crashed", "cancelled"]
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    displays: tuple[Display, ...] = ()
    error: str | None = None
    note: str = ""
    dropped: int = 0


class Session(Protocol):
    """An interpreter or shell that keeps its state between calls. One call at a time."""

    async def run(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run code; after ``seconds`` it is interrupted, and killed if that is not enough.

        A session that crashed says so and starts clean at the next call.
        """
        ...

    async def interrupt(self) -> None:
        """Interrupt what runs, as Ctrl-C would. What was defined stays."""
        ...

    async def restart(self) -> None:
        """Start clean: nothing that was defined is left."""
        ...

    async def aclose(self) -> None:
        """End it and everything that it started. Safe to call twice."""
        ...


@dataclass(frozen=True)
class Entry:
    """One entry of a folder inside. ``path`` is relative to the workspace; ``size`` in bytes."""

    path: PurePosixPath
    kind: Literal["file", "folder", "link", "other"]
    size: int = 0
    modified: float = 0.0


class Files(Protocol):
    """The files of a sandbox's workspace; paths are relative to it and cannot leave it.

    Raises ``SandboxError`` for a path that leads out, for what is no regular file, and for an
    archive that would leave the workspace.
    """

    async def read(self, path: str, *, limit: int = 64 * MiB) -> bytes:
        """A regular file's content; one longer than ``limit`` bytes is an error."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """Create or replace a file, whole or not at all. Missing folders are made."""
        ...

    async def listing(self, path: str = ".", *, deep: bool = False) -> list[Entry]:
        """What is in a folder, or (``deep``) everything below it; links are not followed."""
        ...

    async def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""
        ...

    async def move(self, source: str, target: str) -> None:
        """Rename a file or folder."""
        ...

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it."""
        ...

    async def put_archive(self, archive: bytes, path: str = ".") -> int:
        """Unpack a tar or zip archive; how many entries. All of them are checked first."""
        ...

    async def get_archive(self, path: str = ".") -> bytes:
        """A folder as a tar archive, without links, devices and set-id bits."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """The workspace of a sandbox at one moment; ``backend`` can open a sandbox from it."""

    backend: str
    ref: str


class Sandbox(Protocol):
    """One started sandbox. Everything in it ends with ``stop``, or with this process."""

    @property
    def id(self) -> str:
        """A name that no other sandbox has."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What its back end says that it enforces."""
        ...

    @property
    def files(self) -> Files:
        """The workspace's files."""
        ...

    async def run(self, command: Command) -> Finished:
        """Run a command to its end; commands may run at the same time.

        Cancelling the task ends the command's whole tree.
        """
        ...

    def stream(self, command: Command) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Run a command and read its standard output as it comes."""
        ...

    async def run_code(self, code: str, *, seconds: float | None = 60.0) -> Execution:
        """Run Python in a fresh interpreter that nothing ran in before."""
        ...

    async def session(self, language: Literal["python", "shell"] = "python") -> Session:
        """A session of its own, with state."""
        ...

    async def snapshot(self) -> Snapshot:
        """Keep the workspace as it is now."""
        ...

    async def pause(self) -> None:
        """Stop every process inside where it is. Raises ``SandboxError`` where that cannot be."""
        ...

    async def resume(self) -> None:
        """Let them go on."""
        ...

    async def stop(self) -> None:
        """End everything and remove what was private to it. Safe to call twice."""
        ...


class SandboxBackend(Protocol):
    """One way to isolate."""

    @property
    def name(self) -> str:
        """The back end's name, as written in the configuration."""
        ...

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a sandbox, its workspace as in ``snapshot`` if one is given.

        Raises ``SandboxError``, with what to install or change, when it cannot be had here.
        """
        ...

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds. Never raises."""
        ...


class LocalBackend(SandboxBackend, Protocol):
    """A back end on this machine: any command can be started in it with plain pipes."""

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``.

        Raises ``SandboxError``, with what to install, when this back end cannot be had here.
        """
        ...
