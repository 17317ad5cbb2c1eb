"""What hostile code tries from inside. Runs alone, prints the names of what worked as JSON.

Not a test and no part of one: ``battery.py`` starts it in a sandbox. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.sandbox import attacks_kernel
from tests.sandbox.attacks_kernel import Attacks, any_works, done, pids

SUPERVISOR = os.getppid()


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: str, data: bytes = b"x") -> bool:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.write(data)
    return True


def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        return True


def send_from_a_pair(path: str) -> bool:
    """A pair of sockets needs no permission, and one of datagrams can be sent anywhere."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return any_works((lambda: one.sendto(b"canary", path), lambda: done(one.connect, path)))


def environments() -> bytes:
    seen = json.dumps(dict(os.environ)).encode()
    for pid in pids():
        with contextlib.suppress(OSError):
            seen += read(f"/proc/{pid}/environ")
    return seen


def host_process(marker: str) -> int:
    """The number of the process that was started with the marker; else ``OSError``."""
    for pid in pids():
        with contextlib.suppress(OSError):
            if marker.encode() in read(f"/proc/{pid}/cmdline").split(b"\0"):
                return pid
    raise ProcessLookupError


def through_proc(path: str) -> bool:
    """Read a file through the root, the folder or a descriptor of some process."""
    ways = [f"/proc/{pid}/{link}{path}" for pid in pids() for link in ("root", "cwd")]
    with contextlib.suppress(OSError):
        ways += [str(link) for link in Path(f"/proc/{SUPERVISOR}/fd").iterdir()]
    return any_works(partial(holds_the_canary, way) for way in ways)


def holds_the_canary(path: str) -> bool:
    return b"canary" in read_some(path)


def read_some(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def open_descriptors() -> bool:
    """Whether something is open that nobody here has opened."""
    found = []
    for fd in range(3, 1024):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_GETFD)
            found.append(fd)
    return bool(found)


