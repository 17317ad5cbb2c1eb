"""What a Markdown page claims: the names that it mentions, and the blocks that can be run.

A block is marked by a comment on the line above its fence, invisible to a reader:

    <!-- run -->                                  run it; every command must exit with 0
    <!-- run: model=scripted:examples/x.yaml -->  with this model; also ``exit=3`` (the last
                                                  command's) and ``folder=NAME`` (blocks of one
                                                  page with the same name share their folder
                                                  and CORRAL_HOME, in the page's order)
    <!-- not run: why -->                         leave it alone

In a ``console`` block a line that starts with ``$ `` is a command, further lines of it end in a
backslash, and what follows up to the next command is its output; no output means any output.
``…`` stands for anything. A ``python`` block is run as a script.
"""

from __future__ import annotations

import builtins
import importlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n`]*$")
_MARK = re.compile(r"^\s*<!--\s*(?P<kind>not run|run)\s*(?::\s*(?P<rest>.*?))?\s*-->\s*$")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FILE = re.compile(r"(?<![\w/.-])[\w./-]*\w\.py\b(?!\w)")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_FILE_SUFFIXES = frozenset(
    {"cfg", "db", "gguf", "ini", "json", "jsonl", "lock", "md", "py", "sh", "sqlite", "sql"}
    | {"toml", "txt", "yaml", "yml"}
)
ELISION = "…"


@dataclass(frozen=True)
class Block:
    """One fenced block: where its text starts, what it holds and how it is marked."""

    page: str
    line: int
    language: str
    text: str
    mark: str = ""
    detail: str = ""

    @property
    def options(self) -> dict[str, str]:
        """The ``key=value`` pairs of a ``run`` mark."""
        return dict(pair.split("=", 1) for pair in shlex.split(self.detail))


@dataclass(frozen=True)
class Command:
    """One command of a ``console`` block and the output that the page shows for it."""

    line: str
    output: str


def blocks(page: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    lines = iter(enumerate(text.splitlines(), start=1))
    before = ""
    for number, line in lines:
        opening = _FENCE.match(line)
        if not opening:
            before = line if line.strip() else before
            continue
        body = _body(lines, opening["indent"])
        mark = _MARK.match(before)
        kind, detail = (mark["kind"], mark["rest"] or "") if mark else ("", "")
        yield Block(page, number + 1, opening["language"], body, kind, detail)
        before = ""


def _body(lines: Iterator[tuple[int, str]], indent: str) -> str:
    taken: list[str] = []
    for _, line in lines:
        if line.strip() == "```":
            break
        taken.append(line.removeprefix(indent))
    return "\n".join(taken) + "\n"


def commands(text: str) -> list[Command]:
    """The commands of a ``console`` block. Raises ``ValueError`` on output before any command."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif not found:
            raise ValueError(f"output before any command: {line!r}")
        elif found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found[-1][1].append(line)
    return [Command(line, "\n".join(output).strip()) for line, output in found]


def matches(shown: str, actual: str) -> bool:
    """Whether output is what a page shows: white space is loose, ``…`` stands for anything."""
    first, *others = [" ".join(part.split()) for part in shown.split(ELISION)]
    rest = " ".join(actual.split())
    if not others:
        return rest == first
    *middle, last = others
    if not rest.startswith(first):
        return False
    at = len(first)
    # A regular expression with many wildcards would try every way to place them.
    for part in middle:
        at = rest.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return rest.endswith(last) and len(rest) - len(last) >= at


def missing_files(text: str, root: Path) -> set[str]:
    """The ``*.py`` paths in a page that are no file's path under ``root``, nor the end of one."""
    folders = ("corral", "tests", "bench", "examples", "scripts", "docs")
    known = [
        f"/{path.relative_to(root)}" for name in folders for path in (root / name).rglob("*.py")
    ]
    mentioned = set(_FILE.findall(text))
    return {name for name in mentioned if not any(path.endswith(f"/{name}") for path in known)}


def dotted_names(text: str) -> set[str]:
    """The dotted Python names in a page's code spans: ``module.Class.method``, calls included."""
    names: set[str] = set()
    for span in _SPAN.findall(re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)):
        name = re.sub(r"\(.*\)$", "", span)
        if _DOTTED.fullmatch(name) and name.rsplit(".", 1)[1] not in _FILE_SUFFIXES:
            names.add(name)
    return names


def resolves(name: str, modules: frozenset[str]) -> bool:
    """Whether a dotted name is real.

    ``modules`` are Corral's. The name may leave out the front: ``door.Door.perform`` is
    ``corral.runtime.door.Door.perform``. Anything else must exist in an installed library.
    """
    parts = name.split(".")
    for taken in range(len(parts), 0, -1):
        head, rest = ".".join(parts[:taken]), parts[taken:]
        ours = [module for module in modules if module == head or module.endswith(f".{head}")]
        if any(_has(importlib.import_module(module), rest) for module in ours):
            return True
        if ours:
            return False
    return _elsewhere(parts)


def _elsewhere(parts: list[str]) -> bool:
    if hasattr(builtins, parts[0]):
        return _has(builtins, parts)
    for taken in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:taken]))
        except ImportError:
            continue
        return _has(module, parts[taken:])
    return False


def _has(value: object, attributes: list[str]) -> bool:
    for index, attribute in enumerate(attributes):
        if hasattr(value, attribute):
            value = getattr(value, attribute)
            continue
        declared = {name for base in getattr(value, "__mro__", ()) for name in _fields(base)}
        # A field without a default is declared but is no attribute of its class.
        return attribute in declared and index == len(attributes) - 1
    return True


def _fields(kind: type) -> set[str]:
    return {*vars(kind).get("__annotations__", {}), *vars(kind).get("__slots__", ())}
