"""The processes that search: ripgrep, or a worker of our own."""

from __future__ import annotations

import json
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.beneath import Root
from corral.mcp_servers.files.globbing import parse
from corral.mcp_servers.tool import JsonObject, ToolFault
from corral.sandbox.guest.names import TRASH

MAX_FILE = 8 * 1024 * 1024
"""The largest file, in bytes, that is searched."""

MAX_TEXT = 300
"""How much of a line is given, in characters."""

_MAX_OUTPUT = 16 * 1024 * 1024
_MAX_LINE = 64 * 1024
_LOOK = 0.1
_RG_LINE = re.compile(rb"([^\0]+)\0(\d{1,12})([:-])(.*)", re.DOTALL)
_RG_COUNT = re.compile(rb"([^\0]+)\0(\d{1,12})")
_MAX_ERROR = 2000


class Order(NamedTuple):
    """What to search for, and where: ``parts`` lead there from the root."""

    pattern: str
    glob: str
    parts: tuple[str, ...]
    context: int
    counts: bool


class Found(NamedTuple):
    """A line that matches, or stands beside one that does; or in how many lines (``line``) of a
    file there are matches.
    """

    path: str
    line: int
    text: str
    match: bool

    def as_match(self) -> JsonObject:
        """As the tool's result has it."""
        return {"path": self.path, "line": self.line, "text": self.text, "match": self.match}

    def as_count(self) -> JsonObject:
        """The same where lines are only counted."""
        return {"path": self.path, "lines": self.line}


class Finder:
    """A process that prints what it finds, a line each. Leaving the context kills it."""

    def __init__(
        self,
        command: list[str],
        root: Root,
        read: Callable[[bytes], Found | None],
        judge: Callable[[int, str], None],
    ) -> None:
        import subprocess  # only a search needs it

        self._read, self._judge = read, judge
        self.cut = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=root.path,
            pass_fds=(root.fd,),
        )

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def found(self) -> Iterator[Found | None]:
        """What is found, in order; ``None`` when there was nothing for a moment.

        Ends early, and ``cut`` is true, when it is too much. Raises ``ToolFault`` for a pattern
        that cannot be used.
        """
        taken = 0
        buffer = b""
        while (chunk := self._chunk()) != b"":
            if chunk is None:
                yield None
                continue
            taken += len(chunk)
            *lines, buffer = (buffer + chunk).split(b"\n")
            buffer = buffer[:_MAX_LINE]
            for line in lines:
                item = self._read(line)
                if item is not None:
                    yield item
            if taken > _MAX_OUTPUT:
                self.cut = True
                return
        _, errors = self._process.communicate()
        self._judge(self._process.returncode, errors[:_MAX_ERROR].decode("utf-8", "replace"))

    def _chunk(self) -> bytes | None:
        """The next output; ``None`` when there is none yet, empty at its end."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        if not select.select([output], [], [], _LOOK)[0]:
            return None
        return os.read(output, 1 << 16)


def ripgrep(root: Root, order: Order, rg: str) -> Finder:
    """Search with ripgrep, whose time is linear in what it reads."""
    what = ["--count"] if order.counts else ["--line-number", f"--context={order.context}"]
    command = [
        rg,
        *("--no-config", "--color=never", "--no-heading", "--with-filename", "--null"),
        *("--no-messages", "--no-require-git", "--no-ignore-dot", "--no-ignore-global"),
        *("--hidden", "--glob=!.git", f"--glob=!/{TRASH}", "--sort=path", "--crlf"),
        *(f"--max-columns={MAX_TEXT}", "--max-columns-preview", f"--max-filesize={MAX_FILE}"),
        *_by_name(order.glob),
        *what,
        f"--regexp={order.pattern}",
        "--",
        "/".join((".", *order.parts)),
    ]

    def read(line: bytes) -> Found | None:
        found = (_RG_COUNT if order.counts else _RG_LINE).fullmatch(line.removesuffix(b"\r"))
        if found is None:
            return None
        path = found[1].removeprefix(b"./").decode("utf-8", "surrogateescape")
        if order.counts:
            return Found(path, int(found[2]), "", match=True)
        text = found[4].decode("utf-8", "replace")
        return Found(path, int(found[2]), text, found[3] == b":")

    def judge(status: int, errors: str) -> None:
        if status == 2 and errors:
            raise ToolFault(f"The pattern is not a regular expression: {errors.strip()}")

    return Finder(command, root, read, judge)


def _by_name(glob: str) -> tuple[str, ...]:
    """Look only into files with a fitting name. ``--glob`` would find what git ignores as well."""
    wanted = parse(glob) if glob else None
    if wanted is None or wanted.negated or wanted.segments[-1] in ("*", "**"):
        return ()
    name = wanted.segments[-1]
    if not re.fullmatch(r"[\w.*?-]+", name):
        return ()  # what is special to both may not be the same to both: sorted out afterwards
    return (f"--type-add=wanted:{name}", "--type=wanted")


def worker(root: Root, order: Order) -> Finder:
    """Search with our own worker."""
    try:
        re.compile(order.pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ToolFault(f"The pattern is not a regular expression: {error}.") from error
    servers = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-I", "-S", servers, "_search", json.dumps(order._asdict())]

    def read(line: bytes) -> Found | None:
        item = json.loads(line)
        return Found(item["path"], item["line"], item["text"], item["match"])

    def judge(status: int, errors: str) -> None:
        if status:
            raise ToolFault(f"The search broke off: {errors.strip()[-300:] or status}")

    return Finder([*command, str(root.fd), str(os.getpid())], root, read, judge)
