"""Limits by cgroup v2, where this process may make groups with the controllers that matter.

The kernel then holds the whole tree to its memory and processes, and ends all of it at once. It is
looked for in the process's own group and those above it: a folder that it may write, in which
memory and pids are handed on to the groups below. Elsewhere the supervisor's watch alone counts.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_NEEDED = {"memory", "pids"}
_PREFIX = "corral-"
_SPARE_PROCESSES = 16
_PATIENCE = 2.0


class Group(NamedTuple):
    """One group of processes; ``path`` is its folder."""

    path: str

    def limit(self, memory: int, processes: int) -> None:
        """Bound memory (bytes, swap included) and processes of everything in it."""
        self._write("memory.max", str(memory))
        self._write("memory.swap.max", "0", optional=True)
        if processes:
            self._write("pids.max", str(processes + _SPARE_PROCESSES))

    def enter(self) -> None:
        """Put this process in, and with it whatever it forks from now on."""
        self._write("cgroup.procs", "0")

    def kill(self) -> None:
        """End everything in it, at once."""
        self._write("cgroup.kill", "1", optional=True)

    def out_of_memory(self) -> int:
        """How many of its processes the kernel has ended for want of memory."""
        for line in _lines(f"{self.path}/memory.events"):
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def remove(self) -> None:
        """Remove it once its last process is gone."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                os.rmdir(self.path)  # noqa: PTH106 -- the launcher does without pathlib
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.002)  # a process that was killed takes a moment to be gone
            else:
                return

    def _write(self, name: str, value: str, *, optional: bool = False) -> None:
        try:
            fd = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            if optional:
                return
            raise
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


def make(parent: str | None) -> Group | None:
    """A new group below ``parent``, named for this process; ``None`` where that cannot be."""
    if parent is None:
        return None
    group = Group(f"{parent}/{_PREFIX}{os.getpid()}")
    try:
        os.mkdir(group.path)  # noqa: PTH102 -- the launcher does without pathlib
    except OSError:
        return None
    return group


def find(mounts: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup") -> str | None:
    """The folder in which limited groups can be made, or ``None``."""
    root = _mount(mounts)
    place = next((line[3:] for line in _lines(own) if line.startswith("0::")), None)
    if root is None or place is None:
        return None
    folder = f"{root}/{place.strip('/')}".rstrip("/")
    while folder.startswith(root):
        if _hands_on(folder):
            return folder
        folder = folder.rpartition("/")[0]
    return None


def sweep(parent: str) -> None:
    """Remove empty groups whose supervisors are gone: they were killed themselves."""
    for name in os.listdir(parent):  # noqa: PTH208 -- the launcher does without pathlib
        pid = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and pid.isdigit() and not os.access(f"/proc/{pid}", os.F_OK):
            Group(f"{parent}/{name}").kill()
            Group(f"{parent}/{name}").remove()


def _hands_on(folder: str) -> bool:
    handed = set(" ".join(_lines(f"{folder}/cgroup.subtree_control")).split())
    writable = os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)
    return writable and handed >= _NEEDED


def _mount(mounts: str) -> str | None:
    for line in _lines(mounts):
        fields = line.split()
        if "cgroup2" in fields[fields.index("-") :]:
            return fields[4].rstrip("/")
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:  # noqa: PTH123 -- the launcher does without pathlib
            return file.read().splitlines()
    except OSError:
        return []
