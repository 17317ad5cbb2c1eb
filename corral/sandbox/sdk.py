"""Sandboxes for programs: ``corral.open_sandbox``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from corral.sandbox.contract import Grant, Limits, Profile, Sandbox, SandboxBackend
from corral.sandbox.network.rules import Network, parse_all
from corral.sandbox.registry import check_requirements, select_backend

_DEFAULT = "bubblewrap" if sys.platform == "linux" else "seatbelt"


@asynccontextmanager
async def open_sandbox(
    name: str | SandboxBackend = _DEFAULT,
    *,
    workspace: Path | None = None,
    limits: Limits | None = None,
    network: Network | Sequence[str] = (),
    require: Sequence[str] = (),
) -> AsyncIterator[Sandbox]:
    """A sandbox to run commands and code in; everything in it ends with the context.

    ``name`` is a back end as in the setting ``sandbox``, ``strongest``, or one that is given
    (``MontyBackend``, ``E2BBackend``). ``workspace`` is a folder that it may change; without one it
    works in a private one. ``network`` are the hosts that it may reach, as in ``[mcp.NAME]``
    (``"api.github.com:443 GET"``), or rules with more to them. ``require`` are properties that must
    hold. Raises ``SandboxError``, with what to install or change, and ``ConfigError``.
    """
    reach = network if isinstance(network, Network) else parse_all(network)
    profile = Profile(limits=limits or Limits(), network=reach)
    if workspace is not None:
        folder = Path.cwd() / workspace
        profile = replace(profile, grants=(Grant(folder, writable=True),), workdir=folder)
    backend = await asyncio.to_thread(_backend, name, require)
    sandbox = await backend.open(profile)
    try:
        yield sandbox
    finally:
        await sandbox.stop()


def _backend(name: str | SandboxBackend, require: Sequence[str]) -> SandboxBackend:
    if isinstance(name, str):
        return select_backend(name, require)
    if require:
        check_requirements(name.probe(), require)
    return name
