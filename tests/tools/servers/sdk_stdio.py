"""A well-behaved server on the SDK, over stdio."""

from __future__ import annotations

import asyncio
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

server = MCPServer("good", log_level="CRITICAL")


class Sum(BaseModel):
    total: int


@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
async def add(a: Annotated[int, Field(ge=0)], b: int = 1) -> Sum:
    """Add two integers."""
    return Sum(total=a + b)


@server.tool()
async def count(steps: int, ctx: Context) -> str:
    """Count, telling how far it is."""
    for step in range(steps):
        await ctx.report_progress(step + 1, steps, f"step {step + 1}")
        await asyncio.sleep(0)
    return f"counted {steps}"


@server.tool()
async def boom() -> str:
    """Fail."""
    raise ValueError("an internal detail")


if __name__ == "__main__":
    server.run()
