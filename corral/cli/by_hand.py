"""What a person is told who starts by hand what an MCP client is to start."""

from __future__ import annotations

import sys


def tell_whoever_typed(what: str) -> None:
    """Say on a terminal why nothing happens; a client's pipe is told nothing."""
    if sys.stdin.isatty():
        sys.stderr.write(
            f"serving {what} on standard input and output, where an MCP client is expected\n"
            "  To have a client start it: corral mcp install CLIENT. Press Ctrl-C to stop.\n"
        )
