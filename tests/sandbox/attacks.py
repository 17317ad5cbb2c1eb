"""What hostile code tries from inside. Runs alone, prints the names of what worked as JSON.

Not a test and no part of one: ``battery.py`` starts it in a sandbox. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_X86 = platform.machine() == "x86_64"
_NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "setns": (308, 268),
    "shmget": (29, 194),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *args: int | bytes | None) -> bool:
    """Whether a system call succeeded."""
    number = _NUMBERS[name][0 if _X86 else 1]
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return bool(_libc.syscall(ctypes.c_long(number), *wide) >= 0)


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: str, data: bytes = b"x") -> bool:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.write(data)
    return True


def connect(family: int, address: Any) -> bool:
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)
        return True


def host_environment(token: str) -> bool:
    seen = json.dumps(dict(os.environ)).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                seen += (entry / "environ").read_bytes()
            except OSError:
                continue
    return token.encode() in seen


def host_process_seen(marker: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
    return False


def kill(pid: int, marker: str) -> bool:
    # The number may be in use inside, by something else.
    if host_process_seen(marker):
        os.kill(pid, 9)
        return True
    return False


def namespaces_by_clone(flags: int) -> bool:
    number = _NUMBERS["clone"][0 if _X86 else 1]
    pid = _libc.syscall(ctypes.c_long(number), ctypes.c_long(flags | 17), *([ctypes.c_long(0)] * 4))
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)
    return bool(pid > 0)


def set_id_files() -> bool:
    """Every way to leave a file that runs as its owner."""
    Path("plain").write_bytes(b"#!/bin/sh\n")
    for attempt in (
        lambda: Path("plain").chmod(0o4755),
        lambda: Path("plain").chmod(0o2755),
        lambda: os.fchmod(os.open("plain", os.O_RDONLY), 0o4755),
        lambda: os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o4755)),
        lambda: os.mknod("node", 0o104755),
        lambda: call("fchmodat", _AT_FDCWD, b"plain", 0o4755),
        lambda: call("fchmodat2", _AT_FDCWD, b"plain", 0o4755, 0),
        lambda: call("openat", _AT_FDCWD, b"raw", os.O_CREAT | os.O_WRONLY, 0o4755),
        lambda: call("mknodat", _AT_FDCWD, b"raw2", 0o104755, 0),
    ):
        try:
            attempt()
        except OSError:
            continue
    return any(entry.stat().st_mode & 0o6000 for entry in Path().iterdir())


def capabilities() -> bool:
    lines = read("/proc/self/status").decode().splitlines()
    values = [int(line.split()[1], 16) for line in lines if line.startswith("Cap")]
    return any(values)


def gain_by_set_id() -> bool:
    """Whether a set-uid program of the system still makes its caller root."""
    done = subprocess.run(
        ["/bin/su", "-c", "id -u"], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return done.stdout.strip() == b"0"


def terminal_input() -> bool:
    import fcntl
    import pty

    _, terminal = pty.openpty()
    fcntl.ioctl(terminal, 0x5412, b"x")
    return True


def attacks(order: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    core = "/proc/sys/kernel/core_pattern"
    return {
        "read a secret": lambda: read(order["secret"]),
        "read root's files": lambda: read("/etc/shadow"),
        "see a secret through /proc": lambda: read(f"/proc/1/root{order['secret']}"),
        "write to the system": lambda: write("/usr/corral-canary"),
        "write to /": lambda: write("/corral-canary"),
        "write to /dev": lambda: write("/dev/corral-canary"),
        "write to a read-only grant": lambda: write(order["readonly"] + "/canary"),
        "host environment": lambda: host_environment(order["token"]),
        "connect to a port": lambda: connect(socket.AF_INET, ("127.0.0.1", order["port"])),
        "connect to the host's address": lambda: connect(socket.AF_INET, ("192.0.2.77", 53)),
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + order["token"]),
        "connect to a socket file": lambda: connect(socket.AF_UNIX, order["socket"]),
        "vsock": lambda: socket.socket(40, socket.SOCK_STREAM),
        "netlink": lambda: socket.socket(16, socket.SOCK_RAW),
        "packet socket": lambda: socket.socket(17, socket.SOCK_RAW),
        "see a host process": lambda: host_process_seen(order["token"]),
        "kill a host process": lambda: kill(order["pid"], order["token"]),
        "core_pattern": lambda: write(core, read(core)),
        "sysrq": lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY),
        "root": lambda: os.getuid() == 0,
        "capabilities": capabilities,
        "set-id files": set_id_files,
        "gain by a set-id program": gain_by_set_id,
        "terminal input": terminal_input,
        "device node": lambda: call("mknodat", _AT_FDCWD, b"device", 0o020666, os.makedev(1, 1)),
        "kvm": lambda: os.open("/dev/kvm", os.O_RDWR),
        "chroot": lambda: call("chroot", b"."),
        "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "user namespace by unshare": lambda: call("unshare", 0x10000000),
        "user namespace by clone": lambda: namespaces_by_clone(0x10000000),
        "user namespace by clone3": lambda: call(
            "clone3", struct.pack("=11Q", 0x10000000, *[0] * 3, 17, *[0] * 6), 88
        ),
        "join a namespace": lambda: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
        "keyctl": lambda: call("keyctl", 0, -3, 1),
        "add_key": lambda: call("add_key", b"user", b"x", b"y", 1, -3),
        "bpf": lambda: call("bpf", 5, struct.pack("=128x"), 128),
        "io_uring": lambda: call("io_uring_setup", 4, struct.pack("=120x")),
        "perf": lambda: call("perf_event_open", struct.pack("=128x"), 0, -1, -1, 0),
        "userfaultfd": lambda: call("userfaultfd", 1),
        "ptrace": lambda: call("ptrace", 0, 0, 0, 0),
        "open_by_handle_at": lambda: call("open_by_handle_at", 0, struct.pack("=16x"), 0),
        "openat2": lambda: call("openat2", _AT_FDCWD, b".", struct.pack("=3Q", 0, 0, 0), 24),
        "uncounted memory (memfd)": lambda: call("memfd_create", b"x", 0),
        "uncounted memory (shmget)": lambda: call("shmget", 0, 4096, 0o1600),
    }


def main() -> None:
    order = json.loads(sys.argv[1])
    worked = []
    for name, attack in attacks(order).items():
        if order["only"] and name not in order["only"]:
            continue
        try:
            if attack():
                worked.append(name)
        except OSError:
            continue
    # The sandbox is for working in, too.
    Path("written").write_text("by the sandbox")
    json.dump({"worked": worked, "cwd": str(Path.cwd()), "python": sys.version}, sys.stdout)


if __name__ == "__main__":
    main()
