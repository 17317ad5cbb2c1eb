"""The two panes of ``corral trace --step``: the effects, and the state after the chosen one.

Only what is on the screen is drawn; a text is wrapped when its effect is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rich.cells import set_cell_size

from corral.cli.output import clean, one_line
from corral.cli.preview import call_text
from corral.cli.trace.state import History
from corral.cli.trace.summary import (
    CRITICAL,
    Line,
    answered_by,
    brief,
    columns,
    fitted,
    flow,
    pace,
    used,
    wrapped,
)
from corral.cli.trace.tree import KIND_STYLE, SHARED
from corral.cli.trace.words import (
    asked,
    asked_in_full,
    gave,
    gave_in_full,
    how_it_went,
    message_in_full,
    where,
)
from corral.runtime.paths import in_words, places
from corral.runtime.tool_costs import tool_costs
from corral.runtime.views import EffectView, Totals

AT_FIRST = 30
"""Messages of a conversation that are shown at first."""

_MANY_LINES = 400
_MANY_CHARACTERS = 200_000


class Panes:
    """Draws a run's points. ``everything`` shows long conversations and texts to their end."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.everything = False
        self._critical = frozenset(history.trace.critical.seqs)
        self._costs = tool_costs(history.effects)
        self._own = history.trace.run.run
        last = max((effect.seq for effect in history.effects), default=0)
        self._digits = max(2, len(str(last)))
        self._drawn: tuple[object, list[Line]] | None = None

    def effects(self, chosen: int, width: int, height: int) -> list[Line]:
        """The effects around the chosen one, a line each."""
        count = len(self.history.effects)
        first = max(0, min(chosen - height // 2, count - height))
        lines = [self._line(at, width) for at in range(first, min(first + height, count))]
        for line in lines[chosen - first : chosen - first + 1]:
            line[:] = [(text, f"{style} reverse".strip()) for text, style in line]
        return lines

    def _line(self, at: int, width: int) -> Line:
        effect = self.history.effects[at]
        mark = CRITICAL if effect.seq in self._critical else " "
        if effect.run != self._own:
            mark = SHARED
        kind = clean(effect.kind)
        indent = "  " * min(max(0, len(places(effect.path)) - 1), 4)
        start = f"{effect.seq:>{self._digits}} {mark} {indent}"
        word = how_it_went(effect)
        end = "" if word == "finished" else f"  {word}"
        room = max(4, width - columns(start) - len(kind) - 1 - len(end))
        text = set_cell_size(fitted(asked(effect, room), room), room)
        style = "red" if word in ("error", "failed") else "yellow"
        return [
            (start, "dim"),
            (f"{kind} ", KIND_STYLE.get(kind, "blue")),
            (text, ""),
            (end, style),
        ]

    def state(self, at: int, width: int) -> list[Line]:
        """The effect at a point, and the run after it."""
        key = (at, width, self.everything, "state")
        return self._remembered(key, self._state(at, width))

    def conversation(self, at: int, width: int) -> list[Line]:
        """What the model had seen and heard at a point, oldest message first."""
        key = (at, width, self.everything, "conversation")
        return self._remembered(key, self._conversation(at, width))

    def _remembered(self, key: object, lines: Iterable[Line]) -> list[Line]:
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, list(lines))
        return self._drawn[1]

    def _state(self, at: int, width: int) -> Iterator[Line]:
        effect = self.history.effects[at]
        yield [(f"effect {effect.seq}  ", "bold"), *_title(effect, width - 12)]
        yield from flow(self._facts(at), width, "dim", "")
        yield []
        yield from flow(self._so_far(at), width, "", "")
        for question in self.history.pending(at):
            args = question.request.get("args") if isinstance(question.request, dict) else {}
            call = call_text(question.name, args if isinstance(args, dict) else {}, width)
            yield [("waits for an answer: ", "yellow"), (fitted(call, max(8, width - 21)), "")]
        yield []
        yield from self._part("asked", _request(effect), width)
        yield from self._part("gave", gave_in_full(effect), width, bad=_is_bad(effect))
        yield from self._conversation(at, width)

    def _facts(self, at: int) -> list[str]:
        effect = self.history.effects[at]
        node = self.history.node(at)
        facts = [clean(in_words(effect.path)), how_it_went(effect)]
        if effect.duration_ms is not None:
            facts.append(brief(node.end - node.begin))
        facts += [*used(Totals.of([effect])), *pace(effect), *answered_by(effect)]
        if effect.seq in self._costs:
            facts.append(self._costs[effect.seq].in_words())
        if effect.attempts > 1:
            facts.append(f"{effect.attempts} attempts")
        if effect.seq in self._critical:
            facts.append(f"{CRITICAL} critical path")
        if effect.run != self._own:
            facts.append(f"{SHARED} shared with {clean(effect.run)}")
        return facts

    def _so_far(self, at: int) -> list[str]:
        spent, elapsed = self.history.spent(at), self.history.elapsed(at)
        facts = [
            f"spent so far: {_count(spent.model_calls, 'model call')}",
            _count(spent.tool_calls, "tool call"),
            *used(spent.totals),
        ]
        return facts if elapsed is None else [*facts, f"{brief(elapsed)} since the start"]

    def _part(
        self, name: str, lines: Iterable[str], width: int, *, bad: bool = False
    ) -> Iterator[Line]:
        style = "red" if bad else ""
        drawn = [[("  ", ""), (piece, style)] for piece in self._wrapped(lines, width - 2)]
        if drawn:
            yield [(name, "bold cyan")]
            yield from drawn
            yield []

    def _conversation(self, at: int, width: int) -> Iterator[Line]:
        limit = 10**9 if self.everything else AT_FIRST
        found = self.history.conversation(at, limit)
        seen = "before the first model call"
        if found.model is not None:
            seen = f"of {one_line(found.model.name, 40)} (effect {found.model.seq})"
        title = f"conversation {seen}: {_count(found.total, 'message')}"
        yield [(fitted(title, width), "bold cyan")]
        if not found.is_whole:
            yield [("  The messages before these cannot be read.", "red")]
        hidden = found.total - len(found.messages)
        if hidden > 0 and found.is_whole:
            yield [(f"  … {hidden} earlier messages (a shows all)", "dim")]
        for message in found.messages:
            for line in self._wrapped(message_in_full(message), width - 2):
                yield [("  ", ""), _spoken(line)]

    def _wrapped(self, lines: Iterable[str], width: int) -> Iterator[str]:
        """Lines that fit, and not too many of them unless everything is asked for."""
        shown = characters = 0
        for line in lines:
            if not self.everything and (shown > _MANY_LINES or characters > _MANY_CHARACTERS):
                yield "… and more (a shows all)"
                return
            text = line if self.everything else line[: _MANY_CHARACTERS - characters + 1]
            characters += len(line)
            for piece in wrapped(text, max(width, 8)):
                shown += 1
                yield piece


def _request(effect: EffectView) -> Iterable[str]:
    """The whole request; of a model call without its messages, which the conversation holds."""
    request = effect.request
    if effect.kind == "model" and isinstance(request, dict) and "messages" in request:
        rest = {key: value for key, value in request.items() if key != "messages"}
        return asked_in_full(replace(effect, request=rest))
    return asked_in_full(effect)


def _spoken(line: str) -> tuple[str, str]:
    who = line.partition(":")[0]
    return line, {"system": "dim", "user": "bold"}.get(who, "")


def _title(effect: EffectView, width: int) -> Line:
    kind = clean(effect.kind)
    room = max(8, width - len(kind))
    return [(f"{kind} ", KIND_STYLE.get(kind, "blue")), (fitted(asked(effect, room), room), "bold")]


def _is_bad(effect: EffectView) -> bool:
    return how_it_went(effect) in ("error", "failed")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def holds(effect: EffectView, text: str) -> bool:
    """Whether an effect's name, place, request or result holds a text, in any case of letters."""
    wanted = text.casefold()
    fields = (effect.kind, effect.name, effect.path, how_it_went(effect), where(effect.path))
    if any(wanted in field.casefold() for field in fields):
        return True
    texts = (*asked_in_full(effect), *gave(effect), *gave_in_full(effect))
    return any(wanted in line.casefold() for line in texts)
