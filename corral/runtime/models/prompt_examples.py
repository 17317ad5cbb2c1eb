"""Worked examples for a model that is too small to follow a description.

Measured on SmolLM2-135M: without an example it never calls ``files__read_file`` on its own, with
one it calls for three of four questions that need it and for none that do not. Four examples take
the right path from 7 to 9 of 10. Examples of several tools taught it nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ToolChoice
from corral.runtime.models.grammar import CallSyntax
from corral.tools.contract import ToolSpec

_READ = "files__read_file"
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
    question, path = _PATHS[0]
    return [
        *_turns(question, path, syntax),
        {"role": "user", "content": f"Result of {_READ}:\nBuy paint."},
        {"role": "assistant", "content": "It says: Buy paint."},
    ]


def _turns(question: str, path: str, syntax: CallSyntax) -> list[JsonObject]:
    call = syntax.render(_READ, {"path": path})
    return [{"role": "user", "content": question}, {"role": "assistant", "content": call}]
