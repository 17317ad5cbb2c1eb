"""Run one of our servers with nothing but this folder: ``python -I -S FOLDER NAME [--root DIR]``.

Inside the sandbox no other part of Corral can be seen, so a stand-in takes the place of the
package around this folder.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

_MODULES = {
    "files": "files.server",
    "python": "python.server",
    "web": "web.server",
    "shell": "shell.server",
    "sql": "sql.server",
    "git": "git.server",
    "_page": "web.page_worker",  # pages of strangers, in a process that can be ended
    "_sql": "sql.worker",  # statements at work, likewise
    "_search": "files.search_worker",  # a regular expression at work, likewise
}


def run(argv: list[str]) -> int:
    """Run the server that the first argument names; its exit status, or 2 for a wrong name."""
    if not argv or argv[0] not in _MODULES:
        names = ", ".join(name for name in _MODULES if not name.startswith("_"))
        sys.stderr.write(f"usage: python FOLDER NAME [--root DIR ...], NAME one of: {names}\n")
        return 2
    module = importlib.import_module(f"corral.mcp_servers.{_MODULES[argv[0]]}")
    status: int = module.main(argv[1:])
    return status


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    if "corral" not in sys.modules:
        package = types.ModuleType("corral")
        package.__path__ = [str(here.parent)]
        sys.modules["corral"] = package
        sys.path = [entry for entry in sys.path if entry != str(here)]
    sys.exit(run(sys.argv[1:]))
