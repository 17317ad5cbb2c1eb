"""Worked examples for a model that is too small to follow a description.

Measured on SmolLM2-135M, over two system prompts. Without an example it never calls a tool on its
own. With one question that needs a file and one that does not, the log probability of a call's
first token tells them apart: of 44 questions about files 42 lie above -3.4, of 44 others 2, and 36
of the calls name the right file. The plain question has to come last, or the model calls always.
For calls that must be made, four examples take the right path from 7 to 9 of 10. Among several
tools it chooses hardly better than chance, with or without examples of each.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ToolChoice
from corral.runtime.models.local.constraints.syntax import CallSyntax
from corral.tools.contract import ToolSpec

_READ = "files__read_file"
KNOWN_TOOLS = frozenset({_READ})
"""The tools that there are examples of."""

_PATHS = (
    ("What does plan.txt say?", "plan.txt"),
    ("Read the file prices.csv", "prices.csv"),
    ("Who is named in notes/team.md?", "notes/team.md"),
    ("Look at the file log.json. What is the error?", "log.json"),
)


def examples(tools: Sequence[ToolSpec], choice: ToolChoice, syntax: CallSyntax) -> list[JsonObject]:
    """Turns to put between the system message and the conversation; none for unknown tools."""
    if choice == "none" or _READ not in {tool.name for tool in tools}:
        return []
    if choice == "required":
        return [turn for question, path in _PATHS for turn in _turns(question, path, syntax)]
    return [
        *_turns("Read the file plan.txt. What do we buy?", "plan.txt", syntax),
        {"role": "user", "content": "What is a lake?"},
        {"role": "assistant", "content": "A lake is a large body of water."},
    ]


def _turns(question: str, path: str, syntax: CallSyntax) -> list[JsonObject]:
    call = syntax.render((_READ, {"path": path}))
    return [{"role": "user", "content": question}, {"role": "assistant", "content": call}]
