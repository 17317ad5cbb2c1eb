"""Two runs side by side: from where they part, what each did, and what each used.

Pure: it works on the records that ``Records`` gives. What is compared of an effect are its
*aspects*: what was asked and what came of it, without ids, times and figures, which differ always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.policies.provenance.labels import unlabelled
from corral.runtime.alignment import Couple, Level, align, is_shared
from corral.runtime.outline import milliseconds, outline
from corral.runtime.paths import node
from corral.runtime.views import EffectView, Record, RunView

Verdict = Literal["same", "changed", "only_a", "only_b"]

_SAID_ONCE = ("model", "settings")
"""Aspects that stay as they are from one model call to the next: a change is told once."""


@dataclass(frozen=True)
class Change(Record):
    """One aspect in which two effects differ; ``None`` where a run has nothing of the kind."""

    aspect: str
    a: Json
    b: Json


@dataclass(frozen=True)
class Pair(Record):
    """Two effects that stand side by side, or one that only one run has."""

    verdict: Verdict
    a: EffectView | None
    b: EffectView | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Figures(Record):
    """What a run has used; for a fork with what it shares. Times are milliseconds.

    ``model_ms`` and ``tool_ms`` add up calls that may have been made at the same time; ``wall_ms``
    is from the start to the end, waits for a human included.
    """

    effects: int
    steps: int
    tool_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    model_ms: float
    tool_ms: float
    wall_ms: float
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    def minus(self, other: Figures) -> Figures:
        """Each figure's difference."""
        names = [field.name for field in fields(self)]
        # Rounded: the figures themselves have at most six digits behind the point.
        return Figures(
            **{name: round(getattr(self, name) - getattr(other, name), 6) for name in names}
        )


@dataclass(frozen=True)
class Comparison(Record):
    """Two runs, aligned.

    ``identical`` says that both did the same and ended alike. The first ``common`` effects are
    the same in both; ``shared`` of them are one entry, because one run is a fork of the other or
    both are forks of one. ``last_a`` and ``last_b`` are the ``seq`` of the last of them. ``pairs``
    is what follows. ``ends`` are the differences in how the runs ended.
    """

    a: RunView
    b: RunView
    identical: bool
    common: int
    shared: int
    last_a: int | None
    last_b: int | None
    pairs: tuple[Pair, ...]
    ends: tuple[Change, ...]
    figures_a: Figures
    figures_b: Figures


def compare(
    a: RunView, a_effects: Sequence[EffectView], b: RunView, b_effects: Sequence[EffectView]
) -> Comparison:
    """Align the journals of two runs and say in what they differ."""
    pairs = list(_pairs(align(_level(a_effects), _level(b_effects))))
    common = next((n for n, pair in enumerate(pairs) if pair.verdict != "same"), len(pairs))
    before, after = pairs[:common], tuple(pairs[common:])
    ends = _changes(_end(a), _end(b))
    last = before[-1] if before else None
    return Comparison(
        a=a,
        b=b,
        identical=not ends and all(pair.verdict == "same" for pair in after),
        common=common,
        shared=sum(is_shared(pair.a, pair.b) for pair in before if pair.a and pair.b),
        last_a=last.a.seq if last and last.a else None,
        last_b=last.b.seq if last and last.b else None,
        pairs=after,
        ends=ends,
        figures_a=figures(a, a_effects),
        figures_b=figures(b, b_effects),
    )


def figures(run: RunView, effects: Sequence[EffectView]) -> Figures:
    """What a run has used."""
    ended = [effect for effect in effects if effect.status in ("finished", "failed", "cancelled")]
    tools = [effect for effect in ended if effect.kind == "tool"]
    return Figures(
        effects=len(effects),
        steps=run.steps,
        tool_calls=len(tools),
        input_tokens=run.usage.input_tokens,
        output_tokens=run.usage.output_tokens,
        cost_usd=run.usage.cost_usd,
        model_ms=_sum_ms(effect for effect in ended if effect.kind == "model"),
        tool_ms=_sum_ms(tools),
        wall_ms=_wall_ms(run, effects),
        cached_tokens=run.usage.cached_tokens,
        reasoning_tokens=run.usage.reasoning_tokens,
    )


