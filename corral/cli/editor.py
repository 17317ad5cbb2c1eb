"""The user's own editor, for a text that is longer than an option."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from corral.errors import UsageError

_USUAL = "vi"


def edit(text: str) -> str:
    """Let the user edit ``text`` in ``$VISUAL`` or ``$EDITOR``; what it is when the editor ends.

    Raises ``UsageError`` when there is no editor or it fails.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _USUAL
    with tempfile.TemporaryDirectory(prefix="corral-") as folder:
        path = Path(folder) / "prompt.md"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(command), str(path)], check=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"The editor {command!r} cannot be started: {error}.",
                hint="Set EDITOR to the editor that you use, or give the text: --prompt '…'.",
            ) from error
        if done.returncode != 0:
            raise UsageError(
                f"The editor {command!r} ended with exit code {done.returncode}.",
                hint="Nothing was started. Give the text instead: --prompt '…'.",
            )
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"What the editor {command!r} saved cannot be read: {error}.",
                hint="Nothing was started. Give the text instead: --prompt '…'.",
            ) from error
