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
CALLS = {
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
    "kexec_load": (246, 104),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "openat": (257, 56),
    "openat2": (437, 437),
    "prlimit64": (302, 261),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "socket": (41, 198),
    "unshare": (272, 97),
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
    assert execute(seccomp.program(machine), AUDIT[machine], number, args) == verdict


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
    program = seccomp.program(machine)
    assert len(program) % 8 == 0
    assert len(program) // 8 < 4096
    for number in range(470):
        for args in ((), (2**64 - 1,) * 6):
            assert execute(program, AUDIT[machine], number, args) is not None


def test_other_processors_are_refused() -> None:
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp.program("riscv64")
