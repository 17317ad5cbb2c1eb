"""gVisor: a kernel of its own in user space between the program and the host's.

``runsc`` must be installed. It runs rootless, supervised by the launcher like bubblewrap; nothing
of it outlives the sandbox. Inside, the user is number 0 of gVisor's kernel, without capabilities;
outside it is whoever started the sandbox, or nobody.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corral.errors import SandboxError
from corral.sandbox import grants, host, seccomp
from corral.sandbox.backends import environment
from corral.sandbox.backends.environment import HOME, SHARED_MEMORY, SHM, TMP
from corral.sandbox.backends.opening import open_local
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Profile, Sandbox, Snapshot
from corral.sandbox.launcher.order import VARIABLE, Bind, Order
from corral.sandbox.network.inside import inside
from corral.sandbox.probe import probe

_USER = 0
_ST_NODEV = 4  # statvfs(3); Python has no name for it
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")


@dataclass(frozen=True)
class GVisorBackend:
    """Isolation by gVisor's user-space kernel."""

    @property
    def name(self) -> str:
        """``gvisor``."""
        return "gvisor"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``. See ``LocalBackend``."""
        environment.require_linux()
        runsc = host.find_runsc()
        host.check_kernel()
        host.check_user_namespaces()
        grants.check_text(argv, profile)
        limits, network, binds = profile.limits, inside(profile), grants.binds(profile)
        private = str(_private_folder())
        options = ["--rootless", "--network=none", "--ignore-cgroups"]
        order = Order(
            argv=(),
            memory=limits.memory,
            cpu_seconds=limits.cpu_seconds,
            options=[*options, "--host-uds=open"] if network.binds else options,
            binds=[*binds, *(Bind(str(source), str(target)) for source, target in network.binds)],
            files=environment.files(_USER),
            seccomp=base64.b64encode(seccomp.modes_program()).decode(),
            wall_seconds=limits.wall_seconds or 0.0,
            written=limits.written,
            writable=[bind.source for bind in binds if bind.writable],
            scratch=[private],
            rlimits=environment.NO_CORE,
            private=private,
            runsc=str(runsc),
            system=host.system_paths(),
            config=json.dumps(_config((*network.argv, *argv), profile, network.env)),
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a sandbox. See ``SandboxBackend``."""
        return await open_local(self, profile, snapshot)

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        return probe(self)


def _private_folder() -> Path:
    """Where the bundle goes. gVisor cannot use a file system that is mounted nosuid or nodev."""
    found = environment.private_folder()
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 -- Path.home() fails without an account
    for folder in (found.parent, home):
        if os.geteuid() == 0 or _is_plain(folder):
            return folder / found.name
    raise SandboxError(
        f"gVisor cannot work in {found.parent}, which is mounted nosuid or nodev.",
        hint="Set TMPDIR to a folder of another file system.",
    )


def _is_plain(folder: Path) -> bool:
    return folder.is_dir() and not os.statvfs(folder).f_flag & (os.ST_NOSUID | _ST_NODEV)


def _config(argv: tuple[str, ...], profile: Profile, network: Mapping[str, str]) -> dict[str, Any]:
    """The OCI configuration, but for the mounts, which the launcher adds."""
    variables = environment.variables(profile, HOME, network)
    workdir = str(grants.inside(profile.workdir)) if profile.workdir else HOME
    rlimits = environment.rlimits(profile.limits).items()
    return {
        "ociVersion": "1.0.0",
        "process": {
            "terminal": False,
            "user": {"uid": _USER, "gid": _USER},
            "args": argv,
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": workdir,
            "noNewPrivileges": True,
            "capabilities": {},
            "rlimits": [
                {"type": f"RLIMIT_{name}", "hard": value, "soft": value} for name, value in rlimits
            ],
        },
        "root": {"readonly": True},
        "hostname": "sandbox",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            _tmpfs(SHM, SHARED_MEMORY),
            _tmpfs(TMP, profile.limits.tmp_size),
            _tmpfs(HOME, profile.limits.tmp_size),  # the folder must exist to work in it
        ],
        "linux": {"namespaces": [{"type": kind} for kind in _NAMESPACES]},
    }


def _tmpfs(path: str, size: int) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", f"size={size}"]
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}
