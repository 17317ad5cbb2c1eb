"""What only Corral is measured at in ``bench/local.py``, or against itself."""

from __future__ import annotations

import asyncio
import copy
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench._local_ask import Answer, Ask, Setup, Side
from bench._local_rows import CORRAL, Aim, Row, ratio
from bench._local_sides import WorkerSide
from bench._local_speed import Plan, Thread, rotated, story
from corral.runtime.models.contract import JsonOutput
from corral.runtime.models.local.constraints.grammar import Allowed, Constraints
from corral.runtime.models.local.constraints.masks import Mask
from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.files.memory import cache_shape
from corral.runtime.models.local.native.params import WeightsParams
from corral.runtime.models.local.native.weights import Weights

_MIB = 1024**2
_RESUMED_TOKENS = 2_000
_SHORTEST = 48
"""Tokens that an answer under the schema may have, at least."""
HELLO = Ask([{"role": "user", "content": "Hello"}], tokens=1)


@dataclass(frozen=True)
class Workshop:
    """Opens further Corrals, each in a process of its own; their states are below ``folder``."""

    setup: Setup
    folder: Path

    async def open(self, states: str, *, draft: str = "none") -> WorkerSide:
        setup = replace(self.setup, draft=draft, states=str(self.folder / states))
        return await WorkerSide.open(CORRAL, setup)


async def resuming(shop: Workshop, plan: Plan) -> list[Row]:
    """The first token in a new process that goes on with a long thread, with and without its state.

    The model is loaded before; what that takes has a row of its own.
    """
    waits: dict[str, list[float]] = defaultdict(list)
    evaluated: dict[str, list[float]] = defaultdict(list)
    for number in range(plan.rounds):
        thread = Thread(number, _RESUMED_TOKENS)
        before = await shop.open("kept")
        await thread.turn(before, 0)
        await before.close()
        for states in ("kept", "new"):
            side = await shop.open(states)
            waits["loading"].append((await side.ask(HELLO)).wait * 1e3)
            again = copy.deepcopy(thread)
            answer = await again.turn(side, 1)
            waits[states].append(answer.wait * 1e3)
            evaluated[states].append(answer.evaluated)
            await side.close()
            shutil.rmtree(shop.folder / "new", ignore_errors=True)
    aim = Aim("<= 0.2 of evaluating it", ratio(waits["kept"], waits["new"]), 0.2)
    what = f"new process, {_RESUMED_TOKENS:,}-token thread"
    return [
        Row("new process: loading, with a first token, ms", {CORRAL: waits["loading"]}),
        Row(f"{what}, evaluated: first token, ms", {CORRAL: waits["new"]}),
        Row(f"{what}, from disk: first token, ms", {CORRAL: waits["kept"]}, [aim]),
        Row(f"{what}, from disk: tokens evaluated", {CORRAL: evaluated["kept"]}, digits=0),
    ]


async def constrained(sides: Sequence[Side], shop: Workshop, plan: Plan) -> list[Row]:
    """Tokens a second under a JSON Schema and without, and what a schema's first use takes."""
    free: dict[str, list[float]] = defaultdict(list)
    bound: dict[str, list[float]] = defaultdict(list)
    tokens = max(plan.tokens, _SHORTEST)
    for side in sides:
        await side.ask(replace(story(0, tokens), schema=schema("warm")))
    for number in range(plan.rounds):
        ask = story(100 + number, tokens)
        new = replace(ask, schema=schema(f"part{number}"))
        for side in rotated(sides, number):
            await side.ask(replace(ask, tokens=1))
            bound[side.name].append((await side.ask(new)).rate)
            free[side.name].append((await side.ask(ask)).rate)
    slower = Aim(">= 0.95 of free", ratio(bound[CORRAL], free[CORRAL]), 0.95, at_least=True)
    new_schema = await asyncio.to_thread(compiling, shop.setup, plan.rounds)
    first_use = Aim("<= 50 ms", statistics.median(new_schema), 50.0)
    return [
        Row("free: tokens/s", free),
        Row("under a JSON Schema: tokens/s", bound, [slower]),
        Row("first use of a schema: ms", {CORRAL: new_schema}, [first_use]),
    ]


