"""The default back end: bubblewrap, a system-call filter, limits and a supervising launcher.

Inside: own user, process, network, IPC, host name and cgroup namespaces, no capabilities, a
read-only minimal system, private ``/tmp`` and ``/dev``, an environment of three variables, no
network but an empty loopback. The launcher (``corral/sandbox/launcher``) starts bubblewrap,
watches memory and processor time of the whole tree and takes everything down with itself.
Started by root it runs the sandbox as an unprivileged user, never as host uid 0.
"""

from __future__ import annotations

import base64
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import host, seccomp
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Grant, Launch, Limits, MiB, Profile
from corral.sandbox.launcher.order import VARIABLE, Bind, Order
from corral.sandbox.probe import probe

PATH = "/usr/local/bin:/usr/bin:/bin"
_USER = 1000  # inside; outside it is whoever started the sandbox, or nobody
_SHARED_MEMORY = 64 * MiB
_SHM, _TMP = "/dev/shm", "/tmp"  # noqa: S108 -- paths inside, each a private tmpfs
_PSEUDO = (Path("/proc"), Path("/sys"), Path("/dev"))
_SYSTEM = (Path("/usr"), Path("/etc"), Path("/bin"), Path("/sbin"), Path("/lib"), Path("/boot"))
_PRLIMIT = Path("/usr/bin/prlimit")
_CORRAL = Path(__file__).resolve().parents[2]

