"""The provenance station: where every content of a run came from, rebuilt from its journal.

What an effect gives is labelled before it is journaled. A model's answer has the label of all that
it was sent; a tool's result that of its source, joined with what its call was asked for with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from langchain_core.messages import BaseMessage

from corral.jsontypes import Json, JsonObject
from corral.memory.labelled import joined_label
from corral.policies.provenance.labels import KEY, PUBLIC, Label
from corral.policies.provenance.sources import Result, result_label
from corral.policies.provenance.verbatim import Page, origin_of
from corral.runtime.effects import Effect, Guard, Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.previews import reader
from corral.runtime.stations.facts import PolicyRules, facts
from corral.tools.contract import SEPARATOR, ToolSpec
from corral.tools.router.definitions import definitions_label

MAX_TEXTS = 200
"""How many results, the newest ones, are looked through for a link or a reference."""

_LABELLED = ("model", "tool", "agent", "retrieval")


@dataclass
class _Scope:
    """What is known of one agent at work: all that it has met, and what each of its calls had."""

    label: Label
    definitions: Label = PUBLIC
    local: frozenset[str] = frozenset()
    calls: dict[str, Label] = field(default_factory=dict)
    sent: list[BaseMessage] = field(default_factory=list)
    sent_label: Label = PUBLIC

    def read(self, messages: Sequence[BaseMessage]) -> Label:
        """The label of a transcript, which mostly is the one before and a little more."""
        asked = list(messages)
        count = len(self.sent)
        if asked[:count] != self.sent:
            count, self.sent_label = 0, PUBLIC
        self.sent, self.sent_label = asked, self.sent_label.join(joined_label(asked[count:]))
        return self.sent_label


class Tracker:
    """The labels of one execution of a run.

    ``begin`` is the label of what the run began with: its request, and what its thread held.
    """

    def __init__(self, journal: Journal, rules: PolicyRules, begin: Label) -> None:
        self._journal = journal
        self._rules = rules
        self._scopes: defaultdict[str, _Scope] = defaultdict(lambda: _Scope(PUBLIC))
        self._scopes[""] = _Scope(begin)
        self._returned: defaultdict[str, list[str]] = defaultdict(list)
        self._public: list[Page] = []
        ended = [entry for entry in journal.entries() if entry.result is not None]
        for entry in sorted(ended, key=lambda entry: entry.ended or 0):
            self.saw(entry)

    def context(self, effect: Effect, path: str) -> Label:
        """The label of what an effect is asked for with: what the model had read that asked for it.

        Where no model is known to have asked, it is all that its agent has met so far.
        """
        return self.context_of(effect.guard, path)

    def context_of(self, guard: Guard | None, path: str) -> Label:
        """See ``context``."""
        scope = self._scope(path)
        known = scope.calls.get(guard.call_id) if guard is not None and guard.call_id else None
        return scope.label if known is None else known

    def begins(self, path: str, context: Label) -> None:
        """A sub-agent begins inside of the effect at ``path``, with a task of that label."""
        inner = self._scopes[f"{path}/"]
        inner.label = inner.label.join(context)

    def label(self, effect: Effect, path: str, outcome: Outcome, *, made: bool) -> Label | None:
        """The label of what an effect gave; ``None`` for a kind that has none.

        ``made`` is false for a call that was answered by policy or by a human in its place.
        """
        if effect.kind not in _LABELLED:
            return None
        if effect.kind == "model":
            scope = self._scope(path)
            definitions = scope.definitions if effect.request.get("tools") else PUBLIC
            # What a kept answer was made of went into this one, too.
            kept = Label.from_json(outcome.value[KEY]) if "cache" in outcome.value else PUBLIC
            return scope.read(effect.transcript).join(definitions, kept)
        if effect.kind == "retrieval":
            facts = outcome.value.get("facts", ())
            return PUBLIC.join(*(Label.from_json(fact.get(KEY)) for fact in facts))
        context = self.context(effect, path)
        if not made:
            return context
        if effect.kind == "agent":
            return self._of_agent(effect, path, context)
        if effect.guard is None:
            return context
        source = self._of_tool(effect.guard, outcome.value)
        # Its own source alone is named: what its context had read is named there.
        return replace(source.join(context), sources=source.sources)

    def saw(self, entry: Entry) -> None:
        """An effect has ended."""
        value = entry.result or {}
        scope = self._scope(entry.path)
        if entry.kind == "prepare":
            specs = [ToolSpec.from_json(spec) for spec in value.get("tools", ())]
            scope.definitions = definitions_label(specs)
            scope.local = frozenset(spec.name for spec in specs if not self._is_elsewhere(spec))
            return
        if entry.kind not in _LABELLED or entry.status == "failed":
            return
        label = Label.from_json(value.get(KEY))
        scope.label = scope.label.join(label)
        if entry.kind == "model":
            calls = (value.get("message") or {}).get("tool_calls") or ()
            for call in calls:
                known = scope.calls.get(str(call["id"]), PUBLIC)
                scope.calls[str(call["id"])] = known.join(label)
        if entry.kind == "tool":
            self._keep(entry, scope, label)

    def public_pages(self) -> tuple[Page, ...]:
        """What the run has read that anybody may have."""
        return tuple(self._public[-MAX_TEXTS:])

    def returned_texts(self, server: str) -> tuple[str, ...]:
        """What a server that is elsewhere has returned to the run."""
        return tuple(self._returned[server][-MAX_TEXTS:])

    def _keep(self, entry: Entry, scope: _Scope, label: Label) -> None:
        if reader(entry.name) is not None:
            return  # a part of what is kept whole; cut in the right place it says something else
        text = str((entry.result or {}).get("text", ""))
        if entry.name not in scope.local:
            self._returned[entry.name.partition(SEPARATOR)[0]].append(text)
        if label.readers is None:
            asked = (origin_of(value) for value in _texts(entry.request.get("args")))
            self._public.append(Page(next((origin for origin in asked if origin), ""), text))

    def _is_elsewhere(self, spec: ToolSpec) -> bool:
        """Whether a tool's server can have what it returns: what stays here is no reference."""
        if spec.server in self._rules.sandboxed - self._rules.networked:
            return False
        return spec.server in self._rules.remote or spec.open_world or not spec.trusted

    def _scope(self, path: str) -> _Scope:
        return self._scopes[self._journal.agent_scope(path)]

    def _of_agent(self, effect: Effect, path: str, context: Label) -> Label:
        met = self._scopes[f"{path}/"].label.join(context)
        return replace(met, untrusted=context.untrusted) if effect.closed else met

    def _of_tool(self, guard: Guard, value: JsonObject) -> Label:
        if value.get(KEY) is not None:
            return Label.from_json(value[KEY])  # a tool of ours that knows
        spec, call = guard.spec, facts(guard, self._rules)
        result = Result(
            text=str(value.get("text", "")),
            structured=value.get("structured"),
            is_error=bool(value.get("is_error")),
            has_images="images" in value,
            about=spec.description if spec.trusted else "",
            schema=spec.output_schema if spec.trusted else None,
        )
        return result_label(call, result, self._rules.policy.sources)


def _texts(value: Json) -> Iterator[str]:
    """The texts in a call's arguments."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
