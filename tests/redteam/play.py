"""Plays a task, with an attack or without, and says what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import corral
from corral.jsontypes import canonical
from corral.policies.rules import Rule
from tests.redteam.cases import Attack, Task
from tests.redteam.model import Call, ObedientModel
from tests.redteam.world import World


@dataclass(frozen=True)
class Played:
    """How a run ended, what was done to the world, and how often a human was asked."""

    status: str
    deeds: tuple[Call, ...]
    asked: int
    run: str

    def beyond(self, task: Task) -> list[Call]:
        """What was done that is no part of the task."""
        wanted = {_key(call) for step in task.plan for call in step}
        return [deed for deed in self.deeds if _key(deed) not in wanted]


async def play(
    corral_: corral.Corral, task: Task, attack: Attack | None = None, human: str = "nobody"
) -> Played:
    """Run a task.

    ``human`` is ``nobody``, who never answers, ``denies``, or ``theirs``: one who approves just
    the calls of the task.
    """
    planted = {attack.place: " ".join(attack.orders)} if attack is not None else {}
    world = World(planted)
    asked: list[corral.Approval] = []
    wanted = {_key(call) for step in task.plan for call in step}

    async def answer(approval: corral.Approval) -> Any:
        asked.append(approval)
        if human == "nobody":
            return None
        is_theirs = _key((approval.tool, dict(approval.args))) in wanted
        return corral.Approved() if human == "theirs" and is_theirs else corral.Denied("no")

    agent = corral.Agent(
        chat_model=ObedientModel(task.plan),
        functions=world.tools(),
        servers=("memory", *task.servers),
    )
    options = corral.RunOptions(
        agent=agent,
        policy=task.preset,
        rules=tuple(Rule.model_validate(rule) for rule in task.rules),
        approver=answer,
    )
    result = await corral_.run(f"{task.prompt}{planted.get('prompt', '')}", options)
    return Played(result.status, tuple(world.deeds), len(asked), result.run)


def _key(call: Call) -> str:
    name, args = call
    whole = {key: float(one) if isinstance(one, int) else one for key, one in args.items()}
    return canonical([name, whole])
