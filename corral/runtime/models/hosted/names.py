"""Tool names as providers take them: letters, digits, ``_`` and ``-`` only.

MCP promises no such thing: a name that does not fit gets an alias, which is translated back in
the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corral.jsontypes import digest
from corral.tools.contract import ToolSpec

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class ToolNames:
    """The tools' names at the provider, and the way back."""

    originals: Mapping[str, str]

    @classmethod
    def of(cls, tools: Sequence[ToolSpec]) -> ToolNames:
        """The names of the tools on offer."""
        return cls({alias(tool.name): tool.name for tool in tools})

    def original(self, name: str) -> str:
        """The tool that the provider's ``name`` means; a name that was never offered stays."""
        return self.originals.get(name, name)


def alias(name: str) -> str:
    """A tool's name as providers accept it: itself where it fits, else cleaned and numbered."""
    if _NAME.fullmatch(name):
        return name
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', name)[:55]}_{digest(name)[:8]}"
