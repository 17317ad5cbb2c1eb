"""Commands for MCP servers: those that agents use, and ours for other programs."""