def kill(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    return True


def stop_the_supervisor() -> bool:
    """Stop whatever started this process: nothing would watch over it any more."""
    parent = SUPERVISOR
    if parent <= 1:  # none that is visible, or the first in here
        return False
    os.kill(parent, signal.SIGSTOP)
    deadline = time.monotonic() + 1
    stopped = False
    while not stopped and time.monotonic() < deadline:
        stopped = b") T " in read(f"/proc/{parent}/stat")
    os.kill(parent, signal.SIGCONT)
    return stopped


def mode_changed(path: str) -> bool:
    """Change a file's mode, by name or through a descriptor, by something that can be undone."""
    mode = Path(path).stat().st_mode & 0o777
    fd = os.open(path, os.O_RDONLY)
    worked = any_works(
        (
            lambda: done(Path(path).chmod, mode ^ 0o022),
            lambda: done(os.fchmod, fd, mode ^ 0o022),
        )
    )
    os.close(fd)
    with contextlib.suppress(OSError):
        Path(path).chmod(mode)
    return worked


def own_program() -> bool:
    """The sandbox's own program, through the link of its process: past read-only mounts."""
    links = (f"/proc/{pid}/exe" for pid in pids() if pid != os.getpid())

    def attempt(link: str) -> bool:
        name = str(Path(link).readlink())
        if "memfd:" in name or os.path.realpath(sys.executable) == name:
            return False
        with contextlib.suppress(OSError):
            return os.open(link, os.O_WRONLY) >= 0
        fd = os.open(link, os.O_RDONLY)
        os.fchmod(fd, os.fstat(fd).st_mode & 0o777)
        return True

    return any_works(partial(attempt, link) for link in links)


def capabilities() -> bool:
    lines = read("/proc/self/status").decode().splitlines()
    # The bounding set means nothing where no program gains privileges.
    held = [int(line.split()[1], 16) for line in lines if line.startswith("Cap")]
    return "NoNewPrivs:\t0" in lines or any(held[:3]) or any(held[4:])


def gain_by_set_id() -> bool:
    """Whether a set-uid program of the system still makes its caller root."""
    done = subprocess.run(
        ["/bin/su", "-c", "echo gained"], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return os.getuid() != 0 and done.stdout.strip() == b"gained"


def linked(order: dict[str, Any]) -> bool:
    """Reach what is outside by a link that lies in the workspace."""
    Path("soft").symlink_to(order["secret"])
    readonly = order["readonly"] + "/file"

    def write_through(name: str) -> bool:
        with Path(name).open("r+b") as file:
            return bool(file.write(b"x"))

    return any_works(
        (
            lambda: read("soft"),
            lambda: done(Path("hard").hardlink_to, order["secret"]),
            lambda: done(Path("hard2").hardlink_to, readonly) and write_through("hard2"),
            lambda: call_linkat(readonly) and write_through("hard3"),
            lambda: done(Path(readonly).rename, "moved"),
        )
    )


def call_linkat(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    os.link(f"/proc/self/fd/{fd}", "hard3", follow_symlinks=True)
    return True


def removed(order: dict[str, Any]) -> bool:
    return any_works(
        (
            lambda: done(Path(order["readonly"], "file").unlink),
            lambda: done(Path(order["readonly"]).rmdir),
            lambda: done(Path(order["readonly"]).rename, order["readonly"] + "-2"),
            lambda: done(Path.cwd().rename, f"{Path.cwd()}-2"),
            lambda: done(Path(os.__file__).unlink),
        )
    )


def into_the_interpreter() -> bool:
    """Change what runs outside at the next start."""
    library = Path(os.__file__).parent
    return any_works(
        (
            lambda: write(str(library / "corral_canary.py")),
            lambda: write(str(library / "site-packages" / "corral_canary.pth")),
            lambda: os.open(os.path.realpath(sys.executable), os.O_RDWR),
            lambda: os.open(os.__file__, os.O_RDWR),
        )
    )


def into_proc(names: tuple[str, ...]) -> bool:
    """Write to settings of the kernel; each gets the value that it has."""
    return any_works(partial(written_back, f"/proc/{name}") for name in names)


def written_back(path: str) -> bool:
    return write(path, read(path))


def written_memory(pid: int) -> bool:
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0):
        return True


def limits_left_behind() -> bool:
    """Raise a hard limit again."""
    kinds = (
        resource.RLIMIT_NOFILE,
        resource.RLIMIT_FSIZE,
        resource.RLIMIT_CPU,
        resource.RLIMIT_DATA,
    )
    infinity = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    return any_works(partial(done, resource.setrlimit, kind, infinity) for kind in kinds)


def attacks(order: dict[str, Any]) -> Attacks:
    def host_pid() -> int:
        # The number may be in use inside, by something else.
        return host_process(order["token"])

    kernel = attacks_kernel.attacks(order, host_pid)
    return kernel | _of_reading(order) | _of_writing(order) | _of_reaching(order, host_pid)


def _of_reading(order: dict[str, Any]) -> Attacks:
    return {
        "inherited descriptors": open_descriptors,
        "open the host's terminal": lambda: os.open(order["terminal"], os.O_RDWR | os.O_NOCTTY),
        "read a secret": lambda: read(order["secret"]),
        "know that a host file exists": lambda: Path(order["secret"]).stat(),
        "read root's files": lambda: read("/etc/shadow"),
        "read the host's settings": lambda: any_works(
            partial(read, f"/etc/{name}") for name in ("hostname", "fstab", "machine-id")
        ),
        "read the host's users": lambda: b"root:" in read("/etc/passwd"),
        "see a secret through /proc": lambda: through_proc(order["secret"]),
        "list the host's temporary files": lambda: (
            Path(order["secret"]) in Path(order["secret"]).parent.iterdir()
        ),
        "host environment": lambda: order["token"].encode() in environments(),
    }


def _of_writing(order: dict[str, Any]) -> Attacks:
    readonly = order["readonly"] + "/file"
    return {
        "write to the system": lambda: write("/usr/corral-canary"),
        "write to /": lambda: write("/corral-canary"),
        "write to /dev": lambda: write("/dev/corral-canary"),
        "write to a read-only grant": lambda: write(order["readonly"] + "/canary"),
        "write to a read-only file": lambda: write(readonly),
        "mode of a host file": lambda: done(Path(order["secret"]).chmod, 0o600),
        "mode of a read-only file": lambda: mode_changed(readonly),
        "mode of the interpreter": lambda: mode_changed(os.path.realpath(sys.executable)),
        "time of a host file": lambda: done(os.utime, order["secret"], (1, 1)),
        "time of a read-only file": lambda: done(os.utime, readonly, (1, 1)),
        "attributes of a read-only file": lambda: done(os.setxattr, readonly, "user.x", b"x"),
        "owner of a read-only file": lambda: done(os.chown, readonly, -1, os.getgid()),
        "links out of the workspace": lambda: linked(order),
        "removal outside the workspace": lambda: removed(order),
        "change the interpreter": into_the_interpreter,
        "change the sandbox's program": own_program,
    }


def _of_reaching(order: dict[str, Any], host_pid: Callable[[], int]) -> Attacks:
    return {
        "connect to a port": lambda: connect(socket.AF_INET, ("127.0.0.1", order["port"])),
        "connect to a port of IPv6": lambda: connect(socket.AF_INET6, ("::1", order["port6"])),
        "connect to the host's address": lambda: connect(socket.AF_INET, ("192.0.2.77", 53)),
        "send a datagram out": lambda: connect(
            socket.AF_INET, ("192.0.2.77", 53), socket.SOCK_DGRAM
        ),
        "connect to an abstract socket": lambda: connect(socket.AF_UNIX, "\0" + order["token"]),
        "connect to a socket file": lambda: connect(socket.AF_UNIX, order["socket"]),
        "send to a datagram socket": lambda: send_from_a_pair(order["datagrams"]),
        "see a host process": host_pid,
        "kill a host process": lambda: kill(host_pid()),
        "memory of a host process": lambda: written_memory(host_pid()),
        "stop the supervisor": stop_the_supervisor,
        "memory of the supervisor": lambda: SUPERVISOR > 1 and written_memory(SUPERVISOR),
        "core_pattern": lambda: into_proc(("sys/kernel/core_pattern",)),
        "kernel settings": lambda: into_proc(
            (
                "sys/kernel/modprobe",
                "sys/vm/drop_caches",
                "sys/kernel/hostname",
                "sys/fs/pipe-max-size",
            )
        ),
        "control groups": lambda: any_works(
            partial(write, str(path)) for path in Path("/sys/fs/cgroup").glob("*/cgroup.procs")
        ),
        "sysrq": lambda: os.open("/proc/sysrq-trigger", os.O_WRONLY),
        "kernel memory": lambda: any_works(
            partial(read_some, name) for name in ("/proc/kcore", "/dev/mem", "/dev/kmsg")
        ),
        "root": lambda: os.getuid() == 0,
        "capabilities": capabilities,
        "gain by a set-id program": gain_by_set_id,
        "raise a limit": limits_left_behind,
    }


def works(attack: Callable[[], Any]) -> bool:
    """Make an attack in a process of its own: what it changes of that is gone for the next."""
    pid = os.fork()
    if pid == 0:
        worked = False
        try:
            worked = bool(attack())
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
        finally:
            os._exit(int(worked))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def main() -> None:
    order = json.loads(sys.argv[1])
    worked = []
    for name, attack in attacks(order).items():
        if order["only"] and name not in order["only"]:
            continue
        if works(attack):
            worked.append(name)
    # The sandbox is for working in, too.
    Path("written").write_text("by the sandbox")
    json.dump({"worked": worked, "cwd": str(Path.cwd()), "python": sys.version}, sys.stdout)


if __name__ == "__main__":
    main()
