"""Does a back end enforce its limits? Break each of them in a small sandbox, and see.

Nothing is taken from what a back end says of itself: a limit counts as enforced if the sandbox in
which it was broken was stopped, or the attempt refused.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from corral.errors import CorralError
from corral.sandbox import host
from corral.sandbox.capabilities import Limit
from corral.sandbox.contract import Command, Grant, KiB, Limits, LocalBackend, MiB, Profile, Sandbox
from corral.sandbox.network.rules import Forward, Network

_PATIENCE = 40.0
_STOPPED = 128 + 9
_PROCESSES, _FILES, _FILE_SIZE = 24, 40, MiB
_OUTPUT = 64 * KiB
_INSIDE_PORT = 4096

_COUNTS = """
import json, os, signal, time
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def count(action):
    done = 0
    try:
        while done < 100 and action():
            done += 1
    except OSError:
        pass
    return done
children = []
def fork():
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    children.append(pid)
    return True
found = {"processes": count(fork)}
for pid in children:
    os.kill(pid, 9)
found["open_files"] = count(lambda: os.open("/dev/null", os.O_RDONLY))
for fd in range(3, 100):
    try:
        os.close(fd)
    except OSError:
        pass
with open("large", "wb", buffering=0) as file:
    block = bytes(1 << 17)
    count(lambda: file.write(block))
found["file_size"] = os.stat("large").st_size
print(json.dumps(found))
"""
_MEMORY = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        break
block = b"x" * (64 << 20)
time.sleep(20)
"""
_CPU = """
import os
os.fork()
while True:
    pass
"""
_WALL = "import time; time.sleep(20)"
_WRITTEN = """
import os, time
for number in range(8):
    with open(f"part-{number}", "wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
time.sleep(20)
"""
_LEAVE = """
import os, time
ready, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        with open("beats", "ab", buffering=0) as file:
            for beat in range(2000):
                file.write(b".")
                if beat == 1:
                    os.write(tell, b".")
                time.sleep(0.01)
    os._exit(0)
os.read(ready, 1)
"""


@dataclass(frozen=True)
class Trial:
    """One attempt to break a limit, and how to tell from its end that it was held."""

    code: str
    limits: Limits
    held: Callable[[subprocess.CompletedProcess[str], Path], frozenset[Limit]]


@dataclass(frozen=True)
class Found:
    """What whole sandboxes of a back end turned out to do."""

    limits: frozenset[Limit] = frozenset()
    has_network: bool = False
    stateful: bool = False
    pauses: bool = False


def _stopped_for(limit: Limit) -> Callable[..., frozenset[Limit]]:
    def held(done: subprocess.CompletedProcess[str], folder: Path) -> frozenset[Limit]:
        del folder
        return frozenset({limit} if done.returncode == _STOPPED else ())

    return held


def _counts(done: subprocess.CompletedProcess[str], folder: Path) -> frozenset[Limit]:
    del folder
    try:
        found: Mapping[str, int] = json.loads(done.stdout)
    except ValueError:
        return frozenset()
    most: Mapping[Limit, int] = {
        "processes": _PROCESSES,
        "open_files": _FILES,
        "file_size": _FILE_SIZE,
    }
    return frozenset(limit for limit, value in most.items() if found[limit] <= value)


def _silent(done: subprocess.CompletedProcess[str], folder: Path) -> frozenset[Limit]:
    beats = folder / "beats"
    if done.returncode or not beats.exists():
        return frozenset()
    before = beats.stat().st_size
    time.sleep(0.05)  # five beats, had it lived on
    return frozenset({"kill_tree"} if beats.stat().st_size == before else ())


_PLAIN = Limits()
TRIALS: tuple[Trial, ...] = (
    Trial(_CPU, replace(_PLAIN, cpu_seconds=1), _stopped_for("cpu")),
    Trial(_MEMORY, replace(_PLAIN, memory=192 * MiB), _stopped_for("memory")),
    Trial(_WALL, replace(_PLAIN, wall_seconds=0.5), _stopped_for("wall")),
    Trial(_WRITTEN, replace(_PLAIN, written=2 * MiB), _stopped_for("written")),
    Trial(
        _COUNTS,
        replace(_PLAIN, processes=_PROCESSES, open_files=_FILES, file_size=_FILE_SIZE),
        _counts,
    ),
    Trial(_LEAVE, _PLAIN, _silent),
)


