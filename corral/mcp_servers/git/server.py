"""The ``git`` server's start."""

from __future__ import annotations

import sys

from corral.mcp_servers.git import history, status
from corral.mcp_servers.git.committing import Committing
from corral.mcp_servers.git.runner import Git
from corral.mcp_servers.options import options_of
from corral.mcp_servers.protocol import Identity, Server


def main(argv: list[str] | None = None) -> int:
    """Serve the repository that ``--root`` names, else the current folder's, on standard input.

    ``--config`` may name the author of commits: ``{"author": "Name <mail>"}``.
    """
    folders, config = options_of("git", sys.argv[1:] if argv is None else argv)
    git = Git(folders[0])
    made = [status.tool(git), *history.tools(git), Committing(git, config.get("author", "")).tool()]
    identity = Identity(
        name="corral-git",
        title="Git",
        version="1.0.0",
        instructions=f"The git repository {folders[0]}. Nothing is fetched or pushed.",
    )
    return Server(identity, {tool.name: tool for tool in made}).serve()


if __name__ == "__main__":
    sys.exit(main())
