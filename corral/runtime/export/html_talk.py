"""A run as a conversation: what was asked, answered, called and decided, in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.runtime.export.html_effects import tool_calls, who
from corral.runtime.export.html_figures import is_error
from corral.runtime.export.html_text import Room, Shown, args_in_words, duration, obj, objs, text_of
from corral.runtime.export.html_timeline import MOST_DEEP
from corral.runtime.outline import milliseconds
from corral.runtime.paths import asked_about, node, scope
from corral.runtime.views import Approval, EffectView, RunView

_BUDGET = 3_000_000
_MOST = 12_000
MOST_TURNS = 600
"""Turns of a conversation that a page shows: half of them from its beginning."""


@dataclass
class Turn:
    """One entry of the conversation. ``inside`` is what a sub-agent said and did."""

    kind: str
    title: str
    seq: int | None = None
    text: str = ""
    calls: tuple[str, ...] = ()
    args: str = ""
    note: str = ""
    is_error: bool = False
    folded: bool = False
    inside: list[Turn] = field(default_factory=list)
    shown: Shown = field(default_factory=lambda: Shown(""))
    shown_args: Shown = field(default_factory=lambda: Shown(""))


@dataclass(frozen=True)
class Talk:
    """The turns from the beginning, how many are left out, and those to the end."""

    first: Sequence[Turn]
    left_out: int = 0
    last: Sequence[Turn] = ()


def talk(run: RunView, effects: Sequence[EffectView], questions: Mapping[str, Approval]) -> Talk:
    """The conversation of a run."""
    turns = _Builder(questions).build(run, effects)
    half = MOST_TURNS // 2
    shown = Talk(turns)
    if len(turns) > MOST_TURNS:
        shown = Talk(turns[:half], len(turns) - 2 * half, turns[-half:])
    every = [turn for part in (shown.first, shown.last) for turn in _walk(part)]
    lengths = [len(text) for turn in every for text in (turn.text, turn.args)]
    room = Room(lengths, budget=_BUDGET, most=_MOST)
    for turn in every:
        turn.shown, turn.shown_args = room.show(turn.text), room.show(turn.args)
    return shown


def _walk(turns: Sequence[Turn]) -> list[Turn]:
    found = []
    for turn in turns:
        turn.inside = turn.inside[:MOST_TURNS]
        found += [turn, *_walk(turn.inside)]
    return found


class _Builder:
    def __init__(self, questions: Mapping[str, Approval]) -> None:
        self._questions = questions
        self._inside: dict[str, list[Turn]] = {"": []}
        self._asked: set[str] = set()

    def build(self, run: RunView, effects: Sequence[EffectView]) -> list[Turn]:
        turns = self._inside[""]
        for effect in effects:
            self._add(effect)
        if not any(turn.kind == "user" for turn in turns):
            turns.insert(0, Turn("user", "User", text=run.prompt))
        if run.error:
            turns.append(Turn("error", f"The run {run.status}", text=run.error, is_error=True))
        return turns

    def _add(self, effect: EffectView) -> None:
        around = scope(asked_about(effect.path) if effect.kind == "approval" else effect.path)
        while around not in self._inside:
            around = scope(around.removesuffix("/"))
        turns = self._inside[around]
        match effect.kind:
            case "model":
                turns += self._prompt(effect)
                turns.append(_answer(effect))
            case "tool":
                turns.append(_call(effect))
            case "agent":
                turns.append(_call(effect))
                if effect.path.count("/") < MOST_DEEP:
                    self._inside[f"{effect.path}/"] = turns[-1].inside
            case "approval":
                turns.append(self._question(effect))
            case "prepare" | "retrieval" | "connection":
                pass  # what a run and its calls look up for themselves: in the list of effects
            case _:
                turns.append(Turn("note", f"{effect.kind} {effect.name}", effect.seq))

    def _prompt(self, effect: EffectView) -> list[Turn]:
        """What was put to the model and is not among the turns before."""
        request = obj(effect.request)
        messages = objs(request.get("messages"))
        where = node(effect.path)
        again = where in self._asked
        self._asked.add(where)
        if request.get("purpose") == "summary":
            return [Turn("note", "The conversation so far is summarised", effect.seq)]
        if again and request.get("after") is None:
            title = f"The prompt was made anew, of {len(messages):,} messages"
            return [Turn("note", title, effect.seq)]
        new = [message for message in messages if message.get("type") in ("system", "human")]
        if again:
            return [_said(message) for message in new]
        return _first_prompt(messages)

    def _question(self, effect: EffectView) -> Turn:
        result, asked = obj(effect.result), self._questions.get(effect.path)
        status = str(result.get("status") or "waits for an answer")
        doubt = obj(effect.request).get("kind") == "in_doubt"
        title = f"{'In doubt' if doubt else 'Approval'}: {effect.name}"
        told = [" ".join(filter(None, [status, who(result), _when(effect, asked)]))]
        if result.get("reason"):
            told.append(str(result["reason"]))
        args = result.get("args") or obj(effect.request).get("args")
        return Turn(
            "approval",
            title,
            effect.seq,
            text="\n".join(filter(None, [asked.reason if asked else "", ": ".join(told)])),
            args=args_in_words(args),
            note=status,
            is_error=status == "denied",
        )


def _when(effect: EffectView, asked: Approval | None) -> str:
    if asked is None or asked.answered_at is None:
        return ""
    begin, end = milliseconds(effect.started_at), milliseconds(asked.answered_at)
    return f"after {duration(end - begin)}" if begin is not None and end is not None else ""


def _first_prompt(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The messages that a graph's first model call was asked with; what is older is folded."""
    newest = max(
        (at for at, message in enumerate(messages) if message.get("type") == "human"),
        default=len(messages),
    )
    turns = [_said(message) for message in messages]
    for turn in turns[:newest]:
        turn.folded = True
    return turns


def _said(message: Mapping[str, Any]) -> Turn:
    kind = str(message.get("type"))
    names = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}
    role = names.get(kind, "note")
    calls = tuple(str(call.get("name")) for call in objs(message.get("tool_calls")))
    title = str(message.get("name") or "Tool result") if role == "tool" else role.capitalize()
    return Turn(
        role, title, text=text_of(message.get("content")), calls=calls, folded=kind == "system"
    )


def _answer(effect: EffectView) -> Turn:
    result = obj(effect.result)
    note = ", ".join(
        filter(
            None,
            [
                effect.name,
                duration(effect.duration_ms) if effect.duration_ms is not None else "",
                f"{effect.output_tokens:,} tokens" if effect.output_tokens else "",
            ],
        )
    )
    text, failed = str(result.get("text") or ""), effect.status == "failed"
    if failed:
        text = str(result.get("error") or "")
    elif effect.status != "finished":
        text = f"({effect.status}: no answer is recorded)"
    calls = tuple(str(call.get("name")) for call in tool_calls(effect))
    summary = obj(effect.request).get("purpose") == "summary"
    title = "Summary" if summary else "Assistant"
    return Turn("assistant", title, effect.seq, text, calls, "", note, failed, folded=summary)


def _call(effect: EffectView) -> Turn:
    result, args = obj(effect.result), obj(effect.request).get("args")
    text = str(result.get("text") or "")
    if effect.status == "failed":
        text = str(result.get("error") or "")
    elif effect.status != "finished":
        text = f"({effect.status}: no result is recorded)"
    return Turn(
        effect.kind,
        effect.name,
        effect.seq,
        text=text,
        args=args_in_words(args),
        note=duration(effect.duration_ms) if effect.duration_ms is not None else "",
        is_error=is_error(effect),
    )
