"""What reaches the terminal: untrusted text made harmless, and JSON lines for machines."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from textwrap import wrap
from typing import TYPE_CHECKING, TextIO

from corral.tools.text import visible, visible_line

_COMMAND = re.compile(r"(?<=: )corral .*")
_USUAL = 80
_NARROW = 20

if TYPE_CHECKING:
    from rich.console import Console

    from corral.jsontypes import Json
    from corral.runtime.views import Record


def clean(text: str) -> str:
    """``text`` with every character that could deceive a terminal or its reader written out.

    Model output, tool results, file contents and server definitions are untrusted: an escape
    sequence in them could hide what an approval asks for. See ``visible``.
    """
    return visible(text)


def one_line(text: str, width: int = 100) -> str:
    """The first ``width`` characters of ``text`` on one line, cleaned, with a mark when cut."""
    return visible_line(text, width)


def emit(value: Json) -> None:
    """Write one JSON value as one line on standard output, at once."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=ascii_only) + "\n")
    sys.stdout.flush()


def emit_all(records: Iterable[Record]) -> None:
    """Write records as JSON, one a line."""
    for record in records:
        emit(record.to_json())


def console(stream: TextIO | None = None) -> Console:
    """A Rich console on ``stream`` (standard output), without markup, emoji or highlighting.

    Text from outside can then never be read as markup. A pipe gets each sentence on one line,
    to be searched, wide tables, and no colour.
    """
    from rich.console import Console

    target = stream or sys.stdout
    piped = not target.isatty()
    width = 160 if piped else None
    return Console(
        file=target, markup=False, emoji=False, highlight=False, width=width, soft_wrap=piped
    )


def note(text: str) -> None:
    """One line (or a few) for the person, on standard error, cleaned."""
    sys.stderr.write(fitted(clean(text), sys.stderr) + "\n")
    sys.stderr.flush()


def fitted(text: str, stream: TextIO, begun: int = 0) -> str:
    """``text`` in lines that a terminal shows whole, broken between words and indented alike.

    The first line has ``begun`` with so many columns, which the others leave free. A command stays
    on one line, to be copied; so does everything in a pipe, to be searched.
    """
    if not stream.isatty():
        return text
    width = _columns(stream) - begun
    lines = [part for line in text.split("\n") for part in _broken(line, width)]
    return ("\n" + " " * begun).join(lines)


def _columns(stream: TextIO) -> int:
    with suppress(OSError, ValueError):  # a terminal may have no size
        return os.get_terminal_size(stream.fileno()).columns or _USUAL
    return _USUAL


def _broken(line: str, width: int) -> list[str]:
    if len(line) <= width or width < _NARROW:
        return [line]
    found = _COMMAND.search(line)
    prose, command = (line[: found.start()], [found[0]]) if found else (line, [])
    indent = " " * (len(line) - len(line.lstrip()))
    parts = wrap(
        prose, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [*parts, *(f"{indent}  {one}" for one in command)]


def report(message: str, hint: str = "") -> None:
    """An error as the user sees it: what happened, then what to do next."""
    note(f"error: {message}")
    for line in hint.splitlines():
        note(f"  {line}")