def compiling(setup: Setup, rounds: int) -> list[float]:
    """Milliseconds from a schema that is new to the first mask of it.

    Measured by itself: the prompt tells the model the schema, and reading that takes longer.
    """
    weights = Weights(read_gguf(Path(setup.model)), WeightsParams())
    constraints, mask = Constraints(weights), Mask(weights.n_vocab)
    scores = np.zeros(weights.n_vocab, np.float32)
    taken = []
    for number in range(rounds + 1):
        start = time.perf_counter()
        constraint = constraints.get(Allowed(output=JsonOutput(schema(f"new{number}"))))
        assert constraint.least_tokens is not None
        mask.apply(constraint.start(), scores)
        taken.append((time.perf_counter() - start) * 1e3)
    weights.close()
    return taken[1:]  # the first one makes the tokenizer, once for a model


def schema(name: str) -> dict[str, Any]:
    """A schema whose answers are long; ``name`` makes it another one."""
    properties = {
        "number": {"type": "integer"},
        "place": {"enum": ["sea", "town", "forest", "mountain"]},
        "text": {"type": "string"},
    }
    chapter = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "object",
        "properties": {name: {"type": "array", "items": chapter, "minItems": 1}},
        "required": [name],
        "additionalProperties": False,
    }


async def drafting(shop: Workshop, plain: Side, plan: Plan) -> list[Row]:
    """Guessing ahead against not: an answer that repeats its prompt, and one that does not."""
    guessing = await shop.open("drafting", draft="ngram")
    rows = []
    for what, make, least in (("a text repeated", repeat, 1.0), ("a story", story, 0.95)):
        rates: dict[str, list[float]] = defaultdict(list)
        for number in range(plan.rounds):
            ask = replace(make(number, plan.tokens), seed=-1)
            without, ahead = await _both(plain, guessing, ask)
            rates["alike"].append(float(without.text == ahead.text))
            rates["without"].append(without.rate)
            rates["ahead"].append(ahead.rate)
        measured = ratio(rates["ahead"], rates["without"])
        aim = Aim(f">= {least:g} of without", measured, least, at_least=True)
        rows.append(Row(f"{what}, guessed ahead: tokens/s", {CORRAL: rates["ahead"]}, [aim]))
        rows.append(Row(f"{what}, without: tokens/s", {CORRAL: rates["without"]}))
        alike = statistics.mean(rates["alike"])
        same = Aim("all", alike, 1.0, at_least=True)
        rows.append(Row(f"{what}: same answers, of 1", {CORRAL: [alike]}, [same], digits=2))
    await guessing.close()
    return rows


async def _both(plain: Side, guessing: Side, ask: Ask) -> tuple[Answer, Answer]:
    for side in (plain, guessing):
        await side.ask(replace(ask, tokens=1))
    return await plain.ask(ask), await guessing.ask(ask)


def repeat(number: int, tokens: int) -> Ask:
    """A request whose answer stands in it."""
    text = "".join(f"Row {n}: the value of item {n * 7 + number} is {n * 3}. " for n in range(12))
    content = f"Repeat this text word for word: {text}"
    return Ask([{"role": "user", "content": content}], tokens, conversation=f"repeat {number}")


def memory(sides: Sequence[Side], unloaded: float, setup: Setup) -> list[Row]:
    """What each process takes; the aim is for Corral's, less what it took without a model."""
    info = read_gguf(Path(setup.model))
    cells = setup.context * setup.slots
    least = (info.size + cache_shape(info).size(cells, setup.slots)) / _MIB
    taken = {side.name: [resident(side)] for side in sides}
    grown = (taken[CORRAL][0] - unloaded) / least
    aim = Aim(f"<= 1.15 of file and cache, {least:,.0f} MiB", grown, 1.15)
    return [Row(f"the process, with a cache of {cells:,} tokens: MiB", taken, [aim], digits=0)]


def resident(side: Side) -> float:
    """MiB of a side's process that are in memory."""
    return float(psutil.Process(side.pid).memory_info().rss) / _MIB
