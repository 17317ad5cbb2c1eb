"""What ``corral mcp serve`` serves beside the tool servers, and which of those it starts how."""

from __future__ import annotations

from typing import Final

BRIDGED: Final = ("agents", "all", "memory")
"""What is served through the run host."""

REMEMBERED: Final = ("files", "shell")
"""The tool servers whose start is remembered (``launches``): it depends on nothing else."""
