"""The command line that our servers share."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple


class Options(NamedTuple):
    """The folders to work in, and the server's own settings as JSON has them."""

    roots: list[Path]
    config: dict[str, Any]


def roots_of(name: str, argv: list[str]) -> list[Path]:
    """The folders after ``--root``, or the current one. Leaves with status 2 for anything else."""
    return options_of(name, argv).roots


def options_of(name: str, argv: list[str]) -> Options:
    """What ``--root DIR`` and ``--config JSON`` say. Leaves with status 2 for anything else.

    By hand: importing argparse would double the time that a server takes to start.
    """
    folders: list[Path] = []
    config: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        option = rest.pop(0)
        if option not in ("--root", "--config") or not rest:
            sys.stderr.write(f"usage: {name} [--root DIR ...] [--config JSON]\n")
            raise SystemExit(2)
        if option == "--root":
            folders.append(Path(rest.pop(0)))
        else:
            config = _object(name, rest.pop(0))
    folders = folders or [Path.cwd()]
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
            sys.stderr.write(f"{name}: {folder} is not a folder that can be read\n")
            raise SystemExit(2)
    return Options(folders, config)


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        sys.stderr.write(f"{name}: --config takes a JSON object\n")
        raise SystemExit(2)
    return value
