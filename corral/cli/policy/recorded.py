"""A call that a run has made, as the rules saw it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from corral.agents.files.catalog import DEFAULT_NAME
from corral.agents.policy_files import Chosen, agent_layer
from corral.errors import NotFoundError
from corral.jsontypes import JsonObject
from corral.policies.facts import ToolCall
from corral.policies.layers import AgentLayer
from corral.policies.provenance.labels import UNKNOWN, Label
from corral.runtime.agent_policy import AgentPolicy
from corral.runtime.call_facts import call_of_spec, unknown_spec
from corral.runtime.links import links_of
from corral.runtime.runs import RunRow, load
from corral.tools.contract import ToolSpec

if TYPE_CHECKING:
    from corral.runtime.config import Settings
    from corral.runtime.records import Records
    from corral.runtime.views import EffectView

_CALLS = ("tool", "agent", "approval")


@dataclass(frozen=True)
class Recorded:
    """A call, and of its run the policy that it began with and those of the agents that asked."""

    call: ToolCall
    chosen: Chosen
    agents: tuple[AgentLayer, ...]


async def recorded_call(records: Records, settings: Settings, run: str, at: int) -> Recorded:
    """The call at ``seq`` ``at`` of a run's journal.

    What the model had read is as the journal has it; links are as they are on the disk now. Raises
    ``NotFoundError``.
    """
    row = await records.database.read(lambda connection: load(connection, run))
    effects = await records.trace(row.id)
    entry = next((each for each in effects if each.seq == at and each.kind in _CALLS), None)
    request = entry.request if entry is not None else None
    if entry is None or not isinstance(request, dict) or "tool" not in request:
        raise NotFoundError(
            f"The run {row.id} has no tool call at {at}.",
            hint=f"`corral trace {row.id}` shows the calls with their numbers.",
        )
    given: JsonObject = {**request}
    name, args = str(given["tool"]), given.get("args") or {}
    before = [each for each in effects if each.seq < at]
    call = call_of_spec(
        _spec(before, name),
        args,
        row.workspace,
        settings.sandboxed_servers,
        settings.networked_servers,
    )
    call = _in_its_place(call, row, entry, before, settings)
    layers = tuple(_agent_layers(row.spec.get("agent") or {}, call.agents))
    return Recorded(call, Chosen.from_spec(row.spec), layers)


def _agent_layers(spec: JsonObject, names: tuple[str, ...]) -> Iterator[AgentLayer]:
    """The policies of the agents that asked, as they are stored with the run."""
    for depth in range(1, len(names) + 1):
        if (policy := spec.get("policy")) is not None:
            yield agent_layer(AgentPolicy.model_validate(policy), names[:depth])
        below = names[depth] if depth < len(names) else None
        team = (one for one in _listed(spec.get("agents")) if isinstance(one, dict))
        spec = next((one for one in team if one.get("name", DEFAULT_NAME) == below), {})


def _in_its_place(
    call: ToolCall,
    row: RunRow,
    entry: EffectView,
    before: Sequence[EffectView],
    settings: Settings,
) -> ToolCall:
    config = settings.mcp.get(call.server)
    return replace(
        call,
        agents=(row.agent, *_agents_around(before, entry.path)),
        label=_context(before, call),
        user_texts=(row.prompt,),
        links=links_of(call.args, row.workspace),
        remote=config is not None and config.url is not None,
        rewindable=settings.snapshots.enabled,
        at=datetime.fromisoformat(entry.started_at).astimezone(),
    )


def _spec(before: Sequence[EffectView], name: str) -> ToolSpec:
    """The tool as it was declared when the run began."""
    specs = (
        ToolSpec.from_json(spec)
        for each in reversed(before)
        if each.kind == "prepare" and isinstance(each.result, dict)
        for spec in _listed(each.result.get("tools"))
    )
    return next((spec for spec in specs if spec.name == name), unknown_spec(name))


def _context(before: Sequence[EffectView], call: ToolCall) -> Label:
    """The label of the newest answer of a model that asks for this call."""
    wanted = (call.name, call.args)
    for each in reversed(before):
        if each.kind != "model" or not isinstance(each.result, dict):
            continue
        message = each.result.get("message")
        asked = _listed(message.get("tool_calls")) if isinstance(message, dict) else []
        if wanted in ((one.get("name"), one.get("args")) for one in asked):
            return Label.from_json(each.result.get("label"))
    return UNKNOWN


def _agents_around(before: Sequence[EffectView], path: str) -> Iterator[str]:
    for each in sorted(before, key=lambda one: len(one.path)):
        if each.kind == "agent" and path.startswith(f"{each.path}/"):
            yield each.name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
