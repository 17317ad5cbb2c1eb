"""What hostile code asks of the kernel: calls that a sandbox has no business with.

Part of ``attacks.py``. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import pty
import resource
import socket
import struct
import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

_X86 = platform.machine() == "x86_64"
_NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fanotify_init": (300, 262),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fsopen": (430, 430),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "setns": (308, 268),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_AT_FDCWD = -100
_NEW_USER = 0x10000000
_FAMILIES = {"alg": 38, "bluetooth": 31, "can": 29, "key": 15, "rds": 21, "tipc": 30, "xdp": 44}
_PROTOCOLS = {"sctp": 132, "mptcp": 262, "udplite": 136, "dccp": 33, "smc": 256}
Attacks = dict[str, Callable[[], Any]]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *args: int | bytes | None) -> bool:
    """Whether a system call succeeded."""
    return result_of(name, *args) >= 0


def result_of(name: str, *args: int | bytes | None) -> int:
    number = _NUMBERS[name][0 if _X86 else 1]
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return int(_libc.syscall(ctypes.c_long(number), *wide))


def any_works(attempts: Iterable[Callable[[], Any]]) -> bool:
    """Whether one of the attempts gives something true. All of them are made."""
    worked = False
    for attempt in attempts:
        with contextlib.suppress(OSError, ValueError):
            worked = bool(attempt()) or worked
    return worked


def done(action: Callable[..., Any], *args: Any) -> bool:
    """Do something that gives nothing back; an ``OSError`` says that it did not work."""
    action(*args)
    return True


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def namespaces_by_clone(flags: int) -> bool:
    number = _NUMBERS["clone"][0 if _X86 else 1]
    pid = _libc.syscall(ctypes.c_long(number), ctypes.c_long(flags | 17), *([ctypes.c_long(0)] * 4))
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
    return bool(pid > 0)


def joined_namespace() -> bool:
    def join(path: str) -> bool:
        fd = os.open(path, os.O_RDONLY)
        try:
            return call("setns", fd, 0)
        finally:
            os.close(fd)

    kinds = ("mnt", "net", "user", "pid")
    paths = [f"/proc/{pid}/ns/{kind}" for pid in pids() for kind in kinds]
    return any_works(partial(join, path) for path in paths)


def nested(*command: str) -> bool:
    """Whether a program makes a namespace here that it is root of."""
    done = subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=20
    )
    return done.returncode == 0


def privileges_by_prctl() -> bool:
    securebits, ambient, seccomp, mm = 28, 47, 22, 35
    zero = ctypes.c_ulong(0)

    def prctl(option: int, first: int, second: int = 0) -> bool:
        args = (ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero)
        return bool(_libc.prctl(option, *args) == 0)

    raised = prctl(ambient, 2, 21)  # PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN
    unfiltered = prctl(seccomp, 0)
    return raised or unfiltered or prctl(securebits, 1) or prctl(mm, 1, 1 << 20)


def set_id_files() -> bool:
    """Every way to leave a file that runs as its owner."""
    Path("plain").write_bytes(b"#!/bin/sh\n")
    any_works(
        (
            lambda: Path("plain").chmod(0o4755),
            lambda: Path("plain").chmod(0o2755),
            lambda: os.fchmod(os.open("plain", os.O_RDONLY), 0o4755),
            lambda: os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o4755)),
            lambda: os.mknod("node", 0o104755),
            lambda: call("fchmodat", _AT_FDCWD, b"plain", 0o4755),
            lambda: call("fchmodat2", _AT_FDCWD, b"plain", 0o4755, 0),
            lambda: call("openat", _AT_FDCWD, b"raw", os.O_CREAT | os.O_WRONLY, 0o4755),
            lambda: call("mknodat", _AT_FDCWD, b"raw2", 0o104755, 0),
        )
    )
    return any(entry.lstat().st_mode & 0o6000 for entry in Path().iterdir())


def terminal_ioctl(request: int) -> bool:
    _, terminal = pty.openpty()
    fcntl.ioctl(terminal, request, b"x\0\0\0")
    return True


def core_limit_changed() -> bool:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return True


def watched(path: str) -> bool:
    fd = result_of("inotify_init1", 0)
    return fd >= 0 and call("inotify_add_watch", fd, path.encode(), 0xFFF)


def pidfd_stolen(pid: int) -> bool:
    fd = result_of("pidfd_open", pid, 0)
    return fd >= 0 and call("pidfd_getfd", fd, 0, 0)


def memory_read(pid: int) -> bool:
    buffer = ctypes.create_string_buffer(8)
    vector = struct.pack("@PN", ctypes.addressof(buffer), 8)
    remote = struct.pack("@PN", ctypes.addressof(buffer), 8)
    return call("process_vm_readv", pid, vector, 1, remote, 1, 0)


def shared_segment(number: int, token: str) -> bool:
    """Whether a segment of the host's is attached here, or its owner loses it."""
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(number, None, 0)
    if address not in (None, ctypes.c_void_p(-1).value):
        return ctypes.string_at(address, len(token)) == token.encode()
    return call("shmctl", number, 0, None)


def attacks(order: dict[str, Any], host_pid: Callable[[], int]) -> Attacks:
    """``host_pid`` gives the number of a host's process, or raises ``OSError`` if it is hidden."""
    return _of_sockets() | _of_mounts() | _of_the_kernel() | _of_others(order, host_pid)


