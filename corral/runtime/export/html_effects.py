"""Every effect of a run, as the page lists it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corral.runtime.answer_facts import how_answered
from corral.runtime.critical_path import CriticalPath
from corral.runtime.export.connections import connection_in_words
from corral.runtime.export.html_figures import is_error
from corral.runtime.export.html_text import (
    Room,
    Shown,
    duration,
    headline,
    money,
    obj,
    objs,
    pretty,
    text_of,
)
from corral.runtime.paths import BESIDE, asked_about, in_words, scope
from corral.runtime.views import Approval, EffectView, RunView

_BUDGET = 6_000_000
_MOST = 40_000
_DEEPEST = 5
_ABOUT = 70

_ROLES = {"human": "User", "ai": "Assistant", "system": "System", "tool": "Tool result"}


@dataclass(frozen=True)
class Block:
    """One text of an effect, under its title."""

    title: str
    text: Shown


@dataclass(frozen=True)
class EffectItem:
    """One effect. ``after`` is the effect whose prompt this one goes on from."""

    seq: int
    kind: str
    name: str
    status: str
    about: str
    path: str
    where: str
    depth: int
    started_at: str
    took: str
    tokens: str
    cost: str
    attempts: int
    shared_with: str | None
    is_error: bool
    critical: bool
    after: int | None
    blocks: tuple[Block, ...]


Texts = list[tuple[str, str]]


def effect_items(
    run: RunView,
    effects: Sequence[EffectView],
    questions: Mapping[str, Approval],
    way: CriticalPath,
) -> list[EffectItem]:
    """All effects in the order of the journal, with as much of their texts as a page can hold."""
    texts = [list(_texts(effect, questions.get(effect.path))) for effect in effects]
    lengths = (len(text) for of_effect in texts for _, text in of_effect)
    room = Room(lengths, budget=_BUDGET, most=_MOST)
    on_the_way = set(way.seqs)
    return [
        _item(run, effect, on_the_way, tuple(Block(name, room.show(text)) for name, text in found))
        for effect, found in zip(effects, texts, strict=True)
    ]


def _item(
    run: RunView, effect: EffectView, critical: set[int], blocks: tuple[Block, ...]
) -> EffectItem:
    shared = effect.run not in ("", run.run)
    path = asked_about(effect.path) if effect.kind in BESIDE else effect.path
    tokens = effect.input_tokens + effect.output_tokens
    after = obj(effect.request).get("after")
    return EffectItem(
        seq=effect.seq,
        kind=effect.kind,
        name=effect.name,
        status=_status(effect),
        about=headline(_about(effect), _ABOUT),
        path=effect.path,
        where=in_words(path),
        depth=min(scope(path).count("/"), _DEEPEST),
        started_at=effect.started_at,
        took="" if effect.duration_ms is None else duration(effect.duration_ms),
        tokens=f"{tokens:,} tokens{_apart(effect)}"
        if tokens
        else ", ".join(how_answered(effect.result)),
        cost=money(effect.cost_usd) if effect.cost_usd else "",
        attempts=effect.attempts,
        shared_with=effect.run if shared else None,
        is_error=is_error(effect),
        critical=effect.seq in critical and not shared,
        after=after if isinstance(after, int) else None,
        blocks=blocks,
    )


def _apart(effect: EffectView) -> str:
    """Which of the tokens are not paid for, or thought, as others, and how fast they came."""
    counts = ((effect.cached_tokens, "cached"), (effect.reasoning_tokens, "reasoning"))
    parts = [f"{count:,} {what}" for count, what in counts if count]
    if effect.first_token_ms is not None:
        parts.append(f"first after {duration(effect.first_token_ms)}")
    if effect.tokens_per_second is not None:
        parts.append(f"{effect.tokens_per_second:.1f}/s")
    if effect.answered_by:
        parts.append(f"by {effect.answered_by}")
    parts += how_answered(effect.result)
    return f" ({', '.join(parts)})" if parts else ""


def _status(effect: EffectView) -> str:
    if effect.kind == "approval" and effect.status == "finished":
        return str(obj(effect.result).get("status") or effect.status)
    return effect.status


def _about(effect: EffectView) -> str:
    """What an effect was about, in a line."""
    request, result = obj(effect.request), obj(effect.result)
    match effect.kind:
        case "model":
            text = str(result.get("text") or "")
            names = [str(call.get("name")) for call in tool_calls(effect)]
            return text or (f"calls {', '.join(names)}" if names else "")
        case "tool" | "agent" | "approval":
            args = obj(request.get("args"))
            return ", ".join(f"{key}: {_short(value)[: _ABOUT * 2]}" for key, value in args.items())
        case "retrieval":
            return str(request.get("query") or "")
        case "connection":
            return f"{request.get('method')} {request.get('path')}".strip()
    return ""


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def tool_calls(effect: EffectView) -> Sequence[Mapping[str, Any]]:
    """The calls that a model wants made."""
    return objs(obj(obj(effect.result).get("message")).get("tool_calls"))


def _texts(effect: EffectView, question: Approval | None) -> Iterator[tuple[str, str]]:
    """The texts of an effect, each with its title."""
    request, result = obj(effect.request), obj(effect.result)
    if "damaged" in request:
        yield "Request (damaged)", str(request["damaged"])
    elif effect.kind == "model":
        yield from _asked(request)
    elif effect.kind in ("tool", "agent", "approval"):
        yield from _called(request)
    else:
        yield "Request", pretty(effect.request)
    if question is not None:
        yield "Why it was asked", question.reason
    if "damaged" in result:
        yield "Result (damaged)", str(result["damaged"])
    elif effect.result is not None:
        yield from _ended(effect, result)


def _ended(effect: EffectView, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if effect.status == "failed":
        yield "Error", f"{result.get('type')}: {result.get('error')}\n{result.get('hint')}".strip()
    elif effect.status == "cancelled":
        yield "Result", "None: the graph did not wait for its end."
    elif effect.kind == "model":
        yield from _answered(effect, result)
    elif effect.kind in ("tool", "agent"):
        yield from _gave(result)
    elif effect.kind == "approval":
        yield from _decided(result)
    elif effect.kind == "connection":
        yield "Result", connection_in_words(obj(effect.request), result)
    else:
        yield "Result", pretty(effect.result)


def _asked(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for message in objs(request.get("messages")):
        role = _ROLES.get(str(message.get("type")), str(message.get("type")))
        text = text_of(message.get("content"))
        calls = [dict(call) for call in objs(message.get("tool_calls"))]
        if text or not calls:
            yield f"Prompt: {role}", text
        if calls:
            yield f"Prompt: {role}, calls", pretty(calls)
    rest = {key: value for key, value in request.items() if key not in ("messages", "after")}
    yield "Settings", pretty(rest)


def _called(request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    args = request.get("args")
    if not isinstance(args, dict) or not args:
        yield "Arguments", pretty(args) if args else "none"
        return
    for key, value in args.items():
        yield f"Argument {key}", pretty(value)


def _answered(effect: EffectView, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    calls = [dict(call) for call in tool_calls(effect)]
    text = str(result.get("text") or "")
    if text or not calls:
        yield "Answer", text
    if calls:
        yield "Calls", pretty(calls)
    if result.get("stop_reason"):
        yield "Ended because", str(result["stop_reason"])


def _gave(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    name = "Result (an error)" if result.get("is_error") else "Result"
    yield name, str(result.get("text") or "")
    if result.get("structured") is not None:
        yield "Structured result", pretty(result["structured"])
    if result.get("dropped"):
        yield "Cut off by the tool's limit", f"{result['dropped']:,} characters"


def who(result: Mapping[str, Any]) -> str:
    """By whom a question was answered, in words; nothing where nobody recorded it."""
    kind, _, name = str(result.get("by") or "").partition(":")
    match kind:
        case "":
            return ""
        case "user":
            return f"by {name or 'the user'}"
        case "model" | "rule":
            return f"by the {kind} {name}".strip()
        case "callback":
            return "by the program that ran it"
        case "timeout":
            return "because nobody answered in time"
        case _:
            return f"by {kind}"


def _decided(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Answer", f"{result.get('status')} {who(result)}".strip()
    for key, title in (("args", "Other arguments"), ("reason", "Reason"), ("result", "Result")):
        if result.get(key) is not None:
            yield title, pretty(result[key])
