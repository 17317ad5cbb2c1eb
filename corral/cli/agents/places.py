"""Where an agent is written down: file and line, as a person finds them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corral.agents.files.catalog import Entry


def line_of(entry: Entry, *keys: str | int) -> int | None:
    """The line of a key of an agent, or of where the agent begins, as far as it is known."""
    if entry.markdown is not None:
        return entry.markdown.line_of(*keys) or (1 if entry.config is not None else None)
    return _table(entry.file, entry.name) if entry.file is not None else None


def place_of(entry: Entry) -> str:
    """File and line of an agent in words."""
    if entry.file is None:
        return "built in" if entry.owner == "built in" else "the environment"
    line, file = line_of(entry), _shortly(entry.file)
    return file if line is None else f"{file}, line {line}"


def _shortly(file: Path) -> str:
    """A path as it is written from the current folder, where it lies in there."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _table(file: Path, name: str) -> int | None:
    """The line of ``[agents.NAME]``, or of the first table in it."""
    spelled = re.escape(name)
    header = re.compile(
        rf"""\s*\[+\s*agents\s*\.\s*(?:{spelled}|'{spelled}'|"{spelled}")\s*[\].]"""
    )
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # it was there a moment ago, when the settings were read
        return None
    return next((at for at, line in enumerate(lines, 1) if header.match(line)), None)
