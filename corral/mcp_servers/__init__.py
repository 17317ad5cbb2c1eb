"""The MCP servers that Corral ships. They start with the standard library alone."""
