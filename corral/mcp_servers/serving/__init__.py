"""The layer on which our MCP servers of both protocol eras stand: transports, security, tasks."""
