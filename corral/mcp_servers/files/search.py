"""Search text files for a regular expression, in a process that can be ended.

By ripgrep where the server was given it. Else by a worker of our own, whose matcher (Python's) can
take longer than the universe has for some expressions; it is killed when its time is up.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from corral.mcp_servers.answer_shapes import COUNT, FLAG, MAYBE_COUNT, TEXT, array, record
from corral.mcp_servers.beneath import Place, Roots
from corral.mcp_servers.files import finders
from corral.mcp_servers.files.finders import Finder, Found, Order
from corral.mcp_servers.files.globbing import Glob, parse
from corral.mcp_servers.files.workspace import PATH, Workspace
from corral.mcp_servers.paging import page_arguments
from corral.mcp_servers.tool import READS, Answer, Call, JsonObject, Tool, ToolFault

TIMEOUT = 10.0
"""Seconds after which a search is stopped."""

_PAGE, _MOST, _MAX_CONTEXT = 200, 1000, 20


def tools(workspace: Workspace) -> list[Tool]:
    """The tool over a workspace."""
    return [
        Tool(
            name="search_files",
            title="Search in text files",
            description=(
                "Find lines that match a regular expression in a folder's text files, without "
                "what git ignores. With counts: only how many lines match in each file."
            ),
            properties={
                "pattern": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 10_000,
                    "description": "A regular expression, without look-around and "
                    "back-references. (?i) at its start ignores case.",
                },
                "path": {**PATH, "default": "."},
                "glob": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1000,
                    "description": "Search only in files with such a name or path: *.py, "
                    "src/**/*.ts, !*.min.js.",
                },
                "context": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": _MAX_CONTEXT,
                    "default": 0,
                    "description": "How many lines to give before and after each match.",
                },
                "counts": {**FLAG, "default": False},
                **page_arguments(_MOST, _PAGE),
            },
            required=("pattern",),
            effects=READS,
            run=workspace.reading(lambda roots, call: _search(roots, call, workspace.rg)),
            output=record(
                matches=array(record(path=TEXT, line=COUNT, text=TEXT, match=FLAG)),
                counts=array(record(path=TEXT, lines=COUNT)),
                complete=FLAG,
                next_offset=MAYBE_COUNT,
            ),
        )
    ]


class _Page(NamedTuple):
    """What is wanted of all that is found, and what of that there was."""

    items: list[Found]
    matches: int
    timed_out: bool
    more: bool


def _search(roots: Roots, call: Call, rg: str | None) -> Answer:
    glob = parse(call.text("glob")) if call.text("glob") else None
    with roots.at(call.text("path", ".")) as place:
        status = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind not in (stat.S_IFDIR, stat.S_IFREG):
            raise ToolFault(f"{place.shown} is neither a folder nor a file.")
        order = Order(
            pattern=call.text("pattern"),
            glob=call.text("glob"),
            parts=place.parts,
            context=int(call.number("context", 0)),
            counts=call.flag("counts"),
        )
        with _finder(place, order, rg) as finder:
            return _answer(_page(_wanted(finder.found(), glob), call, finder), call)


def _finder(place: Place, order: Order, rg: str | None) -> Finder:
    return finders.ripgrep(place.root, order, rg) if rg else finders.worker(place.root, order)


def _wanted(found: Iterator[Found | None], glob: Glob | None) -> Iterator[Found | None]:
    for item in found:
        fits = item is None or glob is None or _means(glob, item.path)
        if fits:
            yield item


def _means(glob: Glob, path: str) -> bool:
    return glob.fits(path.split("/"), folder=False) is not glob.negated


def _page(found: Iterator[Found | None], call: Call, finder: Finder) -> _Page:
    """Collect one page; ``found`` gives ``None`` now and then, when there is nothing new."""
    offset, limit = int(call.number("offset", 0)), int(call.number("limit", _PAGE))
    started = time.monotonic()
    items: list[Found] = []
    seen = 0
    for item in found:
        if call.cancelled.is_set():
            raise ToolFault("Cancelled.")
        elapsed = time.monotonic() - started
        if elapsed > TIMEOUT:
            return _Page(items, seen, timed_out=True, more=True)
        call.progress(elapsed, TIMEOUT, f"{seen} found")
        if item is None:
            continue
        seen += item.match
        if seen > offset + limit:
            return _Page(items, seen - 1, timed_out=False, more=True)
        if seen > offset or (seen == offset and not item.match and _leads(items, item)):
            items.append(item)
    return _Page(items, seen, timed_out=False, more=finder.cut)


def _leads(items: list[Found], item: Found) -> bool:
    """Whether a line of context belongs to this page; the page before has those after its end."""
    return not items or items[-1].path == item.path


def _answer(page: _Page, call: Call) -> Answer:
    offset = int(call.number("offset", 0))
    counts = call.flag("counts")
    lines = [_line(item, counts=counts) for item in page.items]
    following = page.matches if page.more and page.matches > offset else None
    if page.timed_out:
        lines.append(
            f"[stopped after {TIMEOUT:.0f} s, so there may be more: simplify the pattern, "
            "or narrow path or glob]"
        )
    elif page.more:
        lines.append(f"[there is more: narrow the search, or go on with offset={following}]")
    elif not lines:
        lines.append("No line matches." if not offset else "No more lines match.")
    data: JsonObject = {
        "matches": [] if counts else [item.as_match() for item in page.items],
        "counts": [item.as_count() for item in page.items] if counts else [],
        "complete": not page.more,
        "next_offset": following,
    }
    return Answer("\n".join(lines), data, is_error=page.timed_out and not page.items)


def _line(item: Found, *, counts: bool) -> str:
    if counts:
        return f"{item.path}: {item.line}"
    mark = ":" if item.match else "-"
    return f"{item.path}{mark}{item.line}{mark} {item.text}"
