"""The system-call filter of the sandbox, as classic BPF made in plain Python.

A deny list on top of namespaces: what the kernel offers and a tool has no business with gets
``EPERM``; what has a fallback in every program (new variants whose arguments a filter cannot
read, memory outside of every count) gets ``ENOSYS``, as on an older kernel; numbers that this
filter does not know get ``ENOSYS`` as well. Another architecture's calls kill the process.

A process without namespaces of its own (``shared``) shares more with the host than it may touch:
there sockets, queues, watches, other processes' limits and the owner, mode and times of files
are denied as well, which neither Landlock nor the kernel's user check keeps from it.

Source: seccomp(2), linux/filter.h; numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass
from functools import cache

from corral.errors import SandboxError

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_LAST_KNOWN = 462  # mseal, Linux 6.10; the same on every architecture
_NAMESPACES = 0x7E020000  # every CLONE_NEW* that clone(2) takes
_SETUID_SETGID = 0o6000
_CREATES = 0o100 | 0o20000000  # O_CREAT, and the bit of O_TMPFILE that is not O_DIRECTORY
_TERMINAL_INPUT = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: the network namespace is empty
_PROTOCOLS = (0, 1, 6, 17)  # others load modules of the kernel: SCTP, DCCP, MPTCP, L2TP, SMC
_CONNECTED = tuple(  # SOCK_STREAM and SOCK_SEQPACKET, which cannot be sent to an address
    kind | flags for kind in (1, 5) for flags in (0, 0o4000, 0o2000000, 0o2004000)
)
_CORE = 4  # RLIMIT_CORE: raised or at 0, a crash starts the host's handler of core dumps
_PERSONALITIES = (0, 8, 0xFFFFFFFF)  # PER_LINUX, PER_LINUX32, and asking for the present one

# name: (x86_64, aarch64); None where the architecture has no such call
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}

_HIDDEN: dict[str, tuple[int, int]] = {
    "clone3": (435, 435),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "listmount": (458, 458),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "openat2": (437, 437),
    "statmount": (457, 457),
}

_DENIED_WHEN_SHARED: dict[str, tuple[int | None, int | None]] = {
    "bind": (49, 200),
    "chmod": (90, None),
    "chown": (92, None),
    "connect": (42, 203),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "fremovexattr": (199, 16),
    "fsetxattr": (190, 7),
    "futimesat": (261, None),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "ioprio_set": (251, 30),
    "lchown": (94, None),
    "lremovexattr": (198, 15),
    "lsetxattr": (189, 6),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "msgctl": (71, 187),
    "msgrcv": (70, 188),
    "msgsnd": (69, 189),
    "process_mrelease": (448, 448),
    "removexattr": (197, 14),
    "semctl": (66, 191),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "setxattr": (188, 5),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "utime": (132, None),
    "utimes": (235, None),
}

# name: (x86_64, aarch64, the argument that must be 0): the caller itself, or an open file.
_OWN_WHEN_SHARED: dict[str, tuple[int, int, int]] = {
    "sched_setaffinity": (203, 122, 0),
    "sched_setattr": (314, 274, 0),
    "sched_setparam": (142, 118, 0),
    "sched_setscheduler": (144, 119, 0),
    "utimensat": (280, 88, 1),
}

# name: (x86_64, aarch64, index of the mode argument, index of the flags that make it count)
_MODES: dict[str, tuple[int | None, int | None, int, int | None]] = {
    "chmod": (90, None, 1, None),
    "fchmod": (91, 52, 1, None),
    "fchmodat": (268, 53, 2, None),
    "fchmodat2": (452, 452, 2, None),
    "open": (2, None, 2, 1),
    "openat": (257, 56, 3, 2),
    "creat": (85, None, 1, None),
    "mknod": (133, None, 1, None),
    "mknodat": (259, 33, 2, None),
}


@dataclass(frozen=True)
class _Machine:
    column: int
    audit: int
    clone: int
    ioctl: int
    socket: int
    socketpair: int
    personality: int
    setpriority: int
    setrlimit: int
    prlimit: int
    x32: bool


_MACHINES = {
    "x86_64": _Machine(0, 0xC000003E, 56, 16, 41, 53, 135, 141, 160, 302, x32=True),
    "aarch64": _Machine(1, 0xC00000B7, 220, 29, 198, 199, 92, 140, 164, 261, x32=False),
}

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _fail(code: int) -> _Instruction:
    return (_RETURN, 0, 0, _ERRNO | code)


def _when(number: int, body: list[_Instruction]) -> list[_Instruction]:
    """Run ``body`` for one system call only; it must leave the number loaded if it falls out."""
    return [(_EQUAL, 0, len(body), number), *body]


def _argument(index: int) -> _Instruction:
    # The low half, little endian: each argument read here is an int, a mode or a flag word.
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _mode(number: int, index: int, flags: int | None) -> list[_Instruction]:
    check: list[_Instruction] = [
        _argument(index),
        (_ANY_BIT, 0, 1, _SETUID_SETGID),
        _fail(errno.EPERM),
    ]
    if flags is not None:
        check = [_argument(flags), (_ANY_BIT, 0, len(check), _CREATES), *check]
    return _when(number, [*check, (_RETURN, 0, 0, _ALLOW)])


def _among(index: int, values: tuple[int, ...], code: int) -> list[_Instruction]:
    """Fail unless the argument is one of ``values``; otherwise go on."""
    tests = [(_EQUAL, len(values) - at, 0, value) for at, value in enumerate(values)]
    return [_argument(index), *tests, _fail(code)]


def _none_of(index: int, values: tuple[int, ...]) -> list[_Instruction]:
    """Fail if the argument is one of ``values``; otherwise go on."""
    last = len(values) - 1
    tests = [(_EQUAL, last - at, int(at == last), value) for at, value in enumerate(values)]
    return [_argument(index), *tests, _fail(errno.EPERM)]


def _calls_with_arguments(machine: _Machine, *, shared: bool) -> list[_Instruction]:
    allow = (_RETURN, 0, 0, _ALLOW)
    no_namespace = [_argument(0), (_ANY_BIT, 0, 1, _NAMESPACES), _fail(errno.EPERM)]
    family, protocol = errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT
    bodies = {
        machine.clone: no_namespace,
        machine.ioctl: _none_of(1, _TERMINAL_INPUT),
        machine.personality: _among(0, _PERSONALITIES, errno.EPERM),
        machine.socket: [*_among(0, _FAMILIES, family), *_among(2, _PROTOCOLS, protocol)],
        machine.socketpair: _among(0, _FAMILIES[:1], family),
        machine.setrlimit: _none_of(0, (_CORE,)),
        machine.prlimit: _keep_core_limit(),
    }
    if shared:
        bodies[machine.socket] = [_fail(family)]
        bodies[machine.socketpair] += _among(1, _CONNECTED, protocol)
        bodies[machine.setpriority] = [*_among(0, (0,), errno.EPERM), *_among(1, (0,), errno.EPERM)]
        bodies[machine.prlimit] = [*_zero(0), *bodies[machine.prlimit]]
        for *numbers, index in _OWN_WHEN_SHARED.values():
            bodies[numbers[machine.column]] = _zero(index)
    program: list[_Instruction] = []
    for number, body in bodies.items():
        program += _when(number, [*body, allow])
    return program


def _modes(machine: _Machine) -> list[_Instruction]:
    program: list[_Instruction] = []
    for x86, arm, index, flags in _MODES.values():
        number = (x86, arm)[machine.column]
        if number is not None:
            program += _mode(number, index, flags)
    return program


def _keep_core_limit() -> list[_Instruction]:
    """Fail if prlimit64 would set the limit of core dumps; reading it is fine."""
    setting = _zero(2)
    return [_argument(1), (_EQUAL, 0, len(setting), _CORE), *setting]


def _zero(index: int) -> list[_Instruction]:
    """Fail unless the argument is 0; both halves, since it may be an address."""
    high = (_LOAD, 0, 0, _ARGUMENTS + 8 * index + 4)
    return [*_among(index, (0,), errno.EPERM), high, (_EQUAL, 1, 0, 0), _fail(errno.EPERM)]


@cache
def program(machine_name: str = "", *, shared: bool = False) -> bytes:
    """The filter for a machine (``platform.machine()`` by default), as ``struct sock_filter[]``.

    ``shared`` is for a process without namespaces of its own.
    Raises ``SandboxError`` on an architecture for which there is no table.
    """
    machine = _machine(machine_name)
    lines = _header(machine)
    lines += [(_AT_LEAST, 0, 1, _LAST_KNOWN + 1), _fail(errno.ENOSYS)]
    denied = {**_DENIED, **_DENIED_WHEN_SHARED} if shared else _DENIED
    for table, code in ((denied, errno.EPERM), (_HIDDEN, errno.ENOSYS)):
        for numbers in table.values():
            number = numbers[machine.column]
            if number is not None:
                lines += _when(number, [_fail(code)])
    lines += _calls_with_arguments(machine, shared=shared)
    lines += _modes(machine)
    return _packed(lines)


@cache
def modes_program(machine_name: str = "") -> bytes:
    """A filter that only keeps files from getting set-id bits. See ``program``."""
    machine = _machine(machine_name)
    return _packed([*_header(machine), *_modes(machine)])


def _machine(name: str) -> _Machine:
    machine = _MACHINES.get(name or platform.machine())
    if machine is None:
        raise SandboxError(
            f"There is no system-call filter for the architecture {name or platform.machine()!r}.",
            hint='Run Corral on x86_64 or aarch64, or set sandbox = "none" and accept the risk.',
        )
    return machine


def _header(machine: _Machine) -> list[_Instruction]:
    lines: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.x32:
        lines += [(_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL_PROCESS)]
    return lines


def _packed(lines: list[_Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *line) for line in [*lines, (_RETURN, 0, 0, _ALLOW)])
