"""What ``corral mcp serve`` serves beside the tool servers, and which of those it starts how."""

from __future__ import annotations

from typing import Final

BRIDGED: Final = ("agents", "all", "memory")
"""What is served through the run host."""

TOOLS: Final = ("files", "python", "shell", "web", "sql", "git")
"""Our tool servers (``BUILTIN_SERVERS``, which takes long to import). A start of one that needs no
proxy beside it is remembered (``launches``)."""
