"""Open a whole sandbox over a back end that can start a command."""

from __future__ import annotations

from corral.sandbox.contract import LocalBackend, Profile, Sandbox, Snapshot


async def open_local(
    backend: LocalBackend, profile: Profile, snapshot: Snapshot | None = None
) -> Sandbox:
    """See ``SandboxBackend.open``. Most commands only launch, and need no proxy for that."""
    from corral.sandbox.local import sandbox  # brings cryptography in

    return await sandbox.open_local(backend, profile, snapshot)
