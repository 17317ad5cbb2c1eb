"""Does the sandbox hold? Start one with canaries around it, try everything, and say."""

from __future__ import annotations

import json
import os
import platform
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from corral.errors import SandboxError
from corral.sandbox import host, trials
from corral.sandbox.capabilities import Capabilities, Health, Isolation
from corral.sandbox.contract import Grant, LocalBackend, Profile

_TIMEOUT = 30.0
_TAIL = 600
_NAMESPACES = ("pid", "net", "mnt", "ipc", "uts", "user")

_CANARIES = """
import json, os, socket, sys
secret, port, outside, token = json.loads(sys.argv[1])
def can(action):
    try:
        return bool(action())
    except OSError:
        return False
def read(path):
    with open(path, "rb") as file:
        return file.read()
def write(path, data):
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        return file.write(data)
def environment():
    seen = json.dumps(dict(os.environ)).encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            seen += read(f"/proc/{pid}/environ")
        except OSError:
            pass
    return token.encode() in seen
def namespaces():
    found = {}
    for name in ("pid", "net", "mnt", "ipc", "uts", "user"):
        try:
            found[name] = os.readlink(f"/proc/self/ns/{name}")
        except OSError:
            pass
    return found
can(lambda: write(outside, b"x"))  # at best into a private folder of the same name
core = "/proc/sys/kernel/core_pattern"
linux = sys.platform == "linux"
print(json.dumps({
    "kernel": os.uname().version,
    "namespaces": namespaces() if linux else {},
    "uid": os.getuid(),
    "filtered": linux and b"Seccomp:\\t2" in read("/proc/self/status"),
    "worked": {
        "reads a file of the host": can(lambda: read(secret)),
        "writes to the system": can(lambda: write("/usr/corral-canary", b"x")),
        "connects to a service of the host": can(
            lambda: socket.create_connection(("127.0.0.1", port), 2)),
        "sees the host's environment": linux and environment(),
        "changes kernel settings": can(lambda: write(core, read(core))),
        "has capabilities":
            linux and b"CapEff:\\t0000000000000000" not in read("/proc/self/status"),
        "cannot write where it may": not can(lambda: write("canary", b"x")),
    },
}))
"""


def probe(backend: LocalBackend) -> Health:
    """Run the canaries under ``backend``, break every limit, and say what holds.

    Never raises ``SandboxError``: it is in the answer. Takes a second or two.
    """
    with tempfile.TemporaryDirectory(prefix="corral-probe-") as folder:
        base = Path(folder)
        found = _canaries(backend, base)
        if isinstance(found, Health):
            return found
        with ThreadPoolExecutor(1) as pool:
            limits = pool.submit(trials.enforced, backend, base)
            whole = trials.found_in_a_sandbox(backend)
        capabilities = Capabilities(
            isolation=_isolation(found),
            network="allowlist" if whole.has_network else "none",
            limits=limits.result() | whole.limits,
            stateful=whole.stateful,
            pause="freeze" if whole.pauses else "none",
        )
    return Health(
        backend.name,
        ok=True,
        detail=f"{len(found['worked'])} canary checks hold.",
        capabilities=capabilities,
    )


def _canaries(backend: LocalBackend, base: Path) -> dict[str, Any] | Health:
    """What the code inside reported, or that it got out, or did not start."""
    workspace, secret, outside = base / "workspace", base / "secret", base / "outside"
    workspace.mkdir()
    secret.write_text("canary")
    token = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as server:
        order = json.dumps([str(secret), server.getsockname()[1], str(outside), token])
        command = (str(host.interpreter()), "-I", "-S", "-c", _CANARIES, order)
        profile = Profile(grants=(Grant(workspace, writable=True),), workdir=workspace)
        try:
            launch = backend.launch(command, profile)
        except SandboxError as error:
            return Health(backend.name, ok=False, detail=error.message, hint=error.hint)
        done = _run(launch.argv, {**launch.env, "CORRAL_CANARY": token})
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip()[-_TAIL:] or f"exit status {done.returncode}"
        return Health(
            backend.name, ok=False, detail=f"It does not start: {words}", hint=_advice(words)
        )
    return _judged(backend.name, found, escaped=outside.exists())


def _run(argv: tuple[str, ...], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", "it did not finish in time")


def _judged(name: str, found: dict[str, Any], *, escaped: bool) -> dict[str, Any] | Health:
    worked: dict[str, bool] = found["worked"]
    worked["writes outside of its folders"] = escaped
    if _isolation(found) != "user_kernel" and platform.system() == "Linux":
        # Under a kernel of its own, neither means anything to that of the host.
        worked["runs as root"] = found["uid"] == 0
        worked["runs without a system-call filter"] = not found["filtered"]
    broken = [what for what, happened in worked.items() if happened]
    if not broken:
        return found
    return Health(
        name,
        ok=False,
        detail=f"It does not hold: the code inside {'; '.join(broken)}.",
        hint="Do not run tools here; report this with the output of corral doctor.",
    )


def _isolation(found: dict[str, Any]) -> Isolation:
    """What keeps the code inside, by the kernel and the namespaces that it sees."""
    if found["kernel"] != os.uname().version:
        return "user_kernel"
    inside: dict[str, str] = found["namespaces"]
    own = [name for name in _NAMESPACES if inside.get(name) not in (None, _namespace(name))]
    return "namespace" if len(own) == len(_NAMESPACES) else "process"


def _namespace(name: str) -> str:
    return str(Path("/proc/self/ns", name).readlink())


def _advice(words: str) -> str:
    if "ID-mapped" in words:
        return "Run Corral as an ordinary user."
    if "uid map" in words or "namespace" in words or "Operation not permitted" in words:
        return (
            "User namespaces are restricted here. Allow them: "
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
            "kernel.unprivileged_userns_clone=1 (in a container: its seccomp profile)."
        )
    return "Install bubblewrap 0.8 or later: apt-get install bubblewrap."
