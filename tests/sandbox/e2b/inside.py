"""What the service runs in a sandbox: envd (port 49983) and the code interpreter (port 49999).

A program of its own, standard library only, started in a real sandbox and listening on a Unix
socket. It speaks the wire protocol of the SDK: HTTP for files, Connect with JSON for processes and
the file system, lines of JSON for code.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import errno
import json
import os
import shutil
import signal
import socketserver
import stat
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Any

Json = dict[str, Any]

HOME = Path(sys.argv[1])
SOCKET = sys.argv[2]
ENVIRONMENT = {**os.environ, "HOME": str(HOME), **json.loads(sys.argv[3])}
KERNEL = Path(__file__).with_name("kernel.py")
PROCESSES: dict[int, subprocess.Popen[bytes]] = {}
CONTEXTS: dict[str, Context] = {}


class Fault(Exception):
    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Context:
    def __init__(self, cwd: str) -> None:
        self.id, self.cwd = str(uuid.uuid4()), cwd
        self.lock = threading.Lock()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(KERNEL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.cwd,
            env=ENVIRONMENT,
        )

    def restart(self) -> None:
        self.end()
        self.start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def execute(self, code: str) -> Iterator[bytes]:
        with self.lock:
            process = self.process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(code).encode() + b"\n")
            process.stdin.flush()
            for line in process.stdout:
                yield line
                if line.startswith(b'{"type": "end_of_execution"'):
                    return
            lost = {"name": "ContextRestarting", "value": "The kernel died.", "traceback": ""}
            yield json.dumps({"type": "error", **lost}).encode() + b"\n"
            if process is self.process:
                self.start()

    def describe(self) -> Json:
        return {"id": self.id, "language": "python", "cwd": self.cwd}


def resolved(path: str) -> Path:
    return HOME / path


def entry(path: Path) -> Json:
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise Fault("not_found", f"path not found: {path}", 404) from None
    link = stat.S_ISLNK(status.st_mode)
    kinds = {stat.S_IFDIR: "FILE_TYPE_DIRECTORY", stat.S_IFREG: "FILE_TYPE_FILE"}
    target = path.stat() if link and path.exists() else status
    told = {
        "name": path.name,
        "type": kinds.get(stat.S_IFMT(target.st_mode), "FILE_TYPE_UNSPECIFIED"),
        "path": str(path),
        "size": str(status.st_size),
        "mode": status.st_mode & 0o777,
        "permissions": stat.filemode(status.st_mode),
        "owner": "user",
        "group": "user",
        "modifiedTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(status.st_mtime)),
    }
    return {**told, "isSymlink": True, "symlinkTarget": str(path.readlink())} if link else told


def stat_(body: Json) -> Json:
    return {"entry": entry(resolved(body["path"]))}


def list_dir(body: Json) -> Json:
    base = resolved(body["path"])
    if not base.is_dir():
        raise Fault("not_found", f"directory not found: {base}", 404)
    found: list[Json] = []

    def walk(folder: Path, depth: int) -> None:
        for path in sorted(folder.iterdir()):
            found.append(entry(path))
            if depth > 1 and path.is_dir() and not path.is_symlink():
                walk(path, depth - 1)

    walk(base, max(1, int(body.get("depth", 1))))
    return {"entries": found}


def make_dir(body: Json) -> Json:
    path = resolved(body["path"])
    if path.is_dir():
        raise Fault("already_exists", f"directory already exists: {path}", 409)
    path.mkdir(parents=True)
    return {"entry": entry(path)}


def move(body: Json) -> Json:
    target = resolved(body["destination"])
    resolved(body["source"]).rename(target)
    return {"entry": entry(target)}


def remove(body: Json) -> Json:
    path = resolved(body["path"])
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return {}


def process_of(body: Json) -> subprocess.Popen[bytes]:
    found = PROCESSES.get(int(body["process"]["pid"]))
    if found is None:
        raise Fault("not_found", "process not found", 404)
    return found


def _stdin(body: Json) -> IO[bytes]:
    pipe = process_of(body).stdin
    assert pipe is not None
    return pipe


def send_input(body: Json) -> Json:
    try:
        found = _stdin(body)
        found.write(base64.b64decode(body["input"]["stdin"]))
        found.flush()
    except (BrokenPipeError, ValueError):
        raise Fault("failed_precondition", "the process reads no input", 400) from None
    return {}


def close_stdin(body: Json) -> Json:
    with suppress(BrokenPipeError):
        _stdin(body).close()
    return {}


def send_signal(body: Json) -> Json:
    signals = {"SIGNAL_SIGKILL": signal.SIGKILL, "SIGNAL_SIGTERM": signal.SIGTERM}
    process_of(body).send_signal(signals[body["signal"]])
    return {}


UNARY = {
    "/filesystem.Filesystem/Stat": stat_,
    "/filesystem.Filesystem/ListDir": list_dir,
    "/filesystem.Filesystem/MakeDir": make_dir,
    "/filesystem.Filesystem/Move": move,
    "/filesystem.Filesystem/Remove": remove,
    "/process.Process/SendInput": send_input,
    "/process.Process/CloseStdin": close_stdin,
    "/process.Process/SendSignal": send_signal,
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, status: int, data: Any = b"", kind: str = "application/json") -> None:
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        if body:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")  # its end is the end of the connection
        self.end_headers()
        self.close_connection = True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_one(self, routes: Callable[[str], None]) -> None:
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        try:
            routes(url.path)
        except Fault as fault:
            self.answer(fault.status, {"code": fault.code, "message": str(fault)})
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except OSError as error:
            code = "not_found" if error.errno == errno.ENOENT else "internal"
            status = 404 if error.errno == errno.ENOENT else 500
            self.answer(status, {"code": code, "message": str(error)})

    def do_GET(self) -> None:
        self.handle_one(self.get)

    def do_POST(self) -> None:
        self.handle_one(self.post)

    def do_DELETE(self) -> None:
        self.handle_one(self.delete)

    def get(self, path: str) -> None:
        if path == "/health":
            self.answer(204)
        elif path == "/contexts":
            self.answer(200, [one.describe() for one in CONTEXTS.values()])
        elif path == "/files":
            file = resolved(self.query["path"])
            entry(file)
            if not file.is_file():
                raise Fault("invalid", f"path is not a file: {file}", 400)
            self.answer(200, file.read_bytes(), "application/octet-stream")
        else:
            self.answer(404, {"code": 404, "message": "no such page"})

    def post(self, path: str) -> None:
        if path in UNARY:
            self.answer(200, UNARY[path](json.loads(self.body())))
        elif path == "/process.Process/Start":
            self.start_process(json.loads(self.body()[5:]))
        elif path == "/files":
            self.upload()
        elif path == "/execute":
            self.execute(json.loads(self.body()))
        elif path == "/contexts":
            self.body()
            made = Context(str(HOME))
            CONTEXTS[made.id] = made
            self.answer(201, made.describe())
        elif path.startswith("/contexts/"):
            self.context(path).restart()
            self.answer(204)
        else:
            self.answer(404, {"code": 404, "message": "no such page"})

    def delete(self, path: str) -> None:
        found = self.context(path)
        del CONTEXTS[found.id]
        found.end()
        self.answer(204)

    def context(self, path: str) -> Context:
        found = CONTEXTS.get(path.split("/")[2])
        if found is None:
            raise Fault("not_found", "context not found", 404)
        return found

    def upload(self) -> None:
        kind, body = self.headers["Content-Type"], self.body()
        if kind.startswith("multipart/"):
            parser = email.parser.BytesParser(policy=email.policy.HTTP)
            whole = parser.parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
            part: Any = next(iter(whole.get_payload()))
            body = part.get_payload(decode=True)
        file = resolved(self.query["path"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        self.answer(200, [{"name": file.name, "type": "file", "path": str(file)}])

    def execute(self, body: Json) -> None:
        found = CONTEXTS.get(body["context_id"])
        if found is None:
            raise Fault("not_found", "context not found", 404)
        self.stream("application/x-ndjson")
        lines = found.execute(body["code"])
        try:
            for line in lines:
                self.wfile.write(line)
        except OSError:  # the client has gone: as the service does, interrupt and finish
            found.process.send_signal(signal.SIGINT)
            for _ in lines:
                pass

    def start_process(self, body: Json) -> None:
        config = body["process"]
        process = subprocess.Popen(
            [config["cmd"], *config.get("args", [])],
            stdin=subprocess.PIPE if body.get("stdin") else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=resolved(config.get("cwd", ".")),
            env={**ENVIRONMENT, **config.get("envs", {})},
        )
        PROCESSES[process.pid] = process
        self.stream("application/connect+json")
        self.lock = threading.Lock()
        self.event({"start": {"pid": process.pid}})
        readers = [
            threading.Thread(target=self.relay, args=(name, getattr(process, name)))
            for name in ("stdout", "stderr")
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        code = process.wait()
        del PROCESSES[process.pid]
        self.event({"end": {"exitCode": max(code, -1), "exited": code >= 0, "status": str(code)}})
        self.frame(2, {})

    def relay(self, name: str, pipe: IO[bytes]) -> None:
        while piece := os.read(pipe.fileno(), 65536):
            self.event({"data": {name: base64.b64encode(piece).decode()}})

    def event(self, event: Json) -> None:
        self.frame(0, {"event": event})

    def frame(self, flag: int, message: Json) -> None:
        data = json.dumps(message).encode()
        try:
            with self.lock:
                self.wfile.write(struct.pack(">BI", flag, len(data)) + data)
        except OSError:  # the client has gone; the process goes on
            pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(SOCKET, Handler).serve_forever()
