"""The facts of a call as a question keeps them, so that a rule can be tried on it later."""

from __future__ import annotations

from collections.abc import Collection

from corral.jsontypes import JsonObject
from corral.policies.facts import ToolCall
from corral.policies.provenance.labels import UNKNOWN, Label
from corral.tools.contract import SEPARATOR, ToolSpec

_HINTS = ("read_only", "sandboxed", "destructive", "idempotent", "open_world", "network")


def facts_to_json(call: ToolCall) -> JsonObject:
    """What a call is besides its tool and arguments; ``call_of`` reads it back."""
    return {
        **{name: getattr(call, name) for name in _HINTS},
        "workspace": call.workspace,
        "agents": list(call.agents),
        "links": dict(call.links),
        "holds_secret": call.holds_secret,
        "label": call.label.to_json(),
    }


def call_of(tool: str, args: JsonObject, stored: JsonObject, workspace: str) -> ToolCall:
    """The call that a question is about. What nobody stored is taken for the worst."""
    hints = {name: stored[name] for name in _HINTS if isinstance(stored.get(name), bool)}
    known = {"read_only": False, "sandboxed": False, **hints}
    return ToolCall(
        name=tool,
        args=args,
        workspace=str(stored.get("workspace", workspace)),
        agents=tuple(stored.get("agents", ())),
        links=dict(stored.get("links", {})),
        holds_secret=bool(stored.get("holds_secret", False)),
        label=Label.from_json(stored.get("label")) if stored else UNKNOWN,
        **known,
    )


def call_of_spec(
    spec: ToolSpec,
    args: JsonObject,
    workspace: str,
    sandboxed: Collection[str],
    networked: Collection[str] = (),
) -> ToolCall:
    """A call as far as its tool's definition says, and whether its server is in the sandbox.

    ``networked`` servers reach something from there.
    """
    inside = spec.server in sandboxed
    return ToolCall(
        name=spec.name,
        args=args,
        read_only=spec.trusted and spec.read_only,
        sandboxed=inside,
        workspace=workspace,
        destructive=spec.destructive or not spec.trusted,
        idempotent=spec.trusted and spec.idempotent,
        open_world=spec.open_world or not spec.trusted,
        network=not inside or spec.server in networked,
    )


def unknown_spec(tool: str) -> ToolSpec:
    """The definition of a tool of which only the name is known."""
    server, _, name = tool.partition(SEPARATOR)
    return ToolSpec(server, name, "", {})