def _sum_ms(effects: Iterable[EffectView]) -> float:
    return round(sum(effect.duration_ms or 0.0 for effect in effects), 3)


def _wall_ms(run: RunView, effects: Sequence[EffectView]) -> float:
    """From the run's start to its end, and for a fork the span of what it shares before that."""
    inherited: dict[str, list[EffectView]] = {}
    own = []
    for effect in effects:
        if effect.run in ("", run.run):
            own.append(effect)
        else:
            inherited.setdefault(effect.run, []).append(effect)
    spans = [_span(found) for found in inherited.values()]
    start, end = milliseconds(run.started_at), milliseconds(run.finished_at)
    mine = end - start if start is not None and end is not None else _span(own)
    return round(sum(spans) + max(mine, 0.0), 3)


def _span(effects: Sequence[EffectView]) -> float:
    """Milliseconds from the first start to the last end."""
    starts = [(milliseconds(effect.started_at), effect.duration_ms or 0.0) for effect in effects]
    known = [(start, duration) for start, duration in starts if start is not None]
    if not known:
        return 0.0
    return max(start + duration for start, duration in known) - min(start for start, _ in known)


def _end(run: RunView) -> dict[str, Json]:
    return {"ended": run.status, "output": run.output, "error": run.error}


def _pairs(couples: Iterable[Couple]) -> Iterator[Pair]:
    told = _Told()
    for one, two in couples:
        a, b = one.effect if one else None, two.effect if two else None
        if one is None or two is None or a is None or b is None:
            if a or b:
                yield Pair("only_a" if a else "only_b", a, b)
        elif is_shared(a, b):
            yield Pair("same", a, b)
        else:
            changes = _changes(one.aspects, two.aspects)
            if a.kind == b.kind == "model":
                changes = told.new(node(a.path), changes)
            yield Pair("changed" if changes else "same", a, b, changes)


def _changes(a: dict[str, Json], b: dict[str, Json]) -> tuple[Change, ...]:
    names = dict.fromkeys((*a, *b))
    found = {name: Change(name, a.get(name), b.get(name)) for name in names}
    different = {name: change for name, change in found.items() if change.a != change.b}
    if "result" in different:
        # What a server gives as structured content, it says in the text too.
        different.pop("structured", None)
    return tuple(different.values())


