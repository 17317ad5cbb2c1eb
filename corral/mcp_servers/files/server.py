"""The ``files`` server: list, read, search, change, move and delete in the granted folders."""

from __future__ import annotations

import sys

from corral.mcp_servers.files import listing, moving, patching, reading, search, writing
from corral.mcp_servers.files.workspace import Workspace
from corral.mcp_servers.options import options_of
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.tool import Tool

_PARTS = (listing, reading, search, writing, patching, moving)


def tools(workspace: Workspace) -> dict[str, Tool]:
    """The tools by name."""
    return {tool.name: tool for part in _PARTS for tool in part.tools(workspace)}


def main(argv: list[str] | None = None) -> int:
    """Serve the folders that ``--root`` names (the current one by default) on standard input.

    ``--config`` may name the ripgrep program to search with: ``{"rg": PATH}``.
    """
    folders, config = options_of("files", sys.argv[1:] if argv is None else argv)
    names = ", ".join(str(folder) for folder in folders)
    identity = Identity(
        name="corral-files",
        title="Files",
        version="1.1.0",
        instructions=f"Files in {names}. Paths are relative to the first of these folders.",
    )
    return Server(identity, tools(Workspace(folders, config.get("rg")))).serve()


if __name__ == "__main__":
    sys.exit(main())
