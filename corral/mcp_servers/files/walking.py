"""Everything below a folder that git does not ignore, in order, without following a link.

Source: gitignore(5).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from corral.mcp_servers.files.globbing import Glob, parse
from corral.sandbox.guest import beneath
from corral.sandbox.guest.beneath import Unfit
from corral.sandbox.guest.names import TRASH

MAX_DEPTH = 64
"""Folders inside of one another that are walked."""

_MAX_RULES = 256 * 1024
_SKIPPED = frozenset({".git", TRASH})


class Entry(NamedTuple):
    """One entry: the open folder that it is in, its name there, its components from the root."""

    folder: int
    name: str
    parts: tuple[str, ...]
    status: os.stat_result

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self.status.st_mode)


class Rules(NamedTuple):
    """The ignore files from the root down to a folder, the outermost first: how many components
    lead to each, and what it says.
    """

    files: tuple[tuple[int, tuple[Glob, ...]], ...] = ()

    def below(self, folder: int, parts: Sequence[str]) -> Rules:
        """These and those of a folder that was entered."""
        found = _globs(folder, ".gitignore")
        if not parts:
            found = _excluded(folder) + found
        return Rules((*self.files, (len(parts), found))) if found else self

    def ignore(self, parts: Sequence[str], *, folder: bool) -> bool:
        """Whether git ignores it; the last rule that fits says so."""
        for depth, globs in reversed(self.files):
            inner = parts[depth:]
            for glob in reversed(globs):
                if glob.fits(inner, folder=folder):
                    return not glob.negated
        return False


def entries(
    folder: int, parts: tuple[str, ...], rules: Rules, depth: int = MAX_DEPTH
) -> Iterator[Entry]:
    """The entries below an open folder, depth first, each folder before what is in it."""
    for entry in listed(folder, parts, rules):
        yield entry
        if entry.is_folder and depth > 1:
            try:
                with beneath.opened(folder, entry.name) as inner:
                    below = rules.below(inner, entry.parts)
                    yield from entries(inner, entry.parts, below, depth - 1)
            except OSError:
                continue  # exchanged meanwhile, or not ours to read


def listed(folder: int, parts: tuple[str, ...], rules: Rules) -> Iterator[Entry]:
    """The entries of one open folder, by name."""
    for name in beneath.names_in(folder):
        try:
            status = beneath.status_of(folder, name)
        except OSError:
            continue
        if status is None or name in _SKIPPED:
            continue
        entry = Entry(folder, name, (*parts, name), status)
        if not rules.ignore(entry.parts, folder=entry.is_folder):
            yield entry


def rules_at(root: int, parts: Sequence[str]) -> Rules:
    """What the ignore files from the root down to a folder say."""
    rules = Rules().below(root, ())
    here = os.dup(root)
    try:
        for depth, name in enumerate(parts, 1):
            inner = os.open(name, beneath.FOLDER, dir_fd=here)
            os.close(here)
            here = inner
            rules = rules.below(here, parts[:depth])
    except OSError:
        return rules  # it was exchanged meanwhile: what follows will say so
    finally:
        os.close(here)
    return rules


def _excluded(root: int) -> tuple[Glob, ...]:
    try:
        with beneath.opened(root, ".git") as git, beneath.opened(git, "info") as info:
            return _globs(info, "exclude")
    except OSError:
        return ()


def _globs(folder: int, name: str) -> tuple[Glob, ...]:
    try:
        with os.fdopen(beneath.open_regular(folder, name), "rb") as file:
            text = file.read(_MAX_RULES).decode("utf-8", "replace")
    except (OSError, Unfit):
        return ()
    found = (parse(line) for line in text.split("\n"))
    return tuple(glob for glob in found if glob is not None)
