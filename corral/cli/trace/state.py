"""A run at one point of its journal: what the model saw, what was spent, what waited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from corral.cli.trace.data import Trace
from corral.cli.trace.words import is_damaged
from corral.jsontypes import Json, JsonObject
from corral.runtime.outline import OPEN, Node, milliseconds
from corral.runtime.paths import asked_about, comes_after, scope
from corral.runtime.previews import preview
from corral.runtime.views import EffectView, Totals

_PREPARE = "prepare"  # the path, in each graph, of what is looked up before it begins


@dataclass(frozen=True)
class Spent:
    """What the effects up to a point have used."""

    model_calls: int = 0
    tool_calls: int = 0
    totals: Totals = field(default_factory=Totals)

    def plus(self, effect: EffectView) -> Spent:
        """With one more effect; a call counts once it has finished."""
        is_done = effect.status == "finished"
        return Spent(
            self.model_calls + (is_done and effect.kind == "model"),
            self.tool_calls + (is_done and effect.kind == "tool"),
            Totals.of([self.totals, effect]),
        )


@dataclass(frozen=True)
class Conversation:
    """The messages that a model had been sent by a point, oldest first, its answer last.

    ``messages`` are the newest of ``total``. ``model`` is the call they were sent with, and
    ``None`` before the first. ``is_whole`` is false when an earlier part of it is missing.
    """

    messages: Sequence[Json]
    total: int
    model: EffectView | None = None
    is_whole: bool = True


class History:
    """The points of a run: its effects in the order in which they were asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.effects = list(trace.effects)
        self.index = {effect.seq: at for at, effect in enumerate(self.effects)}
        self.nodes = {node.path: node for node in trace.graph.walk()}
        self._spent = list(accumulate(self.effects, Spent.plus, initial=Spent()))[1:]
        self._questions = [effect for effect in self.effects if effect.kind == "approval"]
        self._counts = self._count_messages()

    def _count_messages(self) -> dict[int, int]:
        """How many messages each model call was sent, by its ``seq``."""
        counts: dict[int, int] = {}
        for effect in self.effects:
            if effect.kind == "model":
                before = counts.get(_after(effect) or 0, 0)
                counts[effect.seq] = before + len(_added(effect))
        return counts

    def node(self, at: int) -> Node:
        """Where the effect at a point stands in the run."""
        return self.nodes[self.effects[at].path]

    def spent(self, at: int) -> Spent:
        """What was spent up to a point, its effect included."""
        return self._spent[at]

    def elapsed(self, at: int) -> float | None:
        """Milliseconds from the run's start to the end of the effect at a point.

        ``None`` for what a fork shares: it was before the fork's start.
        """
        begin = milliseconds(self.trace.run.started_at)
        if begin is None or self.effects[at].run != self.trace.run.run:
            return None
        return max(0.0, self.node(at).end - begin)

    def pending(self, at: int) -> list[EffectView]:
        """The questions that had been asked at a point and waited for an answer."""
        now = self.node(at).end
        return [
            question
            for question in self._questions
            if question.seq <= self.effects[at].seq
            and (question.status in OPEN or self.nodes[question.path].end > now)
        ]

    def conversation(self, at: int, limit: int) -> Conversation:
        """What the model of the graph that asked had seen and heard by a point."""
        effect = self.effects[at]
        graph = scope(asked_about(effect.path))
        call = effect if effect.kind == "model" else self._last_call(at, graph)
        if call is None:
            return self._beginning(graph)
        heard = [*_answer(call), *self._results(call, at, graph)]
        sent, is_whole = self._sent(call, max(0, limit - len(heard)))
        total = self._counts[call.seq] + len(heard)
        return Conversation([*sent, *heard][-limit:], total, call, is_whole)

    def _last_call(self, at: int, graph: str) -> EffectView | None:
        for effect in reversed(self.effects[: at + 1]):
            if effect.kind == "model" and scope(effect.path) == graph and _is_answer(effect):
                return effect
        return None

    def _beginning(self, graph: str) -> Conversation:
        """Before the first model call there is only the prompt, or a sub-agent's task."""
        prompt: Json = self.trace.run.prompt
        if graph:
            owner = self.nodes[graph[:-1]].effect
            request = owner.request if owner is not None else None
            args = request.get("args") if isinstance(request, dict) else None
            prompt = args.get("task") if isinstance(args, dict) else None
        messages = [] if prompt is None else [{"type": "human", "content": prompt}]
        return Conversation(messages, len(messages))

    def _results(self, call: EffectView, at: int, graph: str) -> Iterator[Json]:
        """What tools and sub-agents have given since a model call, as the next one is told."""
        for effect in self.effects[self.index[call.seq] + 1 : at + 1]:
            if effect.kind not in ("tool", "agent") or scope(effect.path) != graph:
                continue
            if effect.status == "finished" and comes_after(effect.path, call.path):
                result = effect.result if isinstance(effect.result, dict) else {}
                text = result.get("text", effect.result)
                if isinstance(text, str):
                    text = preview(text, effect.path, self._shown_of_results(graph)).text
                yield {"type": "tool", "name": effect.name, "content": text}

    def _shown_of_results(self, graph: str) -> int:
        """How many characters of a long result the model of a graph is shown; 0 for all."""
        begun = self.nodes.get(f"{graph}{_PREPARE}")
        found = begun.effect.result if begun is not None and begun.effect is not None else None
        limit = found.get("preview") if isinstance(found, dict) else None
        return limit if isinstance(limit, int) else 0

    def _sent(self, call: EffectView, limit: int) -> tuple[list[Json], bool]:
        """The newest messages of a call's prompt: each call holds what was added to it."""
        parts: list[Sequence[Json]] = []
        met: set[int] = set()
        at: EffectView | None = call
        found = 0
        while at is not None and found < limit and at.seq not in met:
            met.add(at.seq)
            parts.append(_added(at))
            found += len(parts[-1])
            after = _after(at)
            if after is None and not is_damaged(at):
                break
            at = self.effects[self.index[after]] if after in self.index else None
        messages = [message for part in reversed(parts) for message in part]
        return messages[-limit:] if limit else [], at is not None


def _request(effect: EffectView) -> JsonObject:
    return effect.request if isinstance(effect.request, dict) else {}


def _added(effect: EffectView) -> Sequence[Json]:
    messages = _request(effect).get("messages")
    return messages if isinstance(messages, list) else ()


def _after(effect: EffectView) -> int | None:
    after = _request(effect).get("after")
    return after if isinstance(after, int) else None


def _is_answer(effect: EffectView) -> bool:
    return bool(_request(effect).get("purpose", "answer") == "answer")


def _answer(call: EffectView) -> list[Json]:
    result = call.result if isinstance(call.result, dict) else {}
    message = result.get("message")
    return [message] if isinstance(message, dict) and call.status == "finished" else []
