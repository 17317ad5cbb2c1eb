"""What is true of every pattern is tried with these: small options, bounds, and hostile models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import corral
from corral.runtime.models.contract import ChatModel, JsonOutput, ModelRequest
from corral.runtime.models.structured import RETRIES
from tests.agents.patterns.support import Answering, answers
from tests.agents.patterns.teams import calling, function, hand, task
from tests.runtime.agents import Ledger, Turn

DECISION = RETRIES + 1
"""Model calls of one decision at most."""

TASKS = 4
"""Tasks that a hostile model gives in one turn at most."""

LEAD_STEPS, STEPS = 12, 3
"""Model calls of an agent and of a worker of its at most, where they call tools for ever."""

SANE_LOOP = 4
"""Model calls of a sane agent that gives each of two workers a task, and theirs."""

HOSTILE_LOOP = LEAD_STEPS * (1 + TASKS * STEPS)
"""Model calls of a hostile agent that gives tasks in each turn, and those of its workers."""

UNATTENDED = {"ask_after": 2, "stop_after": 2}
"""Patience with loops, where nobody is there to be asked."""

MOST_ITEMS = 60
"""Items that a hostile model puts into a list that may have any number."""


@dataclass(frozen=True)
class Case:
    """A pattern with small options, and the model calls that follow from them at most.

    ``bound`` takes how many calls one task takes at most: of the agent in a loop, or of a worker.
    """

    bound: Callable[[int], int]
    options: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "react": Case(lambda one: 2 * one + DECISION, {"verify": 1}),
    "reflection": Case(lambda one: 2 * (2 * one + DECISION), {"rounds": 2}),
    "plan_execute": Case(
        lambda one: DECISION + 3 * (one + DECISION) + 1,
        {"plan_length": 2, "steps": 3, "replans": 1},
    ),
    "orchestrator_workers": Case(lambda one: DECISION + 3 * one + 1, {"subtasks": 3}),
    "supervisor": Case(lambda one: 3 + 4 * one, {"rounds": 3, "tasks": 4, "calls": 3}),
    "hierarchical": Case(lambda one: 3 + 4 * one, {"rounds": 3, "tasks": 4, "calls": 3}),
    "network": Case(lambda one: 3 * one, {"handoffs": 2}),
    "debate": Case(lambda one: 4 * one + DECISION, {"size": 2, "rounds": 2}),
    "self_consistency": Case(lambda one: 3 * (one + DECISION) + one, {"samples": 3}),
    "best_of_n": Case(lambda one: 3 * (one + DECISION) + one, {"samples": 3}),
    "tree_of_thoughts": Case(lambda _one: 8, {"calls": 8}),
    "mcts": Case(lambda _one: 8, {"calls": 8}),
    "budget_forcing": Case(lambda one: 2 + one, {"waits": 1, "least": 50}),
    "router": Case(lambda one: DECISION + 2 * one, {"default": "beta"}),
    "cascade": Case(lambda one: 2 * one + DECISION),
}


def patterned(pattern: str, model: ChatModel, *team: corral.Agent, **fields: Any) -> corral.Agent:
    """An agent of a pattern with its small options."""
    options = dict(CASES[pattern].options)
    given = {"name": "lead", "pattern": pattern, "options": options, "loops": UNATTENDED, **fields}
    return answers(model, *given.pop("functions", ()), agents=team, **given)


def pair(model: ChatModel, *functions: Callable[..., Any], **fields: Any) -> Any:
    """Two workers of one model."""
    return tuple(
        answers(
            model,
            *functions,
            name=name,
            description=f"Does {name}.",
            loops=UNATTENDED,
            **fields,
        )
        for name in ("alpha", "beta")
    )


def filled(schema: Any, *, hostile: bool = False) -> Any:
    """A value of a JSON Schema: a sensible one, or one that asks for as much as it can."""
    return _filled(schema, schema.get("$defs", {}), hostile)


def _filled(schema: Any, known: Any, hostile: bool) -> Any:
    if "$ref" in schema:
        return _filled(known[schema["$ref"].rpartition("/")[2]], known, hostile)
    if "anyOf" in schema:
        return _filled(schema["anyOf"][0], known, hostile)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if values:
        return values[len(values) // 2 if hostile else 0]
    return _of_type(schema, known, hostile)


def _of_type(schema: Any, known: Any, hostile: bool) -> Any:
    match schema.get("type"):
        case "object":
            parts = schema.get("properties", {})
            return {name: _filled(part, known, hostile) for name, part in parts.items()}
        case "array":
            least, most = schema.get("minItems", 1), schema.get("maxItems", MOST_ITEMS)
            return [
                _numbered(_filled(schema["items"], known, hostile), index)
                for index in range(most if hostile else max(1, least))
            ]
        case "boolean":
            return not hostile
        case "integer" | "number":
            return schema.get("minimum", 0) if hostile else schema.get("maximum", 1)
        case _:
            return "nobody" if hostile else "Seven"


def _numbered(item: Any, index: int) -> Any:
    """An item that differs from the others of its list, where it has room for that."""
    if not isinstance(item, dict):
        return item
    texts = {name: f"{value} {index}" for name, value in item.items() if name in ("task", "text")}
    return {**item, **texts}


def sane(request: ModelRequest) -> Turn | str:
    """Decides for what ends, makes each call that is offered once, and answers."""
    if isinstance(request.output, JsonOutput):
        return json.dumps(filled(request.output.schema))
    if request.messages[-1].type == "tool":
        return "It is done: 7"
    offered = [tool.name for tool in request.tools]
    team = [name for name in offered if name.startswith("agents__")]
    calls = [task(name.removeprefix("agents__"), "Do it.") for name in team]
    if "functions__pay" in offered:
        calls.append(function("pay", amount=5))
    return calling(*calls) if calls else "It is 7"


def _extreme(request: ModelRequest) -> Turn | str:
    """Decisions that are valid and ask for as much as they can, and nothing else."""
    if isinstance(request.output, JsonOutput):
        return json.dumps(filled(request.output.schema, hostile=True))
    return "Nothing"


def _always(given: Turn | str) -> Callable[[ModelRequest], Turn | str]:
    return lambda _request: given


_UNKNOWN = task("nobody", "Do it.")
_MANY = [task("alpha", f"Part {n}.") for n in range(TASKS)] + [function("balance")] * (50 - TASKS)

SILENT: dict[str, Callable[[ModelRequest], Turn | str]] = {
    "empty": _always(""),
    "spaces": _always(" \n\t "),
    "garbage": _always("%$ no JSON }{"),
    "wrong values": _always('{"score": 900, "tasks": 7, "agent": "nobody", "worker": []}'),
    "calls as text": _always(json.dumps([_UNKNOWN, hand("beta")])),
    "deep": _always("[" * 5000),
    "extreme decisions": _extreme,
}
"""Models that call nothing: what they say ends each loop at once."""

CALLING: dict[str, Callable[[ModelRequest], Turn | str]] = {
    "unknown worker": _always(calling(_UNKNOWN)),
    "wrong tools": _always(calling(function("nothing"), {"name": "", "args": {}})),
    "wrong arguments": _always(
        calling({"name": "agents__alpha", "args": {"tusk": 1}}, function("pay", amount="all"))
    ),
    "endless handoffs": _always(calling(hand("alpha"), hand("beta"), hand("lead"))),
    "endless tasks": _always(calling(task("alpha", "Again."), task("beta", "Again."))),
    "50 calls": _always(calling(*_MANY)),
}
"""Models that call and never answer."""


def paid(name: str, ledger: Ledger) -> corral.Agent:
    """An agent of a pattern: it, or its workers, pay before they answer."""
    model = Answering(sane)
    return patterned(name, model, *pair(model, *ledger.tools()), functions=ledger.tools())
