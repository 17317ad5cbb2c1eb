"""Where the run host of a client is, found and started without loading settings.

There is one host for a workspace, its configuration files and the keys that it works with. It is
reached by a socket that only this user can open. Standard library only: a client's bridge starts in
the time that Python does.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import select
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import RunError
from corral.version import VERSION

PROTOCOL = 1
"""What hosts and those who connect to them agree on, whatever their versions."""

PATIENCE = 120.0
"""Seconds that a host may take to start on a busy machine."""

_LONGEST_PATH = 100
"""Bytes of a socket's path; the kernel takes 107 on Linux and 103 on macOS."""

_LONGEST_ANSWER = 65_536
_FULL_LOG = 1_000_000
_PAUSE = 0.02
_KEYS = re.compile(
    r"CORRAL_\w+|\w+_API_KEY|\w+_BASE_URL|(?:HTTPS?|NO|ALL)_PROXY|SSL_CERT_\w+", re.IGNORECASE
)
_NAMES_WORKSPACE = re.compile(r"^\s*[\"']?workspace\b", re.MULTILINE)
_NAMED = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,99}")

# The host is nobody's child, so that a client that ends its bridge with all children spares it.
_DETACH = "import os, sys; os.fork() and os._exit(0); os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Place:
    """Where a host is. ``flags`` are what it is started with; ``account`` is whose keys it uses.

    Hosts of one account can go on with each other's runs. ``name`` is that of this one.
    ``workspace`` is the folder that is worked in; ``None``: a configuration file says which.
    """

    home: Path
    workspace: Path | None
    folder: Path
    account: str
    name: str
    flags: tuple[str, ...] = ()

    @property
    def socket(self) -> Path:
        """The socket that it listens on."""
        return self.folder / f"{self.name}.sock"

    @property
    def lock(self) -> Path:
        """The file that it holds a lock on for as long as it serves."""
        return self.folder / f"{self.name}.lock"

    @property
    def log(self) -> Path:
        """What it has to say, without secrets."""
        return self.home / "logs" / f"host-{self.name}.log"


def find_place(
    home: Path | None = None,
    workspace: Path | None = None,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Place:
    """The place of the host for these options (``None``: not given) in this environment."""
    folder = _absolute(workspace or Path(environ.get("CORRAL_WORKSPACE") or Path.cwd()))
    projects = _absolute(workspace or Path.cwd())
    files = [projects / "corral.toml", _users(environ) / "corral" / "config.toml"]
    files = [*([_absolute(config)] if config else []), *files]
    root = _absolute(home or _home(environ, files))
    account = _digest([str(root), str(folder), *_relevant(environ, files)])[:16]
    options = {"--home": home, "--workspace": workspace, "--config": config}
    given = ((flag, str(_absolute(path))) for flag, path in options.items() if path)
    return Place(
        home=root,
        workspace=None if any(_NAMES_WORKSPACE.search(_text(file)) for file in files) else folder,
        folder=_short(root / "run"),
        account=account,
        name=f"{account}-{_digest([str(projects), *map(_state, files)])[:8]}",
        flags=tuple(part for pair in given for part in pair),
    )


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _home(environ: Mapping[str, str], files: list[Path]) -> Path:
    """Where the settings say that state is kept; the first file that says so decides."""
    if named := environ.get("CORRAL_HOME"):
        return Path(named)
    for file in files:
        if found := _named_home(_text(file)):
            return Path(found)
    return _data(environ) / "corral"


def _named_home(text: str) -> str | None:
    if "home" not in text:
        return None
    import tomllib  # hardly anybody needs it, and it takes as long as the rest

    try:
        found = tomllib.loads(text).get("home")
    except tomllib.TOMLDecodeError:
        return None
    return found if isinstance(found, str) else None


def _users(environ: Mapping[str, str]) -> Path:
    """Where this system keeps the user's configuration."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _data(environ: Mapping[str, str]) -> Path:
    """Where this system keeps what programs store for the user."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")


def _relevant(environ: Mapping[str, str], files: list[Path]) -> Iterator[str]:
    """The variables that decide what a run does and who pays for it: those of Corral and of
    providers, and all that the configuration files name.
    """
    named = {name for file in files for name in _NAMED.findall(_text(file))}
    for name in sorted(environ):
        if _KEYS.fullmatch(name) or name in named:
            yield f"{name}={environ[name]}"


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""


