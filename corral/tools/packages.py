"""Python packages for sessions: layers, installed ahead on the host, read-only inside.

A layer is a folder below ``packages`` in Corral's home that holds what was resolved together for
one set of requests, and ``layer.json``, which says what was asked for and what is there. Only
wheels are installed, so nothing of a package runs on the host; matplotlib's list of fonts is
made inside the sandbox.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from corral.errors import NotFoundError, ToolServerError, UsageError
from corral.jsontypes import JsonObject
from corral.sandbox import host
from corral.sandbox.contract import Grant, Limits, LocalBackend, Profile

MANIFEST = "layer.json"
_FONTS = ".matplotlib"
_LOCK = ".lock"
_HALF_MADE = ".new-"
_REQUEST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==([A-Za-z0-9][A-Za-z0-9.+!_-]*))?")
_SEPARATORS = re.compile(r"[-_.]+")
_TAIL = 6
_LOOK = 0.1
_FONT_SECONDS = 180.0
_OFFLINE = ("error sending request", "dns error", "failed to fetch", "connection", "timed out")
_MAKE_FONTS = "import sys; sys.path.insert(0, sys.argv[1]); import matplotlib.font_manager"

Tell = Callable[[str], None]
"""Is told in words how far an installation is."""


@dataclass(frozen=True)
class Layer:
    """One installed layer: its folder, what was asked for, and the version of each package."""

    folder: Path
    requested: tuple[str, ...]
    installed: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Its name."""
        return self.folder.name

    def to_json(self) -> JsonObject:
        """This layer as a JSON object."""
        return {
            "layer": self.digest,
            "requested": list(self.requested),
            "installed": dict(self.installed),
            "folder": str(self.folder),
        }


def normal(request: str) -> str:
    """A request in its one form, ``name`` or ``name==version``.

    Raises ``UsageError`` for anything else: no options, addresses, extras or ranges.
    """
    compact = "".join(request.split())
    found = _REQUEST.fullmatch(compact)
    if found is None:
        raise UsageError(
            f"{request!r} is no package that can be asked for.",
            hint="Write its name, with a version if it matters: numpy==2.3.4.",
        )
    name, version = found.groups()
    plain = _SEPARATORS.sub("-", name).lower()
    return f"{plain}=={version}" if version else plain


def permitted(requests: Iterable[str], allowed: Collection[str]) -> tuple[str, ...]:
    """The requests in their one form, each with the version that the allow-list names.

    Raises ``UsageError`` when one of them is not allowed.
    """
    rules = {_name(rule): rule for rule in map(normal, allowed)}
    found = []
    for request in map(normal, requests):
        rule = rules.get(_name(request))
        pinned = rule is not None and "==" in rule
        if rule is None or (pinned and request not in (_name(request), rule)):
            listing = ", ".join(sorted(rules.values())) or "none"
            raise UsageError(
                f"The package {request} is not allowed here; allowed: {listing}.",
                hint="The user can add it to allowed_packages in [python].",
            )
        found.append(rule if pinned else request)
    return tuple(found)


def _name(request: str) -> str:
    return request.partition("==")[0]


