"""A stand-in for the service, on loopback: its control plane, and the way into its sandboxes.

    python -m tests.sandbox.e2b.standin FOLDER

prints its port and serves until its standard input ends. Every sandbox is one of ours
(bubblewrap) that runs ``inside.py``; a pause freezes its processes. ``POST /-/faults`` makes the
next requests fail, ``GET /-/requests`` tells what was asked.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from corral.sandbox import host
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.contract import Grant, Limits, Profile

KEY = "e2b_stand-in-key"
HERE = Path(__file__).resolve().parent
_HOP = {"connection", "transfer-encoding", "keep-alive", "host", "date", "server", "content-length"}


class Unix(HTTPConnection):
    """HTTP to a sandbox's own server."""

    def __init__(self, path: Path) -> None:
        super().__init__("sandbox")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


class Machine:
    """One sandbox: its process, its folders, its life."""

    def __init__(self, folder: Path, body: dict[str, Any], source: Path | None) -> None:
        self.id = f"i{secrets.token_hex(8)}"
        self.token = secrets.token_hex(16)
        self.body = body
        self.paused = False
        self.folder = folder / self.id
        self.home, self.run = self.folder / "home", self.folder / "run"
        for made in (self.folder, self.run):
            made.mkdir()
        if source is None:
            self.home.mkdir()
        else:
            shutil.copytree(source, self.home, symlinks=True)
        self._process = self._start()
        self._timer: threading.Timer | None = None
        self.live(float(body.get("timeout", 300)))

    def _start(self) -> subprocess.Popen[bytes]:
        profile = Profile(
            grants=(Grant(self.home, True), Grant(self.run, True), Grant(HERE)),
            workdir=self.home,
            limits=Limits(processes=256),
        )
        server, envs = self.run / "s", json.dumps(self.body.get("envVars", {}))
        program = (str(host.interpreter()), "-I", "-S", str(HERE / "inside.py"))
        launch = BubblewrapBackend().launch((*program, str(self.home), str(server), envs), profile)
        process = subprocess.Popen(
            launch.argv, env=dict(launch.env), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not self._listens() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return process

    def live(self, seconds: float) -> None:
        """Let it end after so many seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self.seconds = seconds
        self._timer = threading.Timer(seconds, self.kill)
        self._timer.daemon = True
        self._timer.start()

    @property
    def running(self) -> bool:
        return self._process.poll() is None and not self.paused

    def _listens(self) -> bool:
        """Whether the server inside takes connections; its socket's file is there before."""
        tried = self.connection()
        try:
            tried.connect()
        except OSError:
            return False
        finally:
            tried.close()
        return True

    def connection(self) -> Unix:
        return Unix(self.run / "s")

    def freeze(self, *, on: bool) -> None:
        """Stop or continue every process of the tree, the sandbox's own first."""
        self.paused = on
        for pid in _tree(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def kill(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.paused:
            self.freeze(on=False)
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self.folder, ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        return {
            "sandboxID": self.id,
            "clientID": "stand-in",
            "templateID": self.body.get("templateID", "base"),
            "envdVersion": "0.6.7",
            "envdAccessToken": self.token,
            "domain": None,
        }


def _special(folder: str, names: list[str]) -> list[str]:
    """What is no file, folder or link."""
    paths = ((name, Path(folder, name)) for name in names)
    return [n for n, p in paths if not (p.is_symlink() or p.is_file() or p.is_dir())]


def _tree(top: int) -> list[int]:
    """All that descends from a process, without itself: our launcher stays awake to end it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            after = (entry / "stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(after[1]), []).append(int(entry.name))
    found, waiting = [], [top]
    while waiting:
        inner = children.get(waiting.pop(), [])
        found += inner
        waiting += inner
    return found


@dataclass
class Service:
    """All sandboxes, snapshots and faults."""

    folder: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    snapshots: dict[str, Path] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def fault(self, path: str) -> dict[str, Any]:
        """The fault that the next request for ``path`` has, which then has happened."""
        for fault in self.faults:
            if re.search(fault["path"], path):
                fault["times"] -= 1
                if fault["times"] == 0:
                    self.faults.remove(fault)
                return fault
        return {}

    def close(self) -> None:
        for machine in self.machines.values():
            machine.kill()


class Handler(BaseHTTPRequestHandler):
    """Control plane by path; whatever names a sandbox in its headers goes there."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: Service

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as its parent has it
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self._body()
        if self.path.startswith("/-/"):
            self._own(body)
            return
        headers = dict(self.headers)
        self.service.requests.append({"path": self.path, "headers": headers, "body": repr(body)})
        fault = self.service.fault(self.path)
        time.sleep(fault.get("slow", 0.0))
        if "status" in fault:
            extra = {"Should-Retry": "false"}
            self._answer(
                fault["status"], {"code": fault["status"], "message": fault["says"]}, extra
            )
        elif "E2b-Sandbox-Id" in self.headers:
            self._forward(body, cut=fault.get("cut"))
        elif self.headers.get("X-API-Key") != KEY:
            self._answer(401, {"code": 401, "message": f"bad key {self.headers['X-API-Key']}"})
        else:
            self._control(json.loads(body) if body else {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _own(self, body: bytes) -> None:
        if self.path == "/-/faults":
            self.service.faults.append(json.loads(body))
            self._answer(204)
        else:
            self._answer(200, self.service.requests)

    def _answer(self, status: int, data: Any = None, extra: dict[str, str] | None = None) -> None:
        body = b"" if data is None else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _control(self, body: dict[str, Any]) -> None:
        parts = self.path.strip("/").removeprefix("v2/").split("/")
        if parts == ["sandboxes"]:
            self._create(body)
            return
        machine = self.service.machines.get(parts[1])
        if machine is None or not (machine.running or machine.paused):
            self._answer(404, {"code": 404, "message": f"sandbox {parts[1]} not found"})
            return
        what = parts[2] if len(parts) > 2 else self.command
        getattr(self, f"_{what.lower()}")(machine, body)

    def _create(self, body: dict[str, Any]) -> None:
        template = body.get("templateID", "base")
        source = self.service.snapshots.get(template)
        if source is None and template.startswith(("snap-", "missing")):
            self._answer(404, {"code": 404, "message": f"template {template} not found"})
            return
        machine = Machine(self.service.folder, body, source)
        self.service.machines[machine.id] = machine
        self._answer(201, machine.describe())

    def _get(self, machine: Machine, body: dict[str, Any]) -> None:
        self._answer(200, {**machine.describe(), "seconds": machine.seconds})

    def _delete(self, machine: Machine, body: dict[str, Any]) -> None:
        del self.service.machines[machine.id]
        machine.kill()
        self._answer(204)

    def _timeout(self, machine: Machine, body: dict[str, Any]) -> None:
        machine.live(float(body["timeout"]))
        self._answer(204)

    def _pause(self, machine: Machine, body: dict[str, Any]) -> None:
        if machine.paused:
            self._answer(409, {"code": 409, "message": "it is paused"})
            return
        machine.freeze(on=True)
        self._answer(204)

    def _connect(self, machine: Machine, body: dict[str, Any]) -> None:
        if machine.paused:
            machine.freeze(on=False)
        machine.live(float(body["timeout"]))
        self._answer(200, machine.describe())

    def _snapshots(self, machine: Machine, body: dict[str, Any]) -> None:
        ref = f"snap-{secrets.token_hex(6)}"
        self.service.snapshots[ref] = self.service.folder / ref
        kept = self.service.folder / ref
        shutil.copytree(machine.home, kept, symlinks=True, ignore=_special)
        self._answer(201, {"snapshotID": ref, "names": []})

    def _forward(self, body: bytes, cut: int | None) -> None:
        machine = self.service.machines.get(self.headers["E2b-Sandbox-Id"])
        if machine is None or not machine.running:
            self._answer(502, {"code": 502, "message": "The sandbox was not found"})
            return
        wanted = self.path in ("/execute",) or self.headers["E2b-Sandbox-Port"] == "49983"
        if wanted and self.headers.get("X-Access-Token") != machine.token:
            self._answer(401, {"code": 401, "message": "no access token"})
            return
        inner = machine.connection()
        kept = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        try:
            inner.request(self.command, self.path, body, kept)
            self._relay(inner.getresponse(), cut)
        except OSError:
            self.close_connection = True
        finally:
            inner.close()

    def _relay(self, answer: HTTPResponse, cut: int | None) -> None:
        """Pass an answer on as it comes; ``cut`` breaks off after so many pieces."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length")
        streamed = length is None and answer.status != 204
        framing = "Transfer-Encoding" if streamed else "Content-Length"
        self.send_header(framing, "chunked" if streamed else length or "0")
        self.end_headers()
        while piece := answer.read1(65536):
            if cut is not None and (cut := cut - 1) < 0:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if streamed else piece)
        if streamed:
            self.wfile.write(b"0\r\n\r\n")


def main() -> None:
    service = Service(Path(sys.argv[1]))
    handler = type("Bound", (Handler,), {"service": service})
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    service.close()


if __name__ == "__main__":
    main()
