"""Logging in at servers that are reached over HTTP: OAuth 2.1 as MCP has it."""
