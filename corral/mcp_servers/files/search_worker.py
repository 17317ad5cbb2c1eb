"""The child process of ``search_files``: match a regular expression against a folder's files."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Iterator

from corral.mcp_servers.files.finders import MAX_FILE, MAX_TEXT, Found, Order
from corral.mcp_servers.files.globbing import parse
from corral.mcp_servers.files.reading import decoded
from corral.mcp_servers.files.walking import Entry, entries, rules_at
from corral.sandbox.guest import beneath, processes
from corral.sandbox.guest.beneath import Unfit


def main(argv: list[str]) -> int:
    """Search below an inherited folder descriptor, for the server of the third argument's pid.

    Writes one JSON line for each that is found.
    """
    # Python's matcher looks at nothing else while it works, so nobody but the kernel can end it.
    processes.die_with_parent()
    if os.getppid() != int(argv[2]):
        return 1  # it ended before the kernel knew
    order = Order(**json.loads(argv[0]))
    expression = re.compile(order.pattern)
    for entry in _files(int(argv[1]), order):
        text = _text_of(entry)
        if text is not None:
            for found in _matches("/".join(entry.parts), text, expression, order):
                sys.stdout.write(json.dumps(found._asdict()) + "\n")
            sys.stdout.flush()
    return 0


def _files(root: int, order: Order) -> Iterator[Entry]:
    glob = parse(order.glob) if order.glob else None
    for entry in _below(root, tuple(order.parts)):
        wanted = glob is None or glob.fits(entry.parts, folder=False) is not glob.negated
        if wanted and stat.S_ISREG(entry.status.st_mode):
            yield entry


def _below(root: int, parts: tuple[str, ...]) -> Iterator[Entry]:
    """What is below a folder of the root, or the file that the components lead to."""
    here = os.dup(root)
    for depth, name in enumerate(parts, 1):
        status = beneath.status_of(here, name)
        if status is None or not stat.S_ISDIR(status.st_mode):
            if status is not None and depth == len(parts):
                yield Entry(here, name, parts, status)
            return
        inner = os.open(name, beneath.FOLDER, dir_fd=here)
        os.close(here)
        here = inner
    yield from entries(here, parts, rules_at(root, parts))


def _text_of(entry: Entry) -> str | None:
    if entry.status.st_size > MAX_FILE:
        return None
    try:
        with os.fdopen(beneath.open_regular(entry.folder, entry.name), "rb") as file:
            return decoded(file.read(MAX_FILE))
    except (OSError, Unfit):
        return None


def _matches(path: str, text: str, expression: re.Pattern[str], order: Order) -> Iterator[Found]:
    """The lines that match and those around them, each once, in order."""
    lines = text.splitlines()
    count = 0
    before: deque[int] = deque(maxlen=order.context)
    after = 0
    for number, line in enumerate(lines, 1):
        if expression.search(line):
            count += 1
            if not order.counts:
                yield from (_line(path, lines, near, match=False) for near in before)
                yield _line(path, lines, number, match=True)
            before.clear()
            after = order.context
        elif after:
            after -= 1
            yield from () if order.counts else (_line(path, lines, number, match=False),)
        else:
            before.append(number)
    if order.counts and count:
        yield Found(path, count, "", match=True)


def _line(path: str, lines: list[str], number: int, *, match: bool) -> Found:
    return Found(path, number, lines[number - 1][:MAX_TEXT], match)
