"""Run ``attacks.py`` under a back end, with canaries on the host. Prints a report as JSON.

Run as ``python battery.py BACKEND [ATTACK ...]``: a program of its own, so that a test can also
have it run by another user.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from corral.sandbox import host
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.contract import Grant, LocalBackend, Profile
from corral.sandbox.registry import select_backend


def backend_named(name: str) -> LocalBackend:
    if name == "packaged":
        return BubblewrapBackend(host.packaged_bubblewrap())
    if name == "system":
        return BubblewrapBackend(host.Bubblewrap(Path("/usr/bin/bwrap")))
    return select_backend(name)


def run(name: str, only: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for part in ("workspace", "readonly"):
            (base / part).mkdir()
        (base / "secret").write_text("canary")
        token = secrets.token_hex(16)
        with (
            socket.create_server(("127.0.0.1", 0)) as port,
            socket.socket(socket.AF_UNIX) as abstract,
            socket.socket(socket.AF_UNIX) as file,
            subprocess.Popen(["/bin/sh", "-c", "read x", token], stdin=subprocess.PIPE) as victim,
        ):
            abstract.bind("\0" + token)
            abstract.listen()
            file.bind(str(base / "socket"))
            file.listen()
            order = {
                "secret": str(base / "secret"),
                "readonly": str(base / "readonly"),
                "socket": str(base / "socket"),
                "port": port.getsockname()[1],
                "token": token,
                "pid": victim.pid,
                "only": only,
            }
            report = _attack(backend_named(name), base, order, token)
            report["victim_alive"] = victim.poll() is None
            victim.kill()
        written = base / "workspace" / "written"
        report["owner_kept"] = written.stat().st_uid == os.getuid()
        report["content"] = written.read_text()
        return report


def _attack(backend: LocalBackend, base: Path, order: dict[str, Any], token: str) -> dict[str, Any]:
    attacks = Path(__file__).parent / "attacks.py"
    command = (str(host.interpreter()), "-I", "-S", "-c", attacks.read_text(), json.dumps(order))
    profile = Profile(
        grants=(Grant(base / "workspace", writable=True), Grant(base / "readonly")),
        workdir=base / "workspace",
    )
    launch = backend.launch(command, profile)
    done = subprocess.run(
        launch.argv,
        env={**launch.env, "CANARY": token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        return {"failed": done.stderr[-2000:], "worked": []}
    report: dict[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    json.dump(run(sys.argv[1], sys.argv[2:]), sys.stdout)
