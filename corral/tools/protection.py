"""What a tool server's sandbox may not change, or reach, though a folder of it is granted.

Code that runs in the workspace can put anything there. What git or Corral would run outside stays
read-only, and a granted folder that has become a link is not followed out of the workspace.
Corral's own folder, with logins and keys, is not there at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from corral.errors import ConfigError
from corral.sandbox.contract import Grant

PROTECTED = (".git", "corral.toml", ".corral")
"""What stays read-only at the top of a writable folder, unless it is granted by itself."""


def protected_in(grants: Iterable[Grant]) -> list[Grant]:
    """What in the writable ones of these is granted for reading only."""
    given = {grant.path: grant for grant in grants}
    writable = [grant.path for grant in given.values() if grant.writable]
    found = [path / name for path in writable for name in PROTECTED]
    return [Grant(path) for path in found if path not in given and _is_real(path)]


def hidden_folders(home: Path | None) -> tuple[Path, ...]:
    """What no tool server sees, whatever it is granted around it: ``home``, Corral's own folder.

    Who reads there has the user's logins, and who writes there answers questions in their place.
    """
    return () if home is None else (home,)


def check_inside(folder: Path, workspace: Path, setting: str) -> None:
    """Raise ``ConfigError`` for a folder in the workspace that leads out of it by a link."""
    if folder.is_relative_to(workspace) and not folder.resolve().is_relative_to(
        workspace.resolve()
    ):
        raise ConfigError(
            f"{folder} of {setting} is, or goes through, a link that leads out of the workspace.",
            hint="Write the path that it leads to, if that is the one you mean.",
        )


def _is_real(path: Path) -> bool:
    return path.exists() and not path.is_symlink()
