"""Scrubbing: content goes, shape and figures stay.

Prompts, messages, arguments, results, errors, instructions, facts and descriptions become a note
of their length. What a run was made of stays: names of agents, models and tools, the keys of
arguments, places in the graph, statuses, times, tokens and costs. No digest stays either, because
a short text can be guessed from its digest, nor the ids of calls, which models make up. What is not
known to be harmless is taken for content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from corral.jsontypes import JsonObject, canonical
from corral.runtime.entries import Entry
from corral.runtime.views import Approval, EffectView, RunView, Totals

MARK = "▒▒▒"
"""How every text that was taken out begins."""

_NAME = re.compile(r"[\w.:@/+ -]{1,100}")
_ID = re.compile(r"[\w.:@/+#|\[\]-]{1,100}")
_KEY = re.compile(r"[A-Za-z_][\w.-]{0,63}")

Rule = Callable[[Any], Any]


def text(value: str) -> str:
    """A note of a text's length."""
    if not value:
        return ""
    return f"{MARK} {len(value):,} character{'' if len(value) == 1 else 's'}"


def values(value: Any) -> Any:
    """Any JSON: names of fields and lengths of lists stay, every value goes."""
    match value:
        case None:
            return None
        case str():
            return text(value)
        case bool():
            return f"{MARK} true or false"
        case Mapping():
            return {_key(key, at): values(one) for at, (key, one) in enumerate(value.items(), 1)}
        case list() | tuple():
            return [values(one) for one in value]
        case _:
            return f"{MARK} a number"


def model_name(value: str) -> str:
    """A model's reference; of a local file only its name, not the folder."""
    kind, _, rest = value.rpartition(":")
    if rest.startswith(("/", "~", ".")):
        rest = rest.rpartition("/")[2]
    name = f"{kind}:{rest}" if kind else rest
    return name if _NAME.fullmatch(name) else text(name)


def _answerer(model: str) -> str:
    return model and model_name(model)


class Scrubber:
    """Takes the content out of one run: its views, its entries, and lines of an export."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        message: dict[str, Rule] = {
            "type": _name,
            "name": _id,
            "tool_call_id": self._call_id,
            "status": _name,
            "tool_calls": _each(self._call),
            "invalid_tool_calls": _each(self._call),
        }
        self._request: dict[str, Rule] = {
            **_REQUEST,
            "messages": _each(lambda value: _object(value, message)),
        }
        self._results: dict[str, dict[str, Rule]] = {
            **_RESULTS,
            "model": {
                "id": _id,
                "message": lambda value: _object(value, message),
                "stop_reason": _name,
            },
        }

    def run(self, view: RunView) -> RunView:
        """A run without its prompt, answer and error."""
        return replace(
            view,
            model=model_name(view.model),
            prompt=text(view.prompt),
            output=text(view.output),
            error=_optional(view.error),
        )

    def effect(self, view: EffectView) -> EffectView:
        """An entry of the journal without its content."""
        return replace(
            view,
            name=_effect_name(view.kind, view.name),
            request=_object(view.request, self._request),
            result=self._result(view.kind, view.status, view.result),
            answered_by=_answerer(view.answered_by),
        )

    def entry(self, stored: Entry) -> Entry:
        """The same for an entry as it is stored; its digest goes too."""
        return replace(
            stored,
            name=_effect_name(stored.kind, stored.name),
            digest="",
            request=_object(stored.request, self._request),
            result=self._result(stored.kind, stored.status, stored.result),
            spend=replace(stored.spend, answered_by=_answerer(stored.spend.answered_by)),
        )

    def approval(self, view: Approval) -> Approval:
        """A question to a human without the arguments and the words."""
        return replace(
            view,
            tool=_id(view.tool),
            args=values(view.args),
            reason=text(view.reason),
            always=_object(view.always, {"tool": _id}),
            answer_reason=_optional(view.answer_reason),
            answer_result=_optional(view.answer_result),
            context=_object(view.context, _CONTEXT),
            answered_by=_who(view.answered_by),
            asked_of=_optional(view.asked_of),
        )

    def question(self, line: JsonObject) -> JsonObject:
        """The same for the line of an export."""
        return {
            key: _QUESTION[key](value) if key in _QUESTION else value for key, value in line.items()
        }

    def _result(self, kind: str, status: str, value: Any) -> Any:
        if status == "failed":
            return _object(value, {"type": _name})
        return _object(value, self._results.get(kind, {}))

    def _call(self, value: Any) -> Any:
        return _object(value, {"name": _id, "id": self._call_id, "type": _name})

    def _call_id(self, value: Any) -> Any:
        """Another id, the same wherever the same one stands: a call and its result stay joined."""
        if not isinstance(value, str):
            return values(value)
        return self._ids.setdefault(value, f"call-{len(self._ids) + 1}")


def _key(key: str, at: int) -> str:
    """The name of a field; what does not look like one may be content."""
    return key if _KEY.fullmatch(key) else f"{MARK} {at}"


def _effect_name(kind: str, name: str) -> str:
    if kind == "model":
        return model_name(name)
    if kind == "connection":
        return text(name)
    fits = _ID if kind in ("tool", "approval") else _NAME
    return name if fits.fullmatch(name) else text(name)


def _object(value: Any, rules: Mapping[str, Rule]) -> Any:
    """An object whose fields are kept by ``rules``; without a rule a value goes."""
    if not isinstance(value, Mapping):
        return values(value)
    fields = enumerate(value.items(), 1)
    return {_key(key, at): rules.get(key, values)(one) for at, (key, one) in fields}


def _each(rule: Rule) -> Rule:
    return lambda value: [rule(one) for one in value] if isinstance(value, list) else values(value)


def _name(value: Any) -> Any:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else values(value)


def _id(value: Any) -> Any:
    """A tool's name or an id, unless it does not look like one: a model may have made it up."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else values(value)


