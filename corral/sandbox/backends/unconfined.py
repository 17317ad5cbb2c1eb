"""No isolation, only by explicit wish: the command runs as this user, with all it may do.

The launcher still supervises it: environment, memory, processor time, and the end of the tree.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Profile
from corral.sandbox.launcher.order import VARIABLE, Order


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
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        order = Order(
            argv=list(argv),
            memory=profile.limits.memory,
            cpu_seconds=profile.limits.cpu_seconds,
            environment={"PATH": os.defpath, "LANG": "C.UTF-8", **inherited, **profile.env},
            workdir=str(profile.workdir or ""),
        )
        return Launch(host.launcher_command(), {VARIABLE: order.to_text()})

    def probe(self) -> Health:
        """Never healthy: there is nothing that could hold."""
        return Health(
            backend=self.name,
            ok=False,
            detail="Tools run without any isolation, as the configuration asks.",
            hint='Take out sandbox = "none" to have them isolated.',
        )