_FILES = {
    "/etc/passwd": f"sandbox:x:{_USER}:{_USER}:sandbox:/tmp/home:/bin/sh\n",
    "/etc/group": f"sandbox:x:{_USER}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


@dataclass(frozen=True)
class BubblewrapBackend:
    """Isolation by bubblewrap. ``bwrap`` names another program than the one found here."""

    bwrap: host.Bubblewrap | None = None

    @property
    def name(self) -> str:
        """``bubblewrap``."""
        return "bubblewrap"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``. See ``SandboxBackend``."""
        if sys.platform != "linux":
            raise SandboxError(
                f"The sandbox needs Linux; this is {sys.platform}.",
                hint="Run Corral in a Linux virtual machine or container.",
            )
        bwrap = self.bwrap or host.find_bubblewrap()
        host.check_user_namespaces()
        _check_text(argv, profile)
        order = Order(
            argv=[*_limited(profile.limits), *argv],
            memory=profile.limits.memory,
            cpu_seconds=profile.limits.cpu_seconds,
            bwrap=str(bwrap.program),
            bwrap_folder=str(bwrap.folder or ""),
            options=_options(profile),
            binds=_binds(profile),
            files=_FILES,
            closing=_closing(profile),
            seccomp=base64.b64encode(seccomp.program()).decode(),
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        return probe(self)


def _check_text(argv: tuple[str, ...], profile: Profile) -> None:
    parts = (*argv, *profile.env, *profile.env.values(), *(str(g.path) for g in profile.grants))
    if not argv or any("\0" in part for part in parts):
        raise SandboxError(
            "A command or setting for the sandbox is empty or holds a NUL character.",
            hint="Correct the command, its environment or the granted folder.",
        )
    if any(not name or "=" in name for name in profile.env):
        raise SandboxError(
            "An environment variable for the sandbox has no usable name.",
            hint="A name is not empty and holds no '='.",
        )


def _limited(limits: Limits) -> list[str]:
    """The limits that the kernel keeps for each process (``processes``: for the namespace).

    Set inside, since outside the process limit would count all processes of the user.
    """
    if not _PRLIMIT.exists():
        raise SandboxError(
            f"{_PRLIMIT} is missing, so no limits can be set in the sandbox.",
            hint="Install it: apt-get install util-linux.",
        )
    wanted = {
        "nproc": (resource.RLIMIT_NPROC, limits.processes),
        # Less than the limit of the whole tree, so that one greedy process is told (ENOMEM)
        # before the watchdog has to end everything.
        "data": (resource.RLIMIT_DATA, limits.memory * 9 // 10),
        "cpu": (resource.RLIMIT_CPU, limits.cpu_seconds),
        "nofile": (resource.RLIMIT_NOFILE, limits.open_files),
        "fsize": (resource.RLIMIT_FSIZE, limits.file_size),
        "core": (resource.RLIMIT_CORE, 0),
    }
    options = [f"--{name}={_capped(kind, value)}" for name, (kind, value) in wanted.items()]
    return [str(_PRLIMIT), *options, "--"]


def _capped(kind: int, value: int) -> int:
    """A limit cannot be raised above the one that this process is under itself."""
    _, hard = resource.getrlimit(kind)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def _options(profile: Profile) -> list[str]:
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
    options += ["--new-session", "--clearenv", "--cap-drop", "ALL"]
    options += ["--uid", str(_USER), "--gid", str(_USER), "--hostname", "sandbox"]
    environment = {"PATH": PATH, "HOME": _home(profile), "LANG": "C.UTF-8", **profile.env}
    for name, value in environment.items():
        options += ["--setenv", name, value]
    options += host.system_options()
    options += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    options += ["--size", str(_SHARED_MEMORY), "--perms", "1777", "--tmpfs", _SHM]
    options += ["--remount-ro", "/dev"]
    options += ["--size", str(profile.limits.tmp_size), "--perms", "1777", "--tmpfs", _TMP]
    return [*options, "--dir", f"{_TMP}/home"]


def _closing(profile: Profile) -> list[str]:
    workdir = str(_inside(profile.workdir)) if profile.workdir else _home(profile)
    return ["--chdir", workdir, "--remount-ro", "/"]


def _home(profile: Profile) -> str:
    covered = any(_inside(grant.path) == Path(_TMP) for grant in profile.grants)
    return _TMP if covered else f"{_TMP}/home"


def _inside(path: Path) -> Path:
    """The path under which a folder of the host is visible inside: the same, made absolute."""
    return Path.cwd() / path


def _binds(profile: Profile) -> list[Bind]:
    """What is mounted inside, outer folders before the inner ones that cover a part of them."""
    grants = {_inside(grant.path): grant for grant in profile.grants}
    for target, grant in grants.items():
        _check_grant(target, grant)
    if profile.workdir is not None and not _within(_inside(profile.workdir), list(grants)):
        raise SandboxError(
            f"The working folder {profile.workdir} is not in a granted folder.",
            hint="Grant it, or leave the working folder out for a private empty one.",
        )
    binds = {
        str(target): Bind(str(target.resolve()), str(target), grant.writable)
        for target, grant in grants.items()
    }
    folder = host.interpreter_folder()
    if folder is not None:
        binds.setdefault(str(folder), Bind(str(folder), str(folder)))
    for own, target in _own_folders_in(grants):
        binds.setdefault(str(target), Bind(str(own), str(target)))
    return [binds[target] for target in sorted(binds, key=lambda text: Path(text).parts)]


def _own_folders_in(grants: Mapping[Path, Grant]) -> Iterator[tuple[Path, Path]]:
    """What Corral itself runs from, where it lies in a writable grant, and its place inside.

    Code that could change it would run outside at the next start.
    """
    for own in (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), _CORRAL):
        for target, grant in grants.items():
            real = target.resolve()
            if grant.writable and real in own.parents:
                yield own, target / own.relative_to(real)


def _within(path: Path, folders: list[Path]) -> bool:
    return any(folder == path or folder in path.parents for folder in folders)


def _check_grant(target: Path, grant: Grant) -> None:
    real = target.resolve()
    if not real.exists():
        raise SandboxError(
            f"The granted folder {grant.path} does not exist.",
            hint="Create it, or take it out of the configuration.",
        )
    refused = _within(real, list(_PSEUDO)) or real == Path("/")
    if refused or (grant.writable and _within(real, list(_SYSTEM))):
        raise SandboxError(
            f"{grant.path} belongs to the system and cannot be granted.",
            hint="Grant a folder of your own.",
        )