def enforced(backend: LocalBackend, base: Path) -> frozenset[Limit]:
    """The limits that were held for launches, each in a new folder below ``base``."""
    folders = [base / f"trial-{number}" for number in range(len(TRIALS))]
    with ThreadPoolExecutor(len(TRIALS)) as pool:
        found = pool.map(lambda pair: _tried(backend, *pair), zip(TRIALS, folders, strict=True))
        return frozenset[Limit]().union(*found)


def _tried(backend: LocalBackend, trial: Trial, folder: Path) -> frozenset[Limit]:
    folder.mkdir()
    command = (str(host.interpreter()), "-I", "-S", "-c", trial.code)
    profile = Profile((Grant(folder, writable=True),), folder, limits=trial.limits)
    try:
        launch = backend.launch(command, profile)
        done = subprocess.run(
            launch.argv,
            env=dict(launch.env),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (CorralError, OSError, subprocess.TimeoutExpired):
        return frozenset()
    return trial.held(done, folder)


def found_in_a_sandbox(backend: LocalBackend) -> Found:
    """What only a whole sandbox shows. Works in any thread, with or without an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_in_time(backend))).result()


async def _in_time(backend: LocalBackend) -> Found:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _try_network(backend, await _try_sandbox(backend))
    except (CorralError, OSError, TimeoutError):
        return Found()


async def _try_sandbox(backend: LocalBackend) -> Found:
    sandbox = await backend.open(Profile(limits=replace(_PLAIN, output=_OUTPUT)))
    try:
        flood = await sandbox.run(Command(("head", "-c", str(4 * _OUTPUT), "/dev/zero")))
        capped = len(flood.stdout) <= _OUTPUT < len(flood.stdout) + flood.dropped
        return Found(
            limits=frozenset({"output"} if capped else ()),
            stateful=await _keeps_state(sandbox),
            pauses=await _pauses(sandbox),
        )
    finally:
        await sandbox.stop()


async def _keeps_state(sandbox: Sandbox) -> bool:
    session = await sandbox.session()
    try:
        await session.run("kept = 42")
        return (await session.run("kept")).value == "42"
    finally:
        await session.aclose()


async def _pauses(sandbox: Sandbox) -> bool:
    """Whether nothing happens inside between pause and resume."""
    beats: asyncio.Queue[bytes] = asyncio.Queue()
    script = "while :; do echo .; sleep 0.01; done"
    command = Command(("sh", "-c", script), output=lambda _, beat: beats.put_nowait(beat))
    running = asyncio.create_task(sandbox.run(command))
    try:
        await beats.get()
        await sandbox.pause()
        await asyncio.sleep(0.02)  # what was under way arrives
        before = beats.qsize()
        await asyncio.sleep(0.05)
        paused = beats.qsize() == before
        await sandbox.resume()
        for _ in range(before + 1):
            await beats.get()
        return paused
    except CorralError:
        return False
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _try_network(backend: LocalBackend, found: Found) -> Found:
    """Whether one service that is allowed can be reached, and only so."""
    with _greeter() as port:
        forward = Forward(_INSIDE_PORT, "127.0.0.1", port, private=True)
        code = (
            "import socket; "
            f"print(socket.create_connection(('127.0.0.1', {_INSIDE_PORT}), 2).recv(9))"
        )
        try:
            sandbox = await backend.open(Profile(network=Network(forwards=(forward,))))
        except CorralError:
            return found
        try:
            done = await sandbox.run(Command((str(host.interpreter()), "-I", "-S", "-c", code)))
        finally:
            await sandbox.stop()
        return replace(found, has_network=done.stdout == b"b'welcome'\n")


@contextmanager
def _greeter() -> Iterator[int]:
    """A service on a port of the loopback that says one word to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"welcome")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
