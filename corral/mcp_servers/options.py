"""The command line that our servers share."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def roots_of(name: str, argv: list[str]) -> list[Path]:
    """The folders after ``--root``, or the current one. Leaves with status 2 for anything else.

    By hand: importing argparse would double the time that a server takes to start.
    """
    folders: list[Path] = []
    rest = list(argv)
    while rest:
        option = rest.pop(0)
        if option != "--root" or not rest:
            sys.stderr.write(f"usage: {name} [--root DIR ...]\n")
            raise SystemExit(2)
        folders.append(Path(rest.pop(0)))
    folders = folders or [Path.cwd()]
    for folder in folders:
        if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
            sys.stderr.write(f"{name}: {folder} is not a folder that can be read\n")
            raise SystemExit(2)
    return folders
