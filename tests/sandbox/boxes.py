"""The back ends that sandboxes are tried with here, and what is left of them on the host."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Command, Finished, Grant, Profile, Sandbox
from corral.sandbox.registry import BACKENDS

PYTHON = "/usr/bin/python3"


def backends(*names: str) -> list[ParameterSet]:
    """Parameters for a battery: every day it tries bubblewrap, the others are ``slow``."""
    return [
        pytest.param(name, marks=() if name == "bubblewrap" else pytest.mark.slow) for name in names
    ]


LOCAL = backends("bubblewrap", "landlock", "gvisor", "none")


def skip_unless_here(backend: str) -> None:
    """Skip the test where this machine lacks what the back end needs."""
    checks: dict[str, Callable[[], object]] = {
        "gvisor": host.find_runsc,
        "landlock": host.check_landlock,
    }
    try:
        checks.get(backend, host.check_user_namespaces)()
    except SandboxError as error:
        pytest.skip(error.message)


@asynccontextmanager
async def box(backend: str, folder: Path | None = None, **changes: Any) -> AsyncIterator[Sandbox]:
    """A sandbox of that back end, or a skipped test where it cannot be had."""
    profile = Profile(**changes)
    if folder is not None:
        profile = replace(profile, grants=(Grant(folder, writable=True),), workdir=folder)
    skip_unless_here(backend)
    sandbox = await BACKENDS[backend]().open(profile)
    try:
        yield sandbox
    finally:
        await sandbox.stop()


async def python(sandbox: Sandbox, code: str, *args: str, seconds: float = 20.0) -> Finished:
    """Run Python code as a command."""
    return await sandbox.run(Command([PYTHON, "-I", "-S", "-c", code, *args], timeout=seconds))


def processes_with(token: str) -> list[int]:
    """Processes of this machine with ``token`` in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if token.encode() in text:
                found.append(int(entry.name))
    return found
