"""What a sandbox costs, for every back end that works here, against plain ``subprocess``.

All in one run, the sides in turn; times are medians. A table has one column a back end:

    start           from the launch to the first statement of a Python in there
    open            a whole sandbox, ready for commands
    command         ``true`` in an open sandbox, to its end
    fresh run       ``1 + 1`` in an interpreter that nothing ran in before
    warm call       ``1 + 1`` in a session
    50 at once      50 commands in one sandbox, together
    50 sandboxes    opened, used and stopped, together
    idle            memory (PSS) of an idle sandbox, with supervisor and launcher
    + a session     what an idle session, with an interpreter that waits ready, adds to that
    write, read     a file of 128 MiB in a granted folder
    end             from the time-out of a tree with a daemon until nothing of it is left
    overshoot       what 16 processes got above the limit on their memory, in percent
    proxied         one HTTP request through the proxy, beside the same one without

``e2b`` is the service's SDK over a stand-in for the service on this machine: what the client side
costs, without a network. Published figures of others are quoted below the table; they are from
other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import os
import shutil
import statistics
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import corral
from corral.errors import CorralError
from corral.sandbox import host
from corral.sandbox.backends.monty import MontyBackend
from corral.sandbox.contract import Command, Grant, Limits, MiB, Profile, Sandbox, SandboxBackend
from corral.sandbox.launcher import tree
from corral.sandbox.local.starter import start
from corral.sandbox.network.rules import Network, NetworkRule
from corral.sandbox.registry import BACKENDS
from tests.sandbox.e2b.service import running

PLAIN = "subprocess"
SIDES = ("bubblewrap", "landlock", "gvisor", "none", "monty", "e2b")
FIRST_STATEMENT = "import os; os.write(1, b'.'); os.read(0, 1)"
PUBLISHED = (
    ("docker run", "195 to 568 ms to start (arXiv 2602.15214 and others)"),
    ("E2B", "about 150 ms to start, claimed; 442 to 467 ms measured by others from a laptop"),
)
DAEMON = "setsid sleep 600 & sleep 600"
GREEDY = """
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
time.sleep(60)
"""
WRITE = """
import os, time
began = time.perf_counter()
with open("file", "wb", buffering=0) as file:
    for _ in range(128):
        file.write(bytes(1 << 20))
print(128 / (time.perf_counter() - began))
began = time.perf_counter()
with open("file", "rb", buffering=0) as file:
    while file.read(1 << 20):
        pass
print(128 / (time.perf_counter() - began))
"""
ASK = """
import time, urllib.request
began = time.perf_counter()
urllib.request.urlopen("http://127.0.0.1:PORT/").read()
print(time.perf_counter() - began)
"""

Row = dict[str, float]


class Server(http.server.BaseHTTPRequestHandler):
    """Answers everything at once."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None: ...


@contextmanager
def service() -> Iterator[int]:
    """The port of an HTTP service on the loopback of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@asynccontextmanager
async def opened(name: str, profile: Profile | None = None) -> AsyncIterator[Sandbox]:
    sandbox = await BACKENDS[name]().open(profile or Profile())
    try:
        yield sandbox
    finally:
        await sandbox.stop()


@asynccontextmanager
async def granted(name: str) -> AsyncIterator[Sandbox]:
    """A sandbox that works in a folder of this machine, on the disk that others use."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        async with opened(name, Profile((Grant(place, writable=True),), place)) as sandbox:
            yield sandbox


