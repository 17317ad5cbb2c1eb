"""A PostgreSQL server for the tests of one file, in a folder of its own and without a network."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_OPTIONS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=60",
    "shared_buffers=16MB",
)


@dataclass(frozen=True)
class Server:
    """A server that listens on a socket in its folder, and runs as ``user`` if that is not us."""

    folder: Path
    user: str | None

    def tool(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's own programs."""
        as_user: dict[str, Any] = {}
        if self.user:
            as_user = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid}
            as_user["extra_groups"] = []
        return subprocess.run(
            [str(program(name)), *args],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            **as_user,
        )

    def control(self, action: str, *args: str) -> None:
        """Start, stop or restart it, and wait until it has."""
        options = " ".join(f"-c {option}" for option in _OPTIONS)
        start = ["-o", f"-k {self.folder} {options}", "-l", "log"] if action != "stop" else []
        self.tool("pg_ctl", action, "-w", "-D", "data", *start, *args)

    def new_database(self) -> str:
        """The URL of a database that nobody has used."""
        name = f"corral_{secrets.token_hex(4)}"
        self.tool("createdb", "-h", str(self.folder), "-U", "corral", name)
        return f"postgresql+psycopg://corral@/{name}?host={self.folder}"


def program(name: str) -> Path | None:
    """Where one of PostgreSQL's programs is; Debian keeps most of them out of the way."""
    known = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name)
    return known[-1] if known else Path(found) if found else None


@contextmanager
def running() -> Iterator[Server]:
    """A server while the body runs. Skips the test where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: run `make setup`")
    if not all(program(name) for name in ("initdb", "pg_ctl", "createdb")):
        pytest.skip("PostgreSQL is not installed: sudo apt-get install postgresql")
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres" if "postgres" in names else "nobody"
    folder = Path(tempfile.mkdtemp(prefix="corral-pg-", dir="/tmp"))
    if user:
        shutil.chown(folder, user)
    server = Server(folder, user)
    try:
        initdb = ("--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C")
        server.tool("initdb", "-D", "data", "-U", "corral", *initdb)
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
