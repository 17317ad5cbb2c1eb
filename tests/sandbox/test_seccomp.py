"""The filter's program, executed by a small BPF machine: also for processors that are not here."""

from __future__ import annotations

import errno
import struct

import pytest

from corral.errors import SandboxError
from corral.sandbox import seccomp

ALLOW, KILL = "allow", "kill"
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64), from asm/unistd_64.h and asm-generic/unistd.h
CALLS: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "futex": (202, 98),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "chmod": (90, None),
    "connect": (42, 203),
    "inotify_init1": (294, 26),
    "kexec_load": (246, 104),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "openat": (257, 56),
    "openat2": (437, 437),
    "personality": (135, 92),
    "prlimit64": (302, 261),
    "ptrace": (101, 117),
    "sched_setaffinity": (203, 122),
    "semget": (64, 190),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "shmat": (30, 196),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "statmount": (457, 457),
    "unshare": (272, 97),
    "utimensat": (280, 88),
}

CREATE, TEMPORARY, DIRECTORY = 0o100, 0o20200000, 0o200000

VERDICTS = [
    ("read", (), ALLOW),
    ("execve", (), ALLOW),
    ("futex", (), ALLOW),
    ("prlimit64", (), ALLOW),
    ("mount", (), errno.EPERM),
    ("unshare", (), errno.EPERM),
    ("setns", (), errno.EPERM),
    ("ptrace", (), errno.EPERM),
    ("kexec_load", (), errno.EPERM),
    ("clone3", (), errno.ENOSYS),
    ("openat2", (), errno.ENOSYS),
    ("io_uring_setup", (), errno.ENOSYS),
    ("clone", (17,), ALLOW),
    ("clone", (0x3D0F00,), ALLOW),  # a thread
    ("clone", (0x10000011,), errno.EPERM),
    ("clone", (0x00020011,), errno.EPERM),
    ("ioctl", (0, 0x5401), ALLOW),
    ("ioctl", (0, 0x5412), errno.EPERM),
    ("ioctl", (0, 0x541C), errno.EPERM),
    ("ioctl", (0, 0x5412 | 1 << 32), errno.EPERM),  # the kernel looks at the low half only
    ("socket", (1, 1), ALLOW),
    ("socket", (2, 1), ALLOW),
    ("socket", (10, 1), ALLOW),
    ("socket", (16, 3), errno.EAFNOSUPPORT),
    ("socket", (17, 3), errno.EAFNOSUPPORT),
    ("socket", (40, 1), errno.EAFNOSUPPORT),
    ("fchmod", (3, 0o755), ALLOW),
    ("fchmod", (3, 0o4755), errno.EPERM),
    ("fchmodat", (3, 0, 0o2755), errno.EPERM),
    ("fchmodat2", (3, 0, 0o2755), errno.EPERM),
    ("mknodat", (3, 0, 0o104755), errno.EPERM),
    ("openat", (3, 0, 0, 0o7777), ALLOW),  # no file is made: the mode means nothing
    ("openat", (3, 0, DIRECTORY, 0o7777), ALLOW),
    ("openat", (3, 0, CREATE, 0o644), ALLOW),
    ("openat", (3, 0, CREATE, 0o4644), errno.EPERM),
    ("openat", (3, 0, TEMPORARY, 0o4644), errno.EPERM),
    ("ioctl", (0, 0x5423), errno.EPERM),
    ("socket", (2, 1, 6), ALLOW),
    ("socket", (2, 1, 132), errno.EPROTONOSUPPORT),
    ("socket", (2, 1, 262), errno.EPROTONOSUPPORT),
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x0400000,), errno.EPERM),
    ("statmount", (), errno.ENOSYS),
    ("prlimit64", (0, 4, 0, 1), ALLOW),  # the limit of core dumps is read
    ("prlimit64", (0, 4, 1 << 40, 0), errno.EPERM),  # and set, from an address whose low half is 0
    ("prlimit64", (0, 7, 1 << 40, 0), ALLOW),
]

