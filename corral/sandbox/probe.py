"""Does the sandbox hold? Start one with canaries around it, try everything, and say."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Grant, LocalBackend, Profile

_TIMEOUT = 30.0
_TAIL = 600

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
can(lambda: write(outside, b"x"))  # at best into a private folder of the same name
core = "/proc/sys/kernel/core_pattern"
print(json.dumps({
    "reads a file of the host": can(lambda: read(secret)),
    "writes to the system": can(lambda: write("/usr/corral-canary", b"x")),
    "connects to a service of the host": can(
        lambda: socket.create_connection(("127.0.0.1", port), 2)),
    "sees the host's environment": environment(),
    "changes kernel settings": can(lambda: write(core, read(core))),
    "has capabilities": b"CapEff:\\t0000000000000000" not in read("/proc/self/status"),
    "runs as root": os.getuid() == 0,
    "runs without a system-call filter": b"Seccomp:\\t2" not in read("/proc/self/status"),
    "cannot write where it may": not can(lambda: write("canary", b"x")),
}))
"""


def probe(backend: LocalBackend) -> Health:
    """Run the canaries under ``backend``. Never raises ``SandboxError``: it is in the answer."""
    with (
        tempfile.TemporaryDirectory(prefix="corral-probe-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        base = Path(folder)
        workspace = base / "workspace"
        workspace.mkdir()
        secret = base / "secret"
        secret.write_text("canary")
        token = secrets.token_hex(16)
        port = server.getsockname()[1]
        order = json.dumps([str(secret), port, str(base / "outside"), token])
        command = (str(host.interpreter()), "-I", "-S", "-c", _CANARIES, order)
        profile = Profile(grants=(Grant(workspace, writable=True),), workdir=workspace)
        try:
            launch = backend.launch(command, profile)
        except SandboxError as error:
            return Health(backend.name, ok=False, detail=error.message, hint=error.hint)
        done = _run(launch.argv, {**launch.env, "CORRAL_CANARY": token})
        return _judge(backend.name, done, escaped=(base / "outside").exists())


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


def _judge(name: str, done: subprocess.CompletedProcess[str], *, escaped: bool) -> Health:
    try:
        results: dict[str, bool] = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.strip()[-_TAIL:] or f"exit status {done.returncode}"
        return Health(name, ok=False, detail=f"It does not start: {words}", hint=_advice(words))
    results["writes outside of its folders"] = escaped
    broken = [what for what, happened in results.items() if happened]
    if broken:
        return Health(
            name,
            ok=False,
            detail=f"It does not hold: the code inside {'; '.join(broken)}.",
            hint="Do not run tools here; report this with the output of corral doctor.",
        )
    return Health(name, ok=True, detail=f"{len(results)} canary checks hold.")


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
