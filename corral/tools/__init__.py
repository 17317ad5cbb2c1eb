"""The tool contract, Python-function tools and the pool of MCP servers."""