class _Told:
    """What has been told of a node's model calls, which ask again with what they asked before."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Json, Json]] = {}

    def new(self, where: str, changes: tuple[Change, ...]) -> tuple[Change, ...]:
        """The changes at a node that are not the ones of the call before."""
        found: list[Change] = []
        for change in changes:
            key = (where, change.aspect)
            before = self._last.get(key)
            if change.aspect in _SAID_ONCE:
                self._last[key] = (change.a, change.b)
                if before != (change.a, change.b):
                    found.append(change)
            elif change.aspect == "prompt":
                self._last[key] = (change.a, change.b)
                found += _added(change, before)
            else:
                found.append(change)
        return tuple(found)


def _added(change: Change, before: tuple[Json, Json] | None) -> list[Change]:
    """The change of what was added to both prompts since the call before."""
    a, b = _list(change.a), _list(change.b)
    known_a, known_b = (_list(side) for side in before or ((), ()))
    if a[: len(known_a)] != known_a or b[: len(known_b)] != known_b:
        return [change]
    more_a, more_b = a[len(known_a) :], b[len(known_b) :]
    return [] if more_a == more_b else [Change("prompt", more_a, more_b)]


def _list(value: Json) -> list[Json]:
    return list(value) if isinstance(value, list | tuple) else []


def _level(effects: Sequence[EffectView]) -> Level:
    prompts = _prompts(effects)
    aspects = {one.seq: _aspects(one, prompts.get(one.seq, ())) for one in effects}
    return Level.of(outline(effects), aspects)


def _aspects(effect: EffectView, prompt: Sequence[Json]) -> dict[str, Json]:
    """What is compared of an effect, by name, in the order in which it is told."""
    request = effect.request if isinstance(effect.request, dict) else {}
    if "damaged" in request:
        asked: dict[str, Json] = {"request": effect.request}
    else:
        asked = _asked(effect, request, prompt)
    given = {"answered by": effect.answered_by or None, **_given(effect.kind, effect.result)}
    found = {**asked, "status": effect.status, **given}
    return {name: value for name, value in found.items() if value is not None}


def _asked(effect: EffectView, request: JsonObject, prompt: Sequence[Json]) -> dict[str, Json]:
    match effect.kind:
        case "model":
            apart = ("model", "messages", "after")
            settings = {key: value for key, value in request.items() if key not in apart}
            return {"model": effect.name, "settings": settings, "prompt": list(prompt)}
        case "tool":
            return {"tool": effect.name, "arguments": request.get("args")}
        case "prepare":
            return {}  # the agent's name and the model; its calls say the same
        case _:
            return {effect.kind: effect.name, "arguments": request.get("args", request)}


def _given(kind: str, result: Json) -> dict[str, Json]:
    if not isinstance(result, dict) or "damaged" in result:
        return {"result": result}
    result = unlabelled(result)
    match kind, result:
        case "model", {"message": dict(message)}:
            return {**_answer(message), "stop reason": result.get("stop_reason")}
        case "tool", {"text": str(text)}:
            wrong = result.get("is_error") or None
            return {"result": text, "is an error": wrong, "structured": result.get("structured")}
        case "prepare", {"tools": list(tools)}:
            rest = {key: value for key, value in result.items() if key != "tools"}
            return {"tools": [_tool(tool) for tool in tools], **rest}
    return {"result": result}


def _answer(message: JsonObject) -> dict[str, Json]:
    """A model's text and calls. The calls' ids name them within their run and nothing else."""
    calls = [
        {"name": call.get("name"), "args": call.get("args")}
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict)
    ]
    return {"answer": _text(message.get("content")), "calls": calls or None}


def _text(content: Any) -> Json:
    """A message's text; its blocks as they are when they are not all text."""
    if not isinstance(content, list):
        return content or None
    texts = [block.get("text") for block in content if isinstance(block, dict)]
    whole = len(texts) == len(content) and all(isinstance(text, str) for text in texts)
    return "".join(map(str, texts)) if whole else content


def _tool(spec: Any) -> Json:
    """A tool as a line: its name, and a few letters that differ when its definition does."""
    if not isinstance(spec, dict):
        return str(spec)
    return f"{spec.get('server')}__{spec.get('tool')} ({digest(spec)[:8]})"


def _prompts(effects: Sequence[EffectView]) -> dict[int, tuple[Json, ...]]:
    """What each model call was told, by ``seq``: instructions, prompts, and what came before.

    Left out are answers and results of the run itself: where they differ, that was told already.
    Calls that add nothing share one tuple, so this grows with what was said.
    """
    found: dict[int, tuple[Json, ...]] = {}
    echoes: set[str] = set()
    for effect in sorted(effects, key=lambda effect: effect.seq):
        request = effect.request if isinstance(effect.request, dict) else {}
        if effect.kind == "model":
            told = map(_message, _messages(request))
            more = tuple(one for one in told if canonical(one) not in echoes)
            after = request.get("after")
            before = found.get(after, ()) if isinstance(after, int) else ()
            found[effect.seq] = (*before, *more) if more else before
        echoes |= _echo(effect)
    return found


def _messages(request: JsonObject) -> list[JsonObject]:
    found = request.get("messages")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _message(message: JsonObject) -> JsonObject:
    if message.get("type") == "ai":
        return {"type": "ai", **_answer(message)}
    return {"type": message.get("type"), "text": _text(message.get("content"))}


def _echo(effect: EffectView) -> set[str]:
    """How the effect's result looks in the prompts that follow."""
    match effect.kind, effect.result:
        case "model", {"message": dict(message)}:
            return {canonical(_message(message))}
        case "tool" | "agent", {"text": str(text)}:
            return {canonical({"type": "tool", "text": text})}
    return set()
