"""Programs that take more than they may, each with what must have become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from corral.sandbox.capabilities import Limit
from corral.sandbox.contract import Finished, Limits, MiB

SMALL = Limits(
    memory=256 * MiB,
    processes=40,
    cpu_seconds=60,
    open_files=64,
    file_size=8 * MiB,
    written=32 * MiB,
    tmp_size=32 * MiB,
    output=64 * 1024,
)

LARGE = replace(SMALL, memory=1024 * MiB)
"""Enough for one process of those that only together take too much."""

FORKS = """
import os, time
count = 0
try:
    while count < 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError:
    pass
print(count)
"""

ONE_ALLOCATION = """
try:
    block = bytearray(8 << 30)
    for at in range(0, len(block), 4096):
        block[at] = 1
    print("took it")
except MemoryError:
    print("refused")
"""

MANY_ALLOCATIONS = """
import mmap, os, struct, time
count = os.open("taken", os.O_RDWR | os.O_CREAT, 0o600)
os.truncate(count, 4096)
taken = mmap.mmap(count, 4096)
for child in range(16):
    if os.fork() == 0:
        block = mmap.mmap(-1, 512 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, len(block), 4096):
            block[at] = 1
            taken[child * 8:child * 8 + 8] = struct.pack("q", at + 4096)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""

FILL = """
import errno, os, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, files, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
total = 0
try:
    for number in range(files):
        with open(f"{folder}/fill-{number}", "wb", buffering=0) as file:
            left = size
            while left > 0:
                done = file.write(bytes(min(left, 1 << 20)))
                left -= done
                total += done
            os.fsync(file.fileno())
    print("no limit", total)
except OSError as error:
    print(errno.errorcode[error.errno], total)
"""

DAEMON = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
ready, done = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(done, b".")
        while True:
            time.sleep(60)
    os._exit(0)
os.read(ready, 1)
while sys.argv[1] == "stay":
    pass
"""

FLOOD = """
import os
for _ in range(4096):
    os.write(1, bytes(65536))
os.write(1, b"the end")
"""

DESCRIPTORS = """
import errno, os
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], len(kept))
"""

BURN = """
import os
os.fork()
os.fork()
while True:
    pass
"""

LOOP = "while True: pass"


def words(finished: Finished) -> list[str]:
    """What the program said of itself."""
    return finished.stdout.decode().split()


@dataclass(frozen=True)
class Abuse:
    """One program, the limit that it runs into, and whether that held.

    ``private`` ones need a workspace of the sandbox's own file system.
    """

    limit: Limit
    code: str
    held: Callable[[Finished], bool]
    args: tuple[str, ...] = ()
    limits: Limits = SMALL
    timeout: float = 20.0
    granted: bool = field(default=False)


def _count_below(most: int) -> Callable[[Finished], bool]:
    return lambda finished: 0 < int(words(finished)[-1]) < most


def _filled_at_most(most: int) -> Callable[[Finished], bool]:
    def held(finished: Finished) -> bool:
        said = words(finished)
        if finished.reason == "written":
            return True
        return said[0] in ("EFBIG", "ENOSPC", "EDQUOT") and int(said[1]) <= most

    return held


def _output_bounded(finished: Finished) -> bool:
    whole = 4096 * 65536 + len("the end")
    return (
        len(finished.stdout) <= SMALL.output
        and finished.stdout.endswith(b"the end")
        and len(finished.stdout) + finished.dropped == whole
    )


ABUSES = {
    "a fork bomb": Abuse("processes", FORKS, _count_below(SMALL.processes)),
    "8 GiB in one process": Abuse(
        "memory",
        ONE_ALLOCATION,
        # gVisor's kernel may also end itself when it gets no more.
        lambda finished: finished.reason in ("memory", "killed") or words(finished) == ["refused"],
        timeout=60.0,
    ),
    "512 MiB in each of 16 processes": Abuse(
        "memory", MANY_ALLOCATIONS, lambda finished: finished.reason == "memory", limits=LARGE
    ),
    "one large file": Abuse(
        "file_size",
        FILL,
        _filled_at_most(SMALL.file_size),
        (".", "1", str(1 << 30)),
        granted=True,
    ),
    "many files in a private workspace": Abuse(
        "written", FILL, _filled_at_most(SMALL.tmp_size), (".", "400", str(4 * MiB))
    ),
    "many files in a granted folder": Abuse(
        "written",
        FILL,
        lambda finished: finished.reason == "written",
        (".", "400", str(4 * MiB)),
        granted=True,
    ),
    "an endless loop": Abuse(
        "wall", LOOP, lambda finished: finished.reason == "timeout", timeout=0.3
    ),
    "a wall clock for the whole sandbox": Abuse(
        "wall",
        LOOP,
        lambda finished: finished.reason == "timeout",
        limits=replace(SMALL, wall_seconds=4.0),
    ),
    "four busy processes": Abuse(
        "cpu",
        BURN,
        lambda finished: finished.reason == "cpu",
        limits=replace(SMALL, cpu_seconds=1),
    ),
    "256 MiB of output": Abuse("output", FLOOD, _output_bounded),
    "all descriptors": Abuse("open_files", DESCRIPTORS, _count_below(SMALL.open_files)),
    "a daemon at the time-out": Abuse(
        "kill_tree",
        DAEMON,
        lambda finished: finished.reason == "timeout",
        ("stay",),
        timeout=0.5,
    ),
    "a daemon after the end": Abuse(
        "kill_tree", DAEMON, lambda finished: finished.code == 0, ("leave",)
    ),
}
