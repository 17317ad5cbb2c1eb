"""For machines without user namespaces: Landlock, a system-call filter and supervision.

Weaker than namespaces, and never chosen unasked: no network at all, and what the kernel shows to
every process of the host it also shows inside (see docs/sandbox.md). Instead of a private
``/tmp`` there is a private folder, named by ``TMPDIR`` and ``HOME``, that is removed at the end.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

from corral.errors import SandboxError
from corral.sandbox import grants, host, seccomp
from corral.sandbox.backends import environment
from corral.sandbox.backends.opening import open_local
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Grant, Launch, Profile, Sandbox, Snapshot
from corral.sandbox.launcher.order import VARIABLE, Order
from corral.sandbox.probe import probe


@dataclass(frozen=True)
class LandlockBackend:
    """Isolation of one process tree by Landlock and seccomp."""

    @property
    def name(self) -> str:
        """``landlock``."""
        return "landlock"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``. See ``LocalBackend``."""
        environment.require_linux()
        host.check_landlock()
        grants.check_text(argv, profile)
        if profile.network:
            raise SandboxError(
                "The landlock sandbox has no network, and one was asked for.",
                hint='Set sandbox = "bubblewrap", or take the network out of the configuration.',
            )
        # A module is found by listing the folders above it, which no mount makes here.
        listed = (*profile.grants, Grant(host.PACKAGE))
        binds = grants.binds(replace(profile, grants=listed))
        private = str(environment.private_folder())
        limits = profile.limits
        order = Order(
            argv=argv,
            memory=limits.memory,
            cpu_seconds=limits.cpu_seconds,
            processes=limits.processes,
            binds=binds,
            seccomp=base64.b64encode(seccomp.program(shared=True)).decode(),
            environment={"TMPDIR": private, **environment.variables(profile, private, {})},
            workdir=str(grants.inside(profile.workdir)) if profile.workdir else private,
            wall_seconds=limits.wall_seconds or 0.0,
            written=limits.written,
            writable=[private, *(bind.source for bind in binds if bind.writable)],
            scratch=[private],
            rlimits=environment.rlimits(limits),
            private=private,
            tmp_size=limits.tmp_size,
            landlock=True,
            system=host.system_paths(),
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a sandbox. See ``SandboxBackend``."""
        return await open_local(self, profile, snapshot)

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        return probe(self)