def _state(file: Path) -> str:
    try:
        found = file.stat()
    except OSError:
        return f"{file} is not there"
    return f"{file} {found.st_mtime_ns} {found.st_size}"


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _short(folder: Path) -> Path:
    """The folder, or one in its place whose sockets have paths that are short enough."""
    if len(os.fsencode(folder)) + len("/.sock") + 25 <= _LONGEST_PATH:
        return folder
    import tempfile  # likewise

    return Path(tempfile.gettempdir()) / f"corral-{os.getuid()}-{_digest([str(folder)])[:12]}"


def make_folder(folder: Path) -> None:
    """Make a folder that is this user's alone. Raises ``RunError`` where it is somebody else's."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise RunError(
            f"The folder {folder} cannot be used: {error.strerror}.",
            hint="Set CORRAL_HOME to a folder of your own.",
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RunError(
            f"The folder {folder} is not yours alone.",
            hint=f"Look at who made it, and remove it: rm -r {folder}",
        )


def is_served(place_or_folder: Path, account: str) -> bool:
    """Whether a host of this account is alive; ``place_or_folder`` is a home or a host's folder."""
    folders = {place_or_folder, place_or_folder / "run", _short(place_or_folder / "run")}
    locks = (lock for folder in folders for lock in folder.glob(f"{account}-*.lock"))
    return any(map(_is_locked, locks))


def _is_locked(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def peer_is_me(connection: socket.socket) -> bool:
    """Whether the process at the other end of a local socket is this user's."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder's rights keep others out
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("3i", credentials)[1]
    return uid == os.getuid()


def connect(place: Place, role: Mapping[str, Any], patience: float = PATIENCE) -> socket.socket:
    """A connection to the host, which is started if there is none. Blocks.

    ``role`` says what for: ``{"as": "runs"}`` or ``{"as": "mcp", "serve": "agents"}``; the host has
    answered it. Raises ``RunError`` when no host can be had, with what the host itself says of it.
    """
    until = time.monotonic() + patience
    address = place.socket
    while True:
        connection = _greeted(address, role)
        if connection is not None:
            return connection
        if time.monotonic() > until:
            raise RunError(
                f"The run host did not answer within {patience:g} s.",
                hint=f"See what it says in {place.log}.",
            )
        if not _is_locked(place.lock):
            address = _started(place, until) or address
        time.sleep(_PAUSE)  # nothing tells of a socket that begins to listen


def _greeted(address: Path, role: Mapping[str, Any]) -> socket.socket | None:
    """A connection that was welcomed; ``None``: nobody is there, or it is about to leave."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(str(address))
        if not peer_is_me(connection):
            raise RunError(
                f"The socket {address} is held by another user.",
                hint="Set CORRAL_HOME to a folder of your own.",
            )
        hello = {"corral": VERSION, "protocol": PROTOCOL, **role}
        connection.sendall(json.dumps(hello).encode() + b"\n")
        answer = _answer(connection)
    except OSError:
        answer = None
    if answer is not None and answer.get("ok"):
        connection.settimeout(None)
        return connection
    connection.close()
    if answer is not None and "error" in answer:
        raise RunError(answer["error"]["message"], hint=answer["error"]["hint"])
    return None


def _answer(connection: socket.socket) -> dict[str, Any] | None:
    """The one line that a host answers with; nothing that comes after it is taken."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) > _LONGEST_ANSWER or not (byte := connection.recv(1)):
            return None
        line += byte
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _started(place: Place, until: float) -> Path | None:
    """Start a host and wait until it serves, or until it says that another one does.

    Its socket, should that be elsewhere because a file has just changed.
    """
    import subprocess  # likewise

    make_folder(place.folder)
    place.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        if place.log.stat().st_size > _FULL_LOG:
            place.log.replace(place.log.with_suffix(".old.log"))
    host = (sys.executable, "-m", "corral.mcp_servers.host", *place.flags)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", _DETACH, *host),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        ) as detaching:
            assert detaching.stdout is not None
            said = _line(detaching.stdout.fileno(), until)
    finally:
        os.close(log)
    if said is None:
        raise RunError("The run host ended as it began.", hint=f"See what it says in {place.log}.")
    if "error" in said:
        raise RunError(said["error"]["message"], hint=said["error"]["hint"])
    return Path(said["socket"]) if "socket" in said else None


def _line(pipe: int, until: float) -> dict[str, Any] | None:
    """What a starting host says; ``None``: it is gone, or takes too long."""
    text = b""
    while b"\n" not in text:
        ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
        piece = os.read(pipe, 4096) if ready else b""
        if not piece:
            return None
        text += piece
    found = json.loads(text.partition(b"\n")[0])
    return found if isinstance(found, dict) else None
