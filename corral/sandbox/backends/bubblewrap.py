"""The default back end: bubblewrap, a system-call filter, limits and a supervising launcher.

Inside: own user, process, network, IPC, host name and cgroup namespaces, no capabilities, a
read-only minimal system, private ``/tmp`` and ``/dev``, an environment of three variables, no
network but an empty loopback. The launcher (``corral/sandbox/launcher``) starts bubblewrap,
watches memory and processor time of the whole tree and takes everything down with itself.
Started by root it runs the sandbox as an unprivileged user, never as host uid 0.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import grants, host, seccomp
from corral.sandbox.backends import environment
from corral.sandbox.backends.environment import HOME, SHARED_MEMORY, SHM, TMP, USER
from corral.sandbox.backends.opening import open_local
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Limits, Profile, Sandbox, Snapshot
from corral.sandbox.launcher.order import VARIABLE, Bind, Order
from corral.sandbox.network.inside import Inside, inside
from corral.sandbox.probe import probe

_PRLIMIT = Path("/usr/bin/prlimit")
_HIDDEN = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats")


@dataclass(frozen=True)
class BubblewrapBackend:
    """Isolation by bubblewrap. ``bwrap`` names another program than the one found here."""

    bwrap: host.Bubblewrap | None = None

    @property
    def name(self) -> str:
        """``bubblewrap``."""
        return "bubblewrap"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``. See ``LocalBackend``."""
        environment.require_linux()
        bwrap = self.bwrap or host.find_bubblewrap()
        host.check_kernel()
        host.check_user_namespaces()
        grants.check_text(argv, profile)
        limits, network, binds = profile.limits, inside(profile), grants.binds(profile)
        order = Order(
            argv=[*_limited(limits), *network.argv, *argv],
            memory=limits.memory,
            cpu_seconds=limits.cpu_seconds,
            processes=limits.processes,
            bwrap=str(bwrap.program),
            bwrap_folder=str(bwrap.folder or ""),
            options=_options(profile, network.env),
            binds=[*binds, *_of_the_network(network)],
            files=environment.files(USER),
            closing=_closing(profile),
            seccomp=base64.b64encode(seccomp.program()).decode(),
            wall_seconds=limits.wall_seconds or 0.0,
            written=limits.written,
            writable=[bind.source for bind in binds if bind.writable],
            rlimits=environment.NO_CORE,
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a sandbox. See ``SandboxBackend``."""
        return await open_local(self, profile, snapshot)

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        return probe(self)


def _of_the_network(network: Inside) -> list[Bind]:
    return [Bind(str(source), str(target)) for source, target in network.binds]


def _limited(limits: Limits) -> list[str]:
    """The limits that the kernel keeps for each process (``processes``: for the namespace).

    Set inside, since outside the process limit would count all processes of the user. That of
    core dumps is set before: inside, nothing may change it.
    """
    if not _PRLIMIT.exists():
        raise SandboxError(
            f"{_PRLIMIT} is missing, so no limits can be set in the sandbox.",
            hint="Install it: apt-get install util-linux.",
        )
    wanted = environment.rlimits(limits).items()
    options = [
        f"--{name.lower()}={environment.capped(name, value)}"
        for name, value in wanted
        if name not in environment.NO_CORE
    ]
    return [str(_PRLIMIT), *options, "--"]


def _options(profile: Profile, network: Mapping[str, str]) -> list[str]:
    options = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent"]
    options += ["--new-session", "--clearenv", "--cap-drop", "ALL"]
    options += ["--uid", str(USER), "--gid", str(USER), "--hostname", "sandbox"]
    for name, value in environment.variables(profile, _home(profile), network).items():
        options += ["--setenv", name, value]
    options += host.system_options()
    options += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"]
    for name in _HIDDEN:
        options += ["--ro-bind", "/dev/null", f"/proc/{name}"] if _is_shown(name) else []
    options += ["--size", str(SHARED_MEMORY), "--perms", "1777", "--tmpfs", SHM]
    options += ["--remount-ro", "/dev"]
    options += ["--size", str(profile.limits.tmp_size), "--perms", "1777", "--tmpfs", TMP]
    return [*options, "--dir", HOME]


def _is_shown(name: str) -> bool:
    return Path("/proc", name).exists()


def _closing(profile: Profile) -> list[str]:
    workdir = str(grants.inside(profile.workdir)) if profile.workdir else _home(profile)
    return ["--chdir", workdir, "--remount-ro", "/"]


def _home(profile: Profile) -> str:
    covered = any(grants.inside(grant.path) == Path(TMP) for grant in profile.grants)
    return TMP if covered else HOME