async def timed(times: int, act: Callable[[], Awaitable[object]]) -> float:
    """Median milliseconds; the first is left out."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        await act()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken[1:])


def python(code: str) -> tuple[str, ...]:
    return (str(host.interpreter()), "-I", "-S", "-c", code)


async def until_first_statement(name: str, times: int) -> float:
    """Median milliseconds from the launch until the code inside says something."""
    taken = []
    for _ in range(times + 1):
        said, tell = os.pipe()
        hold, release = os.pipe()
        argv = python(FIRST_STATEMENT)
        launch = None if name == PLAIN else BACKENDS[name]().launch(argv, Profile())
        began = time.perf_counter()
        if launch is None:
            process = spawned(argv, hold, tell)
        else:
            started = await start(launch, (hold, tell, 2))
        await asyncio.to_thread(os.read, said, 1)
        taken.append((time.perf_counter() - began) * 1e3)
        for fd in (said, tell, hold, release):
            os.close(fd)
        if launch is None:
            process.wait()
        else:
            await started.wait()
    return statistics.median(taken[1:])


def spawned(argv: tuple[str, ...], stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=stdin, stdout=stdout)


def said_by(argv: tuple[str, ...], folder: str | None = None) -> list[float]:
    """The numbers that a plain process prints."""
    done = subprocess.run(argv, cwd=folder, capture_output=True, check=True)
    return [float(word) for word in done.stdout.split()]


async def plain(times: int) -> Row:
    """What there is to compare with."""

    async def command() -> None:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    async def fresh() -> None:
        process = await asyncio.create_subprocess_exec(*python("1 + 1"))
        await process.wait()

    async def fifty() -> None:
        await asyncio.gather(*(command() for _ in range(50)))

    with tempfile.TemporaryDirectory() as folder, service() as port:
        write, read = said_by(python(WRITE), folder)
        (asked,) = said_by(python(ASK.replace("PORT", str(port))))
    return {
        "start ms": await until_first_statement(PLAIN, times),
        "command ms": await timed(times, command),
        "fresh run ms": await timed(times, fresh),
        "50 at once ms": await timed(3, fifty),
        "write MiB/s": write,
        "read MiB/s": read,
        "proxied ms": asked * 1e3,
    }


async def sandboxed(name: str, times: int) -> Row:
    row: Row = {"start ms": await until_first_statement(name, times)}

    async def open_and_stop() -> None:
        async with opened(name) as sandbox:
            await sandbox.run(Command(["true"]))

    async def fifty_sandboxes() -> None:
        await asyncio.gather(*(open_and_stop() for _ in range(50)))

    began = time.perf_counter()
    async with opened(name) as sandbox:
        row["open ms"] = (time.perf_counter() - began) * 1e3
        idle = memory_below(os.getpid())
        row["idle MiB"] = idle / MiB
        row["command ms"] = await timed(times, lambda: sandbox.run(Command(["true"])))
        row["fresh run ms"] = await timed(times, lambda: sandbox.run_code("1 + 1"))
        session = await sandbox.session()
        row["warm call ms"] = await timed(times * 10, lambda: session.run("1 + 1"))
        row["+ a session MiB"] = (memory_below(os.getpid()) - idle) / MiB

        async def fifty() -> None:
            await asyncio.gather(*(sandbox.run(Command(["true"])) for _ in range(50)))

        row["50 at once ms"] = await timed(3, fifty)
        async with granted(name) as working:
            done = await working.run(Command(python(WRITE)))
        row["write MiB/s"], row["read MiB/s"] = map(float, done.stdout.split())
        late = Command(["sh", "-c", DAEMON], timeout=0)
        row["end ms"] = await timed(5, lambda: sandbox.run(late))
    if name != "gvisor":
        row["50 sandboxes ms"] = await timed(1, fifty_sandboxes)
    row["overshoot %"] = await overshoot(name)
    if name == "bubblewrap":
        row["proxied ms"] = await proxied(name, times)
    return row


async def elsewhere(backend: SandboxBackend, times: int) -> Row:
    """What there is of a sandbox that is no process of ours."""
    began = time.perf_counter()
    async with corral.open_sandbox(backend) as sandbox:
        row = {"open ms": (time.perf_counter() - began) * 1e3}
        if backend.name != "monty":
            row["command ms"] = await timed(times, lambda: sandbox.run(Command(["true"])))
        row["fresh run ms"] = await timed(times, lambda: sandbox.run_code("1 + 1"))
        session = await sandbox.session()
        row["warm call ms"] = await timed(times * 10, lambda: session.run("1 + 1"))
    return row


async def side(name: str, times: int) -> Row:
    """One column. E2B is its SDK over our stand-in on this machine, so its own part alone."""
    if name == "monty":
        return await elsewhere(MontyBackend(), times)
    if name != "e2b":
        return await sandboxed(name, times)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as standin:
        return await elsewhere(standin.backend(), times)


async def overshoot(name: str) -> float:
    limit = 1024 * MiB
    async with opened(name, Profile(limits=Limits(memory=limit))) as sandbox:
        session = asyncio.create_task(sandbox.run(Command(python(GREEDY))))
        taken = 0
        while not session.done():
            try:
                data = await sandbox.files.read("taken")
                taken = max(taken, sum(struct.unpack("16q", data[:128])))
            except (CorralError, struct.error):
                await asyncio.sleep(0)
        return (taken / limit - 1) * 100


async def proxied(name: str, times: int) -> float:
    with service() as port:
        rule = NetworkRule("127.0.0.1", (port,), private=True)
        code = ASK.replace("PORT", str(port))
        async with opened(name, Profile(network=Network((rule,)))) as sandbox:
            session = await sandbox.session()
            taken = [float((await session.run(code)).stdout) for _ in range(times + 1)]
    return statistics.median(taken[1:]) * 1e3


def memory_below(root: int) -> int:
    """PSS of all processes below ``root``, in bytes."""
    total = 0
    for pid in tree.descendants(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


async def measure(names: list[str], times: int) -> dict[str, Row]:
    found = {PLAIN: await plain(times)}
    for name in names:
        if name == "gvisor" and shutil.which("runsc") is None:
            continue
        try:
            found[name] = await side(name, times)
        except CorralError as error:
            print(f"{name}: {error.message}")
    return found


async def churn(name: str, times: int) -> None:
    """Start and stop ``times`` sandboxes, and say what is left."""
    before = set(tree.descendants(os.getpid()))
    for _ in range(times):
        async with corral.open_sandbox(name) as sandbox:
            await sandbox.run(Command(["true"]))
    left = set(tree.descendants(os.getpid())) - before
    print(f"{times} sandboxes of {name}: {len(left) - 1} processes left besides the launcher")


def show(found: dict[str, Row]) -> None:
    names = list(found)
    print(f"{'':18}" + "".join(f"{name:>20}" for name in names))
    for label in dict.fromkeys(label for row in found.values() for label in row):
        cells = ""
        for name in names:
            value, base = found[name].get(label), found[PLAIN].get(label)
            ratio = f" ({value / base:.1f}x)" if value and base and name != PLAIN else ""
            cells += f"{'-' if value is None else f'{value:.2f}{ratio}':>20}"
        print(f"{label:18}{cells}")
    for name, text in PUBLISHED:
        print(f"{name}: {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--backend", action="append", choices=SIDES, help="all when left out")
    parser.add_argument("--churn", type=int, default=0, help="start and stop so many, no table")
    arguments = parser.parse_args()
    names = arguments.backend or list(SIDES)
    if arguments.churn:
        asyncio.run(churn(names[0], arguments.churn))
    else:
        show(asyncio.run(measure(names, arguments.times)))


if __name__ == "__main__":
    main()
