"""What of a workspace is kept: sizes, names, and what is never touched."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from pathlib import Path

from corral.errors import UsageError
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.trees import join

VERSION_CONTROL = frozenset({".git", ".hg", ".svn", ".jj", ".bzr", "_darcs", ".pijul", "cvs"})
"""Names, in lower case, of what version control keeps for itself: never read, never written."""

_OF_A_REPOSITORY = frozenset({"HEAD", "objects", "refs"})
_OF_SQLITE = ("", "-wal", "-shm", "-journal")

MAX_DEPTH = 100
"""Folders inside of one another that are walked; nothing that people make is deeper."""

_MB = 10**6


@dataclass(frozen=True)
class Bounds:
    """The rules for one workspace; sizes in bytes. ``own`` are Corral's own files, by path."""

    config: SnapshotConfig
    own: frozenset[str] = field(default=frozenset())

    @property
    def max_files(self) -> int:
        """Files, folders and links in all."""
        return self.config.max_files

    @cached_property
    def max_file(self) -> int:
        """Of one file."""
        return int(self.config.max_file_mb * _MB)

    @cached_property
    def max_total(self) -> int:
        """Of all files together."""
        return int(self.config.max_total_mb * _MB)

    @property
    def too_large(self) -> str:
        """Why a file of more than ``max_file`` is left out."""
        return f"it is larger than {self.config.max_file_mb:g} MB (snapshots.max_file_mb)"

    def excluded(self, folder: str, name: str) -> str | None:
        """Why what is called so in a folder is left out; ``None`` when it is not."""
        if name.lower() in VERSION_CONTROL:
            return "version control keeps it"
        if self._by_path:
            path = join(folder, name)
            if path in self.own:
                return "it is Corral's own"
            if self._paths.fullmatch(path):
                return "snapshots.exclude names it"
        return "snapshots.exclude names it" if self._names.fullmatch(name) else None

    def whole_folder(self, names: Collection[str]) -> str | None:
        """Why nothing in a folder that holds these names is kept: a bare repository of git's."""
        return "version control keeps it" if set(names) >= _OF_A_REPOSITORY else None

    @cached_property
    def _by_path(self) -> bool:
        """Whether anything is left out by its path, and not by its name alone."""
        return bool(self.own) or any("/" in pattern for pattern in self.config.exclude)

    @cached_property
    def _names(self) -> re.Pattern[str]:
        return _any_of([pattern for pattern in self.config.exclude if "/" not in pattern])

    @cached_property
    def _paths(self) -> re.Pattern[str]:
        return _any_of([pattern.strip("/") for pattern in self.config.exclude if "/" in pattern])

    def too_many(self) -> UsageError:
        """The error for a workspace of more than ``max_files``."""
        return UsageError(
            f"The workspace holds more than {self.max_files} files.",
            hint=_how("snapshots.max_files"),
        )

    def too_much(self) -> UsageError:
        """The error for a workspace of more than ``max_total``."""
        return UsageError(
            f"The workspace holds more than {self.config.max_total_mb:g} MB.",
            hint=_how("snapshots.max_total_mb"),
        )


def _how(setting: str) -> str:
    return f"Raise {setting}, or name what need not be kept in snapshots.exclude."


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def own_files(workspace: str, database: str | None) -> frozenset[str]:
    """The database's files, as paths in the workspace, if that is where it lies."""
    if not database:
        return frozenset()
    inside = os.path.relpath(os.path.realpath(database), os.path.realpath(workspace))
    if Path(inside).parts[:1] == ("..",):
        return frozenset()
    return frozenset(f"{inside}{suffix}" for suffix in _OF_SQLITE)
