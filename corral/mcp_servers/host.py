"""``python -m corral.mcp_servers.host``: the process in which the runs of clients live.

Started by whoever needs it first (``corral.agents.hosting.place.connect``), in their environment.
What it says as it starts is one line of JSON on standard output: ``{"socket": …}`` when it serves,
``{}`` when another one does, ``{"error": …}`` when it cannot. After that it writes to its log.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from corral.agents.hosting.lock import Lock
from corral.agents.hosting.place import find_place
from corral.errors import CorralError
from corral.jsontypes import JsonObject
from corral.runtime.config import load_settings
from corral.runtime.importing import without_collecting


def main(args: Sequence[str] | None = None) -> int:
    """Serve until nobody needs it; the exit code."""
    flags = _parsed(args)
    place = find_place(flags.home, flags.workspace, flags.config)
    given = {name: value for name, value in vars(flags).items() if value is not None}
    try:
        lock = Lock(place)
        if not lock.is_mine:
            _say({})
            return 0
        settings = load_settings(given)
        # Who has lost the race for the lock, or cannot read the settings, is not to wait for this.
        with without_collecting():
            from corral.mcp_servers.agents.hosting import serve
        serve(place, lock, settings, lambda: _say({"socket": str(place.socket)}))
    except CorralError as error:
        _say({"error": {"message": error.message, "hint": error.hint}})
        return error.exit_code
    return 0


def _parsed(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="corral run host")
    for name in ("home", "workspace", "config"):
        parser.add_argument(f"--{name}", type=Path)
    return parser.parse_args(args)


def _say(line: JsonObject) -> None:
    """Tell who has started this process how it is; from then on it writes to its log only."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)


if __name__ == "__main__":
    sys.exit(main())