def _opaque(value: Any) -> Any:
    """A value whose very shape may be content: the keys of what a tool gave, say."""
    if value is None or isinstance(value, str):
        return _optional(value)
    return f"{MARK} {len(canonical(value)):,} characters of JSON"


def _figure(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else values(value)


def _optional(value: str | None) -> str | None:
    return None if value is None else text(value)


def _gone(_value: Any) -> str:
    return MARK


def _schema(value: Any) -> Any:
    """A JSON Schema: the names and types of parameters stay, what is said about them goes."""
    if not isinstance(value, Mapping):
        return values(value)
    rules: dict[str, Rule] = {
        "type": lambda kind: _each(_name)(kind) if isinstance(kind, list) else _name(kind),
        "required": _each(_name),
        "properties": lambda of: (
            {name: _schema(one) for name, one in of.items()}
            if isinstance(of, Mapping)
            else values(of)
        ),
        "items": _schema,
        "additionalProperties": lambda of: of if isinstance(of, bool) else _schema(of),
    }
    return _object(value, rules)


def _who(value: Any) -> Any:
    """Who answered: of a person only that it was one."""
    if not isinstance(value, str):
        return values(value)
    kind, _, name = value.partition(":")
    match kind:
        case "model":
            return f"model:{model_name(name)}"
        case "user" | "rule":
            return kind
        case _:
            return value if value in ("callback", "timeout", "corral") else text(value)


def _counted(value: Any) -> Any:
    """The lines of a file: only how many."""
    return [f"{MARK} {len(value):,} lines"] if isinstance(value, list) else values(value)


def _command(value: Any) -> Any:
    """A command: how many words, and nothing of what they are."""
    return _object(value, {"unknown": _each(_figure), "opaque": _figure})


_FLAGS = ("read_only", "destructive", "idempotent", "open_world", "trusted")


def _tool(value: Any) -> Any:
    rules: dict[str, Rule] = dict.fromkeys(_FLAGS, _figure)
    schemas: dict[str, Rule] = {"input_schema": _schema, "output_schema": _schema}
    return _object(value, {**rules, **schemas, "server": _id, "tool": _id})


_REQUEST: dict[str, Rule] = {
    "agent": _name,
    "kind": _name,
    "model": lambda value: model_name(value) if isinstance(value, str) else values(value),
    "name": _name,
    "purpose": _name,
    "tool": _id,
    "tools": _each(_id),
    "tools_digest": _gone,
    "tool_choice": _name,
    "sampling": lambda value: _object(
        value, dict.fromkeys(("temperature", "top_p", "max_tokens", "seed"), _figure)
    ),
    "limit": _figure,
    "after": _figure,
    "earlier": _figure,
    "port": _figure,
    "allowed": _figure,
    "shared": _figure,
    "reused": _figure,
}
_ANSWER: dict[str, Rule] = {"is_error": _figure, "dropped": _figure, "structured": _opaque}
_RESULTS: dict[str, dict[str, Rule]] = {
    "prepare": {
        "tools": _each(_tool),
        "context_window": _figure,
        "images": _figure,
        "preview": _figure,
    },
    "tool": {**_ANSWER, "images": _each(lambda value: _object(value, {"mime_type": _name}))},
    "agent": {**_ANSWER, "confidence": _figure},
    "approval": {"status": _name, "by": _who},
    "value": {"value": _opaque},
    "connection": dict.fromkeys(("sent", "received", "status", "open"), _figure),
}
_QUESTION: dict[str, Rule] = {
    "tool": _id,
    "args": values,
    "input_schema": _schema,
    "reason": text,
    "always": lambda value: _object(value, {"tool": _id}),
    "answer_args": values,
    "answer_reason": _optional,
    "answer_result": _optional,
    "context": lambda value: _object(value, _CONTEXT),
    "answered_by": _who,
}
_FIGURES = ("steps", *vars(Totals()))
_LIMITS = ("max_steps", "max_tokens", "max_repeats")
_CONTEXT: dict[str, Rule] = {
    "agents": _each(lambda value: _object(value, {"agent": _name})),
    "spent": lambda value: _object(value, dict.fromkeys(_FIGURES, _figure)),
    "limits": lambda value: _object(value, dict.fromkeys(_LIMITS, _figure)),
    "budgets": _each(lambda value: _object(value, _USED)),
    "read": lambda value: _object(value, dict.fromkeys(("untrusted", "private"), _figure)),
    "rule": lambda value: _object(
        value, {"layer": _name, "doubted": _figure, "every_time": _figure}
    ),
    "tool": lambda value: _object(value, dict.fromkeys(_FLAGS, _figure)),
    "file": lambda value: _object(value, {"digest": _gone, "diff": _counted, "cut": _figure}),
    "commands": _each(_command),
    "advice": _each(lambda value: _object(value, {"by": _who, "answer": _name})),
    "loop": lambda value: _object(value, {"kind": _name}),
}
_USED: dict[str, Rule] = {
    "account": _name,
    "words": _name,
    "measure": _name,
    "used": _figure,
    "limit": _figure,
}
