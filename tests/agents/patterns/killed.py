"""Every pattern in a process that is killed in the middle of one of its effects.

The models answer by what they are asked and by nothing else, so that a new process can go on with
them. What they pay for stands in ``calls.log``: the truth about what happened, in which the human
looks who answers for a call in doubt.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import corral
from corral.jsontypes import digest
from corral.runtime.models.contract import Chunk, ModelRequest
from tests.agents.patterns.every import filled, pair, patterned
from tests.agents.patterns.support import Answering, deciding, text_of, wants
from tests.agents.patterns.teams import calling, function, hand, results, task
from tests.runtime.agents import Turn
from tests.runtime.crash_child import Place, answer

Moment = Literal["asked", "before", "after"]
"""A model was asked; a call is about to happen; it has happened, and nobody knows it yet."""


@dataclass
class Fuse:
    """Kills this process at the moment ``number`` of a kind; 0: it only counts them."""

    moment: Moment = "asked"
    number: int = 0
    counted: Counter[str] = field(default_factory=Counter)

    def reach(self, moment: Moment) -> None:
        """It is such a moment."""
        self.counted[moment] += 1
        if moment == self.moment and self.counted[moment] == self.number:
            os.kill(os.getpid(), signal.SIGKILL)


def team_at_work(name: str, place: Place, fuse: Fuse) -> corral.Agent:
    """An agent of a pattern whose every call has an effect that must happen once."""

    def happen(what: str) -> None:
        fuse.reach("before")
        with place.log.open("a") as file:
            file.write(f"{what}\n")
            file.flush()
            os.fsync(file.fileno())
        fuse.reach("after")

    def pay(what: str) -> str:
        """Pay for something."""
        happen(what)
        return PAID

    def inspect(answer: str) -> bool:
        """Have an answer inspected, which costs something."""
        happen(answer)
        return is_sound(answer)

    model = Fused(busy, fuse=fuse)
    given = {"verifier": "functions__inspect"} if name in ("tree_of_thoughts", "mcts") else {}
    agent = patterned(name, model, *pair(model, pay), functions=(pay, inspect))
    return agent.model_copy(update={"options": {**agent.options, **given}})


PAID = "It is paid."


def is_sound(answer: str) -> bool:
    """What an inspection finds."""
    return "after 1" in answer


@dataclass
class Fused(Answering):
    """A model that may be killed when it is asked."""

    fuse: Fuse = field(default_factory=Fuse)

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer, if it comes to that."""
        self.fuse.reach("asked")
        async for chunk in super().stream(request):
            yield chunk


def busy(request: ModelRequest) -> Turn | str:
    """Decides for more work, pays and gives tasks, lets beta take over, and answers."""
    match wants(request):
        case "":
            return _working(request)
        case "Critique":
            return deciding(score=0.5, points=["Say more."])
        case "Steps":
            length = text_of(request).count("after")
            steps = [{"text": f"{n} after {length}", "done": n == 0} for n in range(2)]
            return deciding(steps=steps)
        case kind:
            schema = getattr(request.output, "schema", None)
            return json.dumps(filled(schema, hostile=kind in ("Subtasks", "Plan")))


def _working(request: ModelRequest) -> Turn | str:
    offered = [tool.name for tool in request.tools]
    who = f"{request.agent} {request.sampling.seed or 0}"
    if not results(request):
        team = [name for name in offered if name.startswith("agents__")]
        once = f"{who} {digest(text_of(request))[:12]}"
        calls = [task(name.removeprefix("agents__"), f"Work for {once}.") for name in team]
        if "functions__pay" in offered:
            calls.append(function("pay", what=once))
        if calls:
            return calling(*calls)
    if "handoff__beta" in offered and request.messages[-1].type == "tool":
        return calling(hand("beta"))
    return f"The answer of {who}."


async def carried_on(name: str, place: Place, fuse: Fuse) -> str:
    """Bring the run of a pattern to its end from wherever it stands, and replay it.

    Its answer. What had finished before must stand as it is.
    """
    agent = team_at_work(name, place, fuse)
    options = corral.RunOptions(agent=agent)
    async with corral.open(place.settings(asking=False)) as c:
        stored = await c.records.runs()
        had = {e.path: e.seq for e in await _finished(c, stored[0].run)} if stored else {}
        result = await (c.resume(stored[0].run, options) if stored else c.run("Go.", options))
        while result.status == "paused":
            for question in result.approvals:
                await answer(c, question, _truth(place, question))
            result = await c.resume(result.run, options)
        assert result.status == "completed", result.error
        now = {e.path: e.seq for e in await _finished(c, result.run)}
        assert had.items() <= now.items()
        report = await c.replay(result.run, options)
        assert (report.status, report.executed) == ("identical", 0), report.divergence
        return result.output


async def _finished(c: corral.Corral, run: str) -> list[corral.EffectView]:
    return [entry for entry in await c.records.trace(run) if entry.status == "finished"]


def _truth(place: Place, question: corral.Approval) -> corral.Approved | corral.Given:
    """What a human answers who looks into the log."""
    assert question.kind == "in_doubt"
    (what,) = map(str, question.args.values())
    if what not in place.calls():
        return corral.Approved()
    is_payment = question.tool.endswith("pay")
    return corral.Given(PAID if is_payment else json.dumps(is_sound(what)))


def child(name: str, root: Path, moment: Moment, number: int) -> None:
    """``carried_on`` in this process, which is killed at a moment."""
    asyncio.run(carried_on(name, Place(root), Fuse(moment, number)))
