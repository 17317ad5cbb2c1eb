"""A plain server of the MCP SDK, or of fastmcp, with one tool that returns what it is given.

python -m bench._mcp_server sdk|fastmcp stdio|http [PORT]
"""

from __future__ import annotations

import sys
from typing import Any


def made(kind: str) -> Any:
    """The server, as its documentation writes one."""
    if kind == "sdk":
        from mcp.server import MCPServer

        server: Any = MCPServer("plain", log_level="CRITICAL")
    else:
        from fastmcp import FastMCP

        server = FastMCP("plain")

    async def echo(message: str) -> str:
        """Say it again."""
        return message

    server.tool()(echo)
    return server


def main() -> None:
    """Serve until the client goes."""
    kind, way, *port = sys.argv[1:]
    server = made(kind)
    if way == "stdio":
        server.run(**({} if kind == "sdk" else {"show_banner": False}))
        return
    options = {} if kind == "sdk" else {"show_banner": False, "log_level": "critical"}
    named = "streamable-http" if kind == "sdk" else "http"
    server.run(named, host="127.0.0.1", port=int(port[0]), **options)


if __name__ == "__main__":
    main()