def _of_sockets() -> Attacks:
    exotic = [lambda f=f: socket.socket(f, socket.SOCK_RAW) for f in _FAMILIES.values()]
    exotic += [lambda f=f: socket.socket(f, socket.SOCK_SEQPACKET) for f in _FAMILIES.values()]
    loading = [
        lambda p=p, k=k: socket.socket(socket.AF_INET, k, p)
        for p in _PROTOCOLS.values()
        for k in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    ]
    return {
        "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
        "netlink": lambda: socket.socket(16, socket.SOCK_RAW),
        "packet socket": lambda: socket.socket(17, socket.SOCK_RAW),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "other socket families": lambda: any_works(exotic),
        "protocols that load modules": lambda: any_works(loading),
    }


def _of_mounts() -> Attacks:
    return {
        "set-id files": set_id_files,
        "terminal input": lambda: terminal_ioctl(0x5412),
        "terminal selection": lambda: terminal_ioctl(0x541C),
        "line discipline": lambda: terminal_ioctl(0x5423),
        "device node": lambda: call("mknodat", _AT_FDCWD, b"device", 0o020666, os.makedev(1, 1)),
        "kvm": lambda: os.open("/dev/kvm", os.O_RDWR),
        "chroot": lambda: call("chroot", b"."),
        "pivot_root": lambda: call("pivot_root", b".", b"."),
        "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "unmount": lambda: call("umount2", b"/proc", 2),
        "mount by the new calls": lambda: any_works(
            (
                lambda: call("fsopen", b"tmpfs", 0),
                lambda: call("open_tree", _AT_FDCWD, b"/", 1),
            )
        ),
        "list mounts": lambda: call("listmount", b"\0" * 24, b"\0" * 64, 8, 0),
        "user namespace by unshare": lambda: call("unshare", _NEW_USER),
        "user namespace by clone": lambda: namespaces_by_clone(_NEW_USER),
        "user namespace by clone3": lambda: call(
            "clone3", struct.pack("=11Q", _NEW_USER, *[0] * 3, 17, *[0] * 6), 88
        ),
        "user namespace by a program": lambda: nested("/usr/bin/unshare", "-Ur", "/bin/true"),
        "sandbox in the sandbox": lambda: nested(
            "/usr/bin/bwrap", "--ro-bind", "/", "/", "--unshare-all", "/bin/true"
        ),
        "join a namespace": joined_namespace,
    }


def _of_the_kernel() -> Attacks:
    return {
        "keyctl": lambda: call("keyctl", 0, -3, 1),
        "add_key": lambda: call("add_key", b"user", b"x", b"y", 1, -3),
        "bpf": lambda: call("bpf", 5, struct.pack("=128x"), 128),
        "io_uring": lambda: call("io_uring_setup", 4, struct.pack("=120x")),
        "perf": lambda: call("perf_event_open", struct.pack("=128x"), 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 1),
        "fanotify": lambda: call("fanotify_init", 0x200, 0),
        "kernel log": lambda: call("syslog", 3, b"\0" * 64, 64),
        "accounting": lambda: call("acct", b"canary"),
        "swap": lambda: call("swapon", b"canary", 0),
        "quota": lambda: call("quotactl", 0x800001 << 8, b"/dev/vda", 0, b"\0" * 128),
        "personality": lambda: call("personality", 0x0400000),
        "privileges by prctl": privileges_by_prctl,
        "core dumps": core_limit_changed,
        "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
        "open_by_handle_at": lambda: any_works(
            (
                lambda: call("open_by_handle_at", 0, struct.pack("=16x"), 0),
                lambda: call(
                    "name_to_handle_at", -100, b".", struct.pack("=I60x", 56), bytes(4), 0
                ),
            )
        ),
        "openat2": lambda: call("openat2", _AT_FDCWD, b".", struct.pack("=3Q", 0, 0, 0), 24),
        "uncounted memory (memfd)": lambda: call("memfd_create", b"x", 0),
        "uncounted memory (secret)": lambda: call("memfd_secret", 0),
        "uncounted memory (shmget)": lambda: call("shmget", 0, 4096, 0o1600),
        "uncounted memory (huge pages)": lambda: mmap.mmap(-1, 2 << 20, flags=0x40022),
    }


def _of_others(order: dict[str, Any], host_pid: Callable[[], int]) -> Attacks:
    return {
        "attach to a host process": lambda: call("ptrace", 0x4206, host_pid(), 0, 0),
        "read a host process": lambda: memory_read(host_pid()),
        "descriptors of a host process": lambda: pidfd_stolen(host_pid()),
        "compare with a host process": lambda: call("kcmp", os.getpid(), host_pid(), 1, 0, 0),
        "limits of a host process": lambda: resource.prlimit(
            host_pid(), resource.RLIMIT_CPU, (9999, 9999)
        ),
        "priority of a host process": lambda: done(os.setpriority, os.PRIO_PROCESS, host_pid(), 19),
        "priority of all of a user": lambda: (
            done(os.setpriority, os.PRIO_USER, 0, 19) and host_pid()
        ),
        "processors of a host process": lambda: done(os.sched_setaffinity, host_pid(), {0}),
        "disk priority of a host process": lambda: call("ioprio_set", 1, host_pid(), 3 << 13),
        "shared memory of the host": lambda: shared_segment(order["segment"], order["token"]),
        "message queue of the host": lambda: call("mq_open", order["token"].encode(), 2, 0, None),
        "watch a host file": lambda: watched(order["secret"]),
    }
