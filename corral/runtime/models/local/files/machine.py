"""How much memory this process may still take.

A cgroup may allow less than the machine has. What it counts as used holds files that it would let
go of first (``inactive_file``); mapped weights are such files.
Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ENDLESS = 2**60
"""A limit above this is none: cgroups of version 1 write a huge number."""


@dataclass(frozen=True)
class CgroupMemory:
    """One cgroup's limit, and what of it is used that could not be let go of; in bytes."""

    limit: int
    used: int


@dataclass(frozen=True)
class _Files:
    limit: str
    current: str
    inactive: str


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def available_memory() -> int:
    """Bytes that this process can take without swapping, within its cgroups."""
    import psutil  # takes its time, and is only needed when a model is to be loaded

    left = [max(0, one.limit - one.used) for one in cgroup_memory()]
    return min([int(psutil.virtual_memory().available), *left])


def total_memory() -> int:
    """Bytes of memory that this process could have at most."""
    import psutil  # see above

    return min([int(psutil.virtual_memory().total), *(one.limit for one in cgroup_memory())])


def cgroup_memory(
    proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[CgroupMemory]:
    """The cgroups of this process that limit its memory; none where there are no cgroups."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    return [found for line in lines for found in _of_line(line, root)]


def _of_line(line: str, root: Path) -> Iterator[CgroupMemory]:
    number, controllers, path = [*line.split(":", 2), "", ""][:3]
    if number == "0" and not controllers:
        base, files = root, _V2
    elif "memory" in controllers.split(","):
        base, files = root / "memory", _V1
    else:
        return
    folder = base / path.lstrip("/")
    # A container often sees its own cgroup as the root, whatever the path says.
    for each in (folder, *folder.parents):
        if each.is_relative_to(base) and (found := _read(each, files)):
            yield found


def _read(folder: Path, files: _Files) -> CgroupMemory | None:
    try:
        limit = int((folder / files.limit).read_text())  # "max" is no limit
        current = int((folder / files.current).read_text())
        stat = (folder / "memory.stat").read_text()
    except (OSError, ValueError):
        return None
    if limit >= _ENDLESS:
        return None
    lines = (line.split() for line in stat.splitlines())
    inactive = next((int(line[1]) for line in lines if line[:1] == [files.inactive]), 0)
    return CgroupMemory(limit, max(0, current - inactive))
