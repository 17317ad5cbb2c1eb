"""What every sandbox of this machine finds inside, whichever back end makes it."""

from __future__ import annotations

import resource
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox.contract import Limits, MiB, Profile

PATH = "/usr/local/bin:/usr/bin:/bin"
USER = 1000
"""The user inside; outside it is whoever started the sandbox, or nobody."""

SHARED_MEMORY = 64 * MiB
SHM, TMP = "/dev/shm", "/tmp"  # noqa: S108 -- paths inside, each a private tmpfs
HOME = f"{TMP}/home"


def files(user: int) -> Mapping[str, str]:
    """The generated files of the system inside, for a user with this number."""
    return {
        "/etc/passwd": f"sandbox:x:{user}:{user}:sandbox:{HOME}:/bin/sh\n",
        "/etc/group": f"sandbox:x:{user}:\n",
        "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }


def variables(profile: Profile, home: str, network: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the command; ``network`` is what names the proxy."""
    return {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **network, **profile.env}


def rlimits(limits: Limits) -> dict[str, int]:
    """What the kernel limits for each process, by the name that follows ``RLIMIT_``."""
    return {
        "NPROC": limits.processes,
        # Less than the limit of the whole tree, so that one greedy process is told (ENOMEM)
        # before the watchdog has to end everything.
        "DATA": limits.memory * 9 // 10,
        "CPU": limits.cpu_seconds,
        "NOFILE": limits.open_files,
        "FSIZE": limits.file_size,
        **NO_CORE,
    }


NO_CORE = {"CORE": 1}
"""No dump of a crash, neither to a file nor, which 0 would allow, to the host's handler."""


def capped(name: str, value: int) -> int:
    """A limit cannot be raised above the one that this process is under itself."""
    _, hard = resource.getrlimit(int(getattr(resource, f"RLIMIT_{name}")))
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def private_folder() -> Path:
    """The path of a folder that a sandbox will have for itself; not made yet."""
    return Path(tempfile.gettempdir()).resolve() / f"corral-{secrets.token_hex(8)}"


def require_linux() -> None:
    """Raise ``SandboxError`` on other systems."""
    if sys.platform != "linux":
        raise SandboxError(
            f"This sandbox needs Linux; this is {sys.platform}.",
            hint='Set sandbox = "seatbelt" on macOS, or run Corral in a Linux virtual machine.',
        )
