"""An effect in words: what was asked, how it went, what it gave. All of it cleaned.

A journal holds what models, tools and imports say, in shapes that a damaged row need not keep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from corral.cli.output import clean, one_line
from corral.cli.preview import call_text
from corral.jsontypes import Json, JsonObject
from corral.runtime.export.connections import connection_in_words
from corral.runtime.paths import places
from corral.runtime.views import EffectView

ERROR = "error"
"""How an effect went whose result says that it is an error: it finished, but not well."""

REFUSED = "refused"
"""How a connection went that no rule of the sandbox's network let through."""

_QUESTIONS = {"in_doubt": "in doubt: "}


def how_it_went(effect: EffectView) -> str:
    """The effect's status, ``error`` for a result that is one, or a human's answer.

    A connection that was not let through is ``refused``.
    """
    if effect.kind == "connection" and _request(effect).get("allowed") is False:
        return REFUSED
    match effect.result:
        case {"is_error": True} if effect.status == "finished":
            return ERROR
        case {"status": str(answer)} if effect.kind == "approval" and effect.status == "finished":
            return clean(answer)
    return clean(effect.status)


def is_damaged(effect: EffectView) -> bool:
    """Whether the request or the result could not be read."""
    return any(
        isinstance(value, dict) and set(value) == {"damaged"}
        for value in (effect.request, effect.result)
    )


def _request(effect: EffectView) -> JsonObject:
    return effect.request if isinstance(effect.request, dict) else {}


def asked(effect: EffectView, width: int = 100) -> str:
    """What was asked for, after its kind: a model's name, or a call with its arguments."""
    request = _request(effect)
    question = _QUESTIONS.get(str(request.get("kind")), "") if effect.kind == "approval" else ""
    match request:
        case {"args": dict(args)}:
            inside = max(8, width - len(effect.name) - len(question) - 2)
            return question + call_text(effect.name, args, inside)
        case {"purpose": str(purpose)} if purpose != "answer":
            return one_line(f"{effect.name} ({purpose})", max(8, width))
        case {"method": method, "path": path} if effect.kind == "connection":
            return one_line(f"{method} {effect.name}{path}", max(8, width))
    return question + one_line(effect.name, max(8, width))


def gave(effect: EffectView) -> list[str]:
    """What an effect gave, in a few texts of any length that are not cleaned yet."""
    result = effect.result
    if effect.kind == "connection" and not is_damaged(effect):
        return [connection_in_words(_request(effect), result if isinstance(result, dict) else {})]
    if result is None:
        return []
    if not isinstance(result, dict):
        return [_json(result)]
    if is_damaged(effect) and "damaged" in result:
        return [f"damaged: {result['damaged']}"]
    return [*_in_words(effect, result), *_checks(result), *_stands_for(effect, result)]


def _checks(result: JsonObject) -> Iterator[str]:
    """What checks have found of a text that went in or came out, and what was done."""
    found = result.get("checks")
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict):
            yield f"check {one.get('check')}: {one.get('did')}: {one.get('reason')}"


def _stands_for(effect: EffectView, result: JsonObject) -> Iterator[str]:
    """Of a summary: what it is of, by the places of its messages in the graph."""
    match result.get("stands_for"):
        case {"messages": int(count), "ids": list(ids), **more}:
            own = f"{effect.run}:"
            new = ", ".join(str(one).removeprefix(own) for one in ids)
            before = str(more.get("after", "")).removeprefix(own)
            goes_on = f"; goes on from the summary {before}" if before else ""
            yield f"stands for the first {count} messages; new in it: {new or 'none'}{goes_on}"


def _in_words(effect: EffectView, result: JsonObject) -> list[str]:
    """The result of a known shape; of any other shape as JSON."""
    match result:
        case {"error": str(error)} if effect.status == "failed":
            return [error]
        case {"message": dict(message), "blocked": str(reason)}:
            return [*message_lines(message), reason]
        case {"message": dict(message)}:
            return message_lines(message)
        case {"tools": list() as found} | {"facts": list() as found}:
            return [_counted(found, "tool" if "tools" in result else "fact"), *_problems(result)]
        case {"status": str(), "reason": _}:
            return _answer(result)
        case {"text": str(text)}:
            return [text or "(nothing)"]
        case {"value": value} if len(result) == 1:
            return [_json(value)]
    return [_json(result)] if result else []


