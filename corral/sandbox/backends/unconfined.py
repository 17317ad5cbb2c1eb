"""No isolation, only by explicit wish: the command runs as this user, with all it may do.

The launcher still supervises it: environment, memory, times, what is written, the end of the tree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.backends.opening import open_local
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Profile, Sandbox, Snapshot
from corral.sandbox.launcher.order import VARIABLE, Order

WARNING = "tools run without a sandbox: they and the code that they run can do what you can do"


@dataclass(frozen=True)
class UnconfinedBackend:
    """``sandbox = "none"``: nothing is kept from the command. Grants mean nothing here."""

    @property
    def name(self) -> str:
        """``none``."""
        return "none"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` in the working folder, under the launcher."""
        if not argv:
            raise SandboxError("There is no command to run.", hint="Name the server's command.")
        warn()
        limits = profile.limits
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        order = Order(
            argv=list(argv),
            memory=limits.memory,
            cpu_seconds=limits.cpu_seconds,
            environment={"PATH": os.defpath, "LANG": "C.UTF-8", **inherited, **profile.env},
            workdir=str(profile.workdir or ""),
            wall_seconds=limits.wall_seconds or 0.0,
            written=limits.written,
            writable=[str(grant.path.resolve()) for grant in profile.grants if grant.writable],
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a command supervisor without a sandbox. See ``SandboxBackend``."""
        return await open_local(self, profile, snapshot)

    def probe(self) -> Health:
        """Never healthy: there is nothing that could hold."""
        return Health(
            backend=self.name,
            ok=False,
            detail="Tools run without any isolation, as the configuration asks.",
            hint='Take out sandbox = "none" to have them isolated.',
        )


@cache
def warn() -> None:
    """Say it in the log, once in the life of this process."""
    import structlog  # takes 50 ms, and hardly ever is there anything to say

    structlog.get_logger().warning(WARNING)