SHARED_VERDICTS = [
    ("read", (), ALLOW),
    ("socket", (1, 1), errno.EAFNOSUPPORT),
    ("socket", (2, 1), errno.EAFNOSUPPORT),
    ("connect", (3,), errno.EPERM),
    ("socketpair", (1, 1), ALLOW),
    ("socketpair", (1, 0o2000001), ALLOW),  # closed at the next program
    ("socketpair", (1, 2), errno.EPROTONOSUPPORT),  # datagrams can be sent to any address
    ("socketpair", (2, 1), errno.EAFNOSUPPORT),
    ("chmod", (0, 0o644), errno.EPERM),
    ("fchmod", (3, 0o644), errno.EPERM),
    ("shmat", (5,), errno.EPERM),
    ("semget", (), errno.EPERM),
    ("inotify_init1", (), errno.EPERM),
    ("setpriority", (0, 0), ALLOW),
    ("setpriority", (0, 77), errno.EPERM),
    ("setpriority", (2, 0), errno.EPERM),  # of all processes of the user
    ("prlimit64", (0, 7), ALLOW),
    ("prlimit64", (77, 7), errno.EPERM),
    ("prlimit64", (0, 4, 1 << 40), errno.EPERM),
    ("sched_setaffinity", (77,), errno.EPERM),
    ("utimensat", (3, 0), ALLOW),  # of an open file
    ("utimensat", (3, 1 << 40), errno.EPERM),
]


def execute(program: bytes, audit: int, number: int, args: tuple[int, ...]) -> str | int:
    """Run a filter on one system call: ``allow``, ``kill`` or the error number."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *(*args, *[0] * (6 - len(args))))
    lines = list(struct.iter_unpack("=HBBI", program))
    register = at = 0
    while True:
        code, yes, no, constant = lines[at]
        at += 1
        if code == 0x20:
            register = struct.unpack_from("=I", data, constant)[0]
        elif code == 0x06:
            return _verdict(constant)
        else:
            tests = {
                0x15: register == constant,
                0x35: register >= constant,
                0x45: bool(register & constant),
            }
            at += yes if tests[code] else no


def _verdict(value: int) -> str | int:
    if value == 0x7FFF0000:
        return ALLOW
    if value == 0x80000000:
        return KILL
    assert value & 0xFFFF0000 == 0x00050000
    return value & 0xFFFF


@pytest.mark.parametrize("machine", AUDIT)
@pytest.mark.parametrize(("name", "args", "verdict"), VERDICTS)
def test_verdicts(machine: str, name: str, args: tuple[int, ...], verdict: str | int) -> None:
    number = CALLS[name][machine == "aarch64"]
    assert number is not None
    assert execute(seccomp.program(machine), AUDIT[machine], number, args) == verdict


@pytest.mark.parametrize("machine", AUDIT)
@pytest.mark.parametrize(("name", "args", "verdict"), SHARED_VERDICTS)
def test_verdicts_without_namespaces(
    machine: str, name: str, args: tuple[int, ...], verdict: str | int
) -> None:
    number = CALLS[name][machine == "aarch64"]
    if number is not None:
        program = seccomp.program(machine, shared=True)
        assert execute(program, AUDIT[machine], number, args) == verdict


@pytest.mark.parametrize("machine", AUDIT)
def test_a_filter_of_modes_alone(machine: str) -> None:
    """For gVisor's own processes, which need what others may not have."""
    program, column = seccomp.modes_program(machine), machine == "aarch64"
    for name, args, verdict in (
        ("mount", (), ALLOW),
        ("fchmod", (3, 0o755), ALLOW),
        ("fchmod", (3, 0o4755), errno.EPERM),
        ("openat", (3, 0, CREATE, 0o4644), errno.EPERM),
    ):
        number = CALLS[name][column]
        assert number is not None
        assert execute(program, AUDIT[machine], number, args) == verdict


@pytest.mark.parametrize("machine", AUDIT)
def test_unknown_calls_and_other_architectures(machine: str) -> None:
    program = seccomp.program(machine)
    for number in (463, 600, 10_000):
        assert execute(program, AUDIT[machine], number, ()) == errno.ENOSYS
    for audit in (0x40000003, 0, AUDIT["aarch64" if machine == "x86_64" else "x86_64"]):
        assert execute(program, audit, 0, ()) == KILL


def test_the_second_calling_convention_of_x86_64_is_closed() -> None:
    program = seccomp.program("x86_64")
    assert execute(program, AUDIT["x86_64"], 0x40000000, ()) == KILL
    assert execute(program, AUDIT["x86_64"], 0x40000000 | 165, ()) == KILL


@pytest.mark.parametrize("machine", AUDIT)
def test_every_call_has_a_verdict(machine: str) -> None:
    """No jump leaves the program, whatever the number and the arguments."""
    for program in (seccomp.program(machine), seccomp.program(machine, shared=True)):
        _expect_a_verdict_for_all(program, machine)


def _expect_a_verdict_for_all(program: bytes, machine: str) -> None:
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    for number in range(470):
        for args in ((), (2**64 - 1,) * 6):
            assert execute(program, AUDIT[machine], number, args) is not None


def test_other_processors_are_refused() -> None:
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp.program("riscv64")