class PackageStore:
    """The layers below one folder. Several processes may use it at the same time."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def layers(self) -> list[Layer]:
        """Every complete layer for the Python that runs here."""
        found = (_read(path) for path in sorted(self.home.glob(f"[!.]*/{MANIFEST}")))
        return [layer for layer in found if layer is not None]

    def find(self, requests: Iterable[str]) -> Layer | None:
        """The smallest layer in which all of these were asked for."""
        wanted = {normal(request) for request in requests}
        fitting = [layer for layer in self.layers() if wanted <= set(layer.requested)]
        return min(fitting, key=lambda one: (len(one.requested), one.digest), default=None)

    async def install(self, requests: Iterable[str], backend: LocalBackend, tell: Tell) -> Layer:
        """The layer for these requests, installed if there is none yet.

        Raises ``ToolServerError``, in words, when that fails; then nothing is left of it.
        """
        wanted = tuple(sorted({normal(request) for request in requests}))
        if found := self.find(wanted):
            return found
        self.home.mkdir(parents=True, exist_ok=True)
        async with self._locked(tell):
            if found := self.find(wanted):  # another process was installing it
                return found
            self._sweep()
            folder = self._new_folder()
            try:
                await _fill(folder, wanted, tell)
                await _make_fonts(folder, backend, tell)
                return self._finished(folder, wanted)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def remove(self, digest: str) -> Layer:
        """Delete a layer. Raises ``NotFoundError``. Sessions that use it lose its packages."""
        self.home.mkdir(parents=True, exist_ok=True)
        async with self._locked(lambda _: None):
            for layer in self.layers():
                if layer.digest == digest:
                    gone = self.home / f"{_HALF_MADE}{digest}"
                    layer.folder.rename(gone)
                    shutil.rmtree(gone)
                    return layer
        raise NotFoundError(f"There is no layer {digest}.", hint="See: corral packages list")

    def _finished(self, folder: Path, requested: tuple[str, ...]) -> Layer:
        """Record what is in a new layer and give it its name, in one step."""
        found = distributions(path=[str(folder)])
        installed = {normal(one.metadata["Name"]): one.version for one in found}
        record = {"requested": requested, "installed": installed, "python": _python()}
        (folder / MANIFEST).write_text(json.dumps(record, indent=1, sort_keys=True))
        target = self.home / _digest(requested)
        if target.exists():  # damaged, else it had been found
            shutil.rmtree(target)
        folder.rename(target)
        return Layer(target, requested, installed)

    def _new_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=_HALF_MADE, dir=self.home))
        folder.chmod(0o755)
        return folder

    def _sweep(self) -> None:
        """Remove what an installation has left that was killed."""
        for path in self.home.glob(f"{_HALF_MADE}*"):
            shutil.rmtree(path, ignore_errors=True)

    @asynccontextmanager
    async def _locked(self, tell: Tell) -> AsyncIterator[None]:
        fd = os.open(self.home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            told = False
            while not _try_lock(fd):
                if not told:
                    tell("Another installation is under way; waiting for it.")
                    told = True
                await asyncio.sleep(_LOOK)
            yield
        finally:
            os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _python() -> str:
    return f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"


def _digest(requested: Sequence[str]) -> str:
    text = "\n".join((_python(), sysconfig.get_platform(), *requested))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> Layer | None:
    try:
        data = json.loads(path.read_bytes())
        if data["python"] != _python():
            return None
        return Layer(path.parent, tuple(data["requested"]), dict(data["installed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _installer(folder: Path) -> list[str]:
    """The command that installs wheels into ``folder``: uv's if it is here, else pip's."""
    uv = shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--python", str(host.interpreter()), "--link-mode", "copy"]
        return [*command, "--compile-bytecode", "--only-binary", ":all:", "--target", str(folder)]
    if importlib.util.find_spec("pip") is None:
        raise ToolServerError(
            "Packages cannot be installed: there is neither uv nor pip here.",
            hint="Install one of them, uv by preference.",
        )
    # -P: what lies in the folder that Corral works in is not to be imported.
    command = [sys.executable, "-P", "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:"]
    return [*command, "--target", str(folder)]


async def _fill(folder: Path, requests: Sequence[str], tell: Tell) -> None:
    tell(f"Installing {', '.join(requests)} …")
    process = await asyncio.create_subprocess_exec(
        *_installer(folder),
        *requests,
        cwd=folder,  # a uv.toml or pyproject.toml in a workspace would name its own index
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said: list[str] = []
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            said = [*said, line.decode("utf-8", "replace").rstrip()][-_TAIL:]
            tell(said[-1])
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise _failure(requests, "\n  ".join(line for line in said if line))


def _failure(requests: Sequence[str], said: str) -> ToolServerError:
    offline = any(word in said.lower() for word in _OFFLINE)
    return ToolServerError(
        f"{', '.join(requests)} could not be installed:\n  {said}",
        hint="The package index could not be reached: try again when there is a network."
        if offline
        else "Only packages that come as wheels for this machine can be installed.",
    )


async def _make_fonts(folder: Path, backend: LocalBackend, tell: Tell) -> None:
    """Let matplotlib make its list of fonts ahead, in the sandbox: it takes seconds."""
    if not (folder / "matplotlib").is_dir():
        return
    tell("Preparing matplotlib's fonts …")
    fonts = folder / _FONTS
    fonts.mkdir()
    profile = Profile(
        grants=(Grant(folder), Grant(fonts, writable=True)),
        env={"MPLCONFIGDIR": str(fonts), "OPENBLAS_NUM_THREADS": "1"},
        limits=Limits(wall_seconds=_FONT_SECONDS),
    )
    command = (str(host.interpreter()), "-I", "-c", _MAKE_FONTS, str(folder))
    launch = await asyncio.to_thread(backend.launch, command, profile)
    process = await asyncio.create_subprocess_exec(
        *launch.argv,
        env=dict(launch.env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        if await process.wait() != 0:
            tell("That failed; the first plot will take longer.")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
