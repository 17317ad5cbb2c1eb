"""Starts the installed Corral from a bundle: PROGRAM WORKSPACE WHAT. Needs no Corral itself."""

import os
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Become ``corral --workspace WORKSPACE mcp serve WHAT``."""
    program, workspace, what = sys.argv[1:4]
    places = (str(Path(program).expanduser()), "corral", str(Path.home() / ".local/bin/corral"))
    found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        sys.exit(
            f"There is no program {program}. Install Corral, and write its path into the settings "
            "of this extension; `which corral` shows it."
        )
    argv = [found, "--workspace", workspace, "mcp", "serve", what]
    os.execv(found, argv)  # noqa: S606  # no shell, on purpose


if __name__ == "__main__":
    main()
