"""Handoffs: an agent gives the conversation to another, which goes on in its place.

To a model it is a tool, ``handoff__NAME``. The ReAct loop ends after such a call, and whoever let
the agent work (``Kit.work``) is told who takes over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from corral.jsontypes import JsonObject
from corral.runtime.effects import Attempt, Effect, Guard, Outcome
from corral.tools.contract import CallOptions, ToolResult, ToolSpec, harmless_tool

SERVER = "handoff"
"""The server's name under which handoffs are offered as tools."""


@dataclass(frozen=True)
class Handoff:
    """Who takes over, and what they are told."""

    to: str
    message: str

    def to_json(self) -> JsonObject:
        """This as a JSON object; ``Handoff(**data)`` reads it back."""
        return dict(vars(self))


def first(kept: JsonObject | None, new: JsonObject | None) -> JsonObject | None:
    """The reducer of a channel for a handoff: of several at once the first counts."""
    return kept or new


def as_tool(name: str, when: str) -> ToolSpec:
    """Handing over to ``name`` as a model sees it: a tool that changes nothing in the world."""
    return harmless_tool(
        SERVER,
        name,
        f"Let {name} take over from you. {when}".strip(),
        {"message": {"type": "string", "description": "What is to be done now."}},
    )


def handing_over(spec: ToolSpec, args: JsonObject, call_id: str) -> Effect:
    """The effect of a call of such a tool."""
    handoff = Handoff(spec.tool, str(args["message"]))
    done = Outcome(ToolResult(f"{spec.tool} takes over.", structured=handoff.to_json()).to_json())

    async def execute(_attempt: Attempt) -> Outcome:
        return done

    return Effect(
        kind="tool",
        name=spec.name,
        request={"tool": spec.name, "args": args},
        execute=execute,
        guard=Guard(
            spec,
            args,
            refuse=lambda reason: Outcome(ToolResult(reason, is_error=True).to_json()),
            give=lambda _text: done,
            edit=lambda new: handing_over(spec, new, call_id),
            call_id=call_id,
        ),
    )


def handed_over(spec: ToolSpec | None, value: JsonObject) -> Handoff | None:
    """The handoff that a call with this outcome was, as a human may have edited it.

    ``None`` for a call of another tool, and for one that was refused.
    """
    if spec is None or spec.server != SERVER or value["is_error"]:
        return None
    return Handoff(**value["structured"])


@dataclass(frozen=True)
class Handoffs:
    """A ``ToolProvider`` that lists who may take over, and when; nothing is called here."""

    to: Mapping[str, str]
    name: str = SERVER

    async def list_tools(self) -> list[ToolSpec]:
        """One tool for each."""
        return [as_tool(name, when) for name, when in self.to.items()]

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Never reached: see ``handing_over``."""
        del args, options
        raise AssertionError(f"the handoff to {tool} was called as a server's tool")

    async def aclose(self) -> None:
        """Nothing to close."""
