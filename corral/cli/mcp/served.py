"""What ``corral mcp serve`` serves, by name. Imports nothing: each start reads it."""

from __future__ import annotations

from typing import Final

BRIDGED: Final = ("agents", "all", "memory")
"""What is served through the run host."""

TOOLS: Final = ("files", "python", "shell", "web", "sql", "git")
"""Our tool servers (``BUILTIN_SERVERS``, which takes long to import). A start that needs no
secret is remembered (``launches``)."""
