"""The MCP servers that Corral ships. They import nothing outside the standard library."""
