"""No process tree inside takes more than its limits, and what stays below is left alone."""

from __future__ import annotations

from dataclasses import replace

from corral.sandbox.contract import MiB
from tests.sandbox.inside import Inside

FORK_BOMB = """
import os, time
count = 0
try:
    for _ in range(500):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
except OSError:
    pass
print(count)
"""

EIGHT_GIGABYTES = """
import os, sys, time
for number in range(64):
    if os.fork() == 0:
        block = bytearray(128 * 1024 * 1024)
        for at in range(0, len(block), 4096):
            block[at] = 1
        open(f"held-{number}", "w").close()
        time.sleep(60)
        os._exit(0)
    time.sleep(0.01)
time.sleep(60)
"""

SHARED = """
import os
block = bytearray(150 * 1024 * 1024)
for at in range(0, len(block), 4096):
    block[at] = 1
children = []
for _ in range(4):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    children.append(write)
import time
end = time.monotonic() + 1.0
while time.monotonic() < end:
    pass
print(len(children))
"""


def test_a_fork_bomb_stops_at_the_process_limit(inside: Inside) -> None:
    inside.limits = replace(inside.limits, processes=40)
    count = inside.answer(FORK_BOMB)
    assert 20 <= count < 40


def test_two_sandboxes_do_not_share_the_process_limit(inside: Inside) -> None:
    inside.limits = replace(inside.limits, processes=40)
    with inside.start(FORK_BOMB.replace("print(count)", "print(count, flush=True); input()")) as a:
        assert a.stdout is not None
        first = int(a.stdout.readline())
        second = inside.answer(FORK_BOMB)
    assert first >= 20
    assert second >= 20


def test_a_tree_that_allocates_8_gib_is_stopped(inside: Inside) -> None:
    inside.limits = replace(inside.limits, memory=512 * MiB)
    done = inside.run(EIGHT_GIGABYTES)
    assert done.returncode == 137
    assert "corral-sandbox: stopped: its processes held" in done.stderr
    assert "limit of 512 MiB" in done.stderr
    assert len(list(inside.folder.glob("held-*"))) <= 10
    assert not inside.alive()


def test_one_greedy_process_gets_a_memory_error(inside: Inside) -> None:
    inside.limits = replace(inside.limits, memory=256 * MiB)
    code = """
try:
    block = bytearray(8 << 30)
except MemoryError:
    print('"refused"')
"""
    assert inside.answer(code) == "refused"


def test_memory_that_processes_share_counts_once(inside: Inside) -> None:
    inside.limits = replace(inside.limits, memory=256 * MiB)
    assert inside.answer(SHARED) == 4


def test_processor_time_is_limited_for_the_whole_tree(inside: Inside) -> None:
    inside.limits = replace(inside.limits, cpu_seconds=1)
    code = """
import os
os.fork()
os.fork()
while True:
    pass
"""
    done = inside.run(code)
    assert done.returncode == 137
    assert "of processor time, more than the limit of 1 s" in done.stderr


def test_files_and_temporary_space_are_limited(inside: Inside) -> None:
    inside.limits = replace(inside.limits, file_size=MiB, tmp_size=4 * MiB, open_files=32)
    code = """
import errno, json, os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def fill(pattern):
    try:
        for number in range(1000):
            with open(pattern.format(number), "wb", buffering=0) as file:
                for _ in range(8):
                    assert file.write(bytes(128 * 1024)) == 128 * 1024
        return "no limit"
    except AssertionError:
        return "short"
    except OSError as error:
        return errno.errorcode[error.errno]
def big():
    try:
        with open("big", "wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
    except OSError as error:
        return errno.errorcode[error.errno], os.stat("big").st_size
def descriptors():
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        count = len(kept)
        for fd in kept:
            os.close(fd)
        return errno.errorcode[error.errno], count
print(json.dumps([big(), fill("/tmp/{}"), fill("/dev/shm/{}"), descriptors()]))
"""
    big, temporary, shared, descriptors = inside.answer(code)
    assert big == ["EFBIG", MiB]
    assert temporary in ("ENOSPC", "short")
    assert shared in ("ENOSPC", "short")
    assert descriptors[0] == "EMFILE"
    assert descriptors[1] < 32
