"""Agents, and what they are doing, as the tools, resources and prompts of an MCP server."""