def message_lines(message: JsonObject) -> list[str]:
    """A chat message: its text, and a line for each call that it asks for."""
    text = content_text(message.get("content"))
    lines = [text] if text else []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        name, args = (call.get("name"), call.get("args")) if isinstance(call, dict) else (call, {})
        shown = call_text(str(name), args, 2000) if isinstance(args, dict) else str(call)
        lines.append(f"→ {shown}")
    return lines


def content_text(content: Json) -> str:
    """The text of a message's content, which may be a list of blocks."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return "" if content is None else _json(content)
    texts = [
        str(block["text"]) if isinstance(block, dict) and "text" in block else _json(block)
        for block in content
    ]
    return "\n".join(texts)


def asked_in_full(effect: EffectView) -> Iterator[str]:
    """The whole request, as lines that are cleaned. Of a model call, the messages it added."""
    request = effect.request
    if not isinstance(request, dict) or is_damaged(effect):
        yield from _lines(_json(request))
        return
    messages = request.get("messages")
    rest = {key: value for key, value in request.items() if key not in ("messages", "after")}
    if not isinstance(messages, list):
        args = request.get("args")
        yield from _flat(args if isinstance(args, dict) else rest)
        return
    yield from _flat(rest)
    if request.get("after") is not None:
        yield f"messages: those of effect {clean(str(request['after']))}, its answer, and"
    for message in messages:
        yield from message_in_full(message)


def _flat(values: JsonObject) -> Iterator[str]:
    """One ``name: value`` each; a text of several lines stands below its name."""
    for name, value in values.items():
        lines = _lines(value if isinstance(value, str) else _json(value))
        if len(lines) == 1:
            yield f"{clean(name)}: {lines[0]}"
        else:
            yield f"{clean(name)}:"
            yield from (f"  {line}" for line in lines)


def message_in_full(message: Json) -> Iterator[str]:
    """A message of a prompt: who, and all that it says, as lines that are cleaned."""
    if not isinstance(message, dict):
        yield from _lines(_json(message))
        return
    who = _SPEAKERS.get(str(message.get("type")), str(message.get("type")))
    name = message.get("name")
    named = f"{who} {name}" if who == "tool" and name else who
    lines = [line for text in message_lines(message) for line in _lines(text)]
    if len(lines) == 1:
        yield f"{clean(named)}: {lines[0]}"
        return
    yield f"{clean(named)}:"
    yield from (f"  {line}" for line in lines)


_SPEAKERS = {"human": "user", "ai": "assistant"}


def gave_in_full(effect: EffectView) -> Iterator[str]:
    """The whole result, as lines that are cleaned."""
    result = effect.result if isinstance(effect.result, dict) else {}
    match result:
        case {"tools": list(tools)} if effect.kind == "prepare":
            rest = {key: value for key, value in result.items() if key != "tools"}
            texts = [_json(rest), *(_json(tool) for tool in tools)]
        case {"text": str(text), "structured": structured} if structured is not None:
            texts = [text, f"structured: {_json(structured)}"]
        case {"error": str(error), "hint": str(hint)} if effect.status == "failed":
            texts = [error, hint] if hint else [error]
        case _:
            texts = gave(effect)
    for text in texts:
        yield from _lines(text)


def where(path: str) -> str:
    """A path in short: ``step 2·1 / step 3`` for step 3 inside of branch 1 of step 2."""
    found = []
    for place in places(path):
        _, _, send = place.task.partition("[")
        number = send.rstrip("]")
        branch = f"·{int(number) + 1}" if number.isdecimal() else ""
        found.append(f"step {place.step}{branch}")
    return " / ".join(found)


def _answer(result: JsonObject) -> list[str]:
    lines = [f"“{result['reason']}”"] if result["reason"] else []
    if isinstance(result.get("args"), dict):
        lines.append(f"with {_json(result['args'])}")
    if result.get("result"):
        lines.append(str(result["result"]))
    return lines


def _problems(result: JsonObject) -> list[str]:
    problems = result.get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, list) else []


def _counted(found: list[Any], what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _json(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(text: str) -> list[str]:
    return clean(text).expandtabs(4).split("\n")
