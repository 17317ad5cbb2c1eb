"""The file with what was typed in the REPL: taking out what a deleted conversation was told.

prompt_toolkit writes it: a line ``# TIME`` before each entry, and ``+`` before each of its lines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

FILE = "history"
"""Its name in the home, see ``command.py``."""


def forget(path: Path, said: Collection[str], as_stored: Callable[[str], str]) -> int:
    """Take the entries out that are, as the database stores them, among ``said``; how many.

    Raises ``OSError`` when the file cannot be changed.
    """
    if not path.exists():
        return 0
    entries = path.read_text("utf-8", errors="surrogateescape").split("\n# ")
    kept = [entry for entry in entries if as_stored(_typed(entry)) not in said]
    if len(kept) < len(entries):
        new = path.with_name(f"{path.name}.new")
        new.touch(mode=0o600)
        new.write_text("\n# ".join(kept), "utf-8", errors="surrogateescape")
        os.replace(new, path)  # noqa: PTH105  said as it is: over what is there
    return len(entries) - len(kept)


def _typed(entry: str) -> str:
    return "\n".join(line[1:] for line in entry.split("\n") if line.startswith("+")).strip()
