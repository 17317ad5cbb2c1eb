"""The configuration files of MCP clients: reading them, and writing an entry of ours into them."""
