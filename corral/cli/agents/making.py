"""A new agent's file, from a template or from an agent of another product."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corral.agents.files.catalog import SUFFIX, find_agents, project_folder, user_folder
from corral.agents.files.markdown import read_markdown
from corral.agents.files.reading import read_text
from corral.cli.agents.importing import Imported, imported
from corral.cli.agents.writing import template, write
from corral.errors import ConflictError
from corral.runtime.config import Settings


@dataclass(frozen=True)
class Wanted:
    """What file is to be made: see the options of ``corral agents new``."""

    name: str
    pattern: str | None
    source: Path | None
    user: bool
    force: bool


@dataclass(frozen=True)
class Made:
    """The file that was made, and what is to be said of it."""

    name: str
    path: Path
    notes: tuple[str, ...]


def make(wanted: Wanted, settings: Settings) -> Made:
    """Write the file. Raises ``ConfigError`` and ``ConflictError``; nothing is written then."""
    found = _text(wanted)
    folder = user_folder() if wanted.user else project_folder(settings.workspace)
    path = folder / f"{found.name}{SUFFIX}"
    read = read_markdown(found.text, path)
    if read.problems:
        raise read.problems[0].error(others=len(read.problems) - 1)
    other = find_agents(settings).find(read.name)
    if other is not None and other.file not in (None, path):
        raise ConflictError(
            f"There is an agent {read.name!r} already, in {other.file}.",
            hint="Choose another name: corral agents new NAME",
        )
    within = folder if wanted.user else settings.workspace
    write(path, found.text, within=within, force=wanted.force)
    return Made(read.name, path, found.notes)


def _text(wanted: Wanted) -> Imported:
    if wanted.source is None:
        return Imported(wanted.name, template(wanted.name, wanted.pattern), ())
    path = wanted.source.expanduser()
    return imported(read_text(path), wanted.name, path.stem)
