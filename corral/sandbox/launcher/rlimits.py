"""The limits that the kernel keeps for each process, set on this one and all that comes of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path


def apply(wanted: Mapping[str, int]) -> None:
    """Set limits, by the name that follows ``RLIMIT_``; none is raised.

    ``NPROC`` is added to the processes and threads that the user has now: without a user
    namespace, the kernel counts all of them together.
    """
    for name, value in wanted.items():
        kind = int(getattr(resource, f"RLIMIT_{name}"))
        total = value + _threads_of(os.getuid()) if name == "NPROC" else value
        _, hard = resource.getrlimit(kind)
        bound = total if hard == resource.RLIM_INFINITY else min(total, hard)
        resource.setrlimit(kind, (bound, bound))


def _threads_of(user: int) -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                count += len(list((entry / "task").iterdir())) if entry.stat().st_uid == user else 0
            except OSError:
                continue
    return count
