"""Finds out how a chat template writes tool calls, by letting it write some.

Every model family has its own way: ``<tool_call>{"name": …}</tool_call>``, ``[TOOL_CALLS][…]``,
bare JSON, ``<parameter=…>``. The template knows. It renders the same conversation with a plain
answer and with calls; what differs is the calls, and what differs between calls is how they are
written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jinja2 import TemplateError

from corral.jsontypes import JsonObject
from corral.runtime.models.local.constraints.syntax import (
    ID,
    CallSyntax,
    ParameterSyntax,
)

Render = Callable[[list[JsonObject], list[JsonObject]], str]

TEMPLATE_FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""What rendering somebody's template may raise."""

_NAMES = ("probe__tool", "trial__device")
_KEYS: tuple[str, str] = ("probe_key", "trial_name")
_VALUES: tuple[str, str] = ("probe value", "trial matter")
_TEXT = "\N{SNOWMAN} probe \N{COMET}"
_MAX_MARKUP = 400
_CUT_MARKER = re.compile(r"<[^<>\s]{0,60}\Z")
_MARKER = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


_HARMONY_NAME = "to=functions."
_HARMONY = CallSyntax(
    prefix=f"<|channel|>commentary {_HARMONY_NAME}",
    middle=" <|constrain|>json<|message|>",
    close="",
    trigger=f"<|channel|>commentary {_HARMONY_NAME}",
)
"""What gpt-oss writes; its template reads calls in another form.
https://cookbook.openai.com/articles/openai-harmony"""


@dataclass(frozen=True)
class NativeCalls:
    """How a template takes calls. ``text_arguments``: as JSON text, not as an object."""

    syntax: CallSyntax
    text_arguments: bool


def call_message(number: int, name: str, args: JsonObject, *, text: bool) -> JsonObject:
    """A call as chat templates expect it in an assistant message's ``tool_calls``."""
    function = {
        "name": name,
        "arguments": json.dumps(args, ensure_ascii=False) if text else args,
    }
    return {"type": "function", "id": _call_id(number), "function": function, **function}


def _call_id(number: int) -> str:
    return f"call{number:05}"  # Mistral's templates insist on ids of nine letters and digits


def probe(render: Render, ends: Sequence[str]) -> NativeCalls | None:
    """How this template writes calls, or ``None`` when it does not, or not in a way known here.

    ``ends`` are the texts of the tokens that end an answer.
    """
    for text in (False, True):
        writer = _Writer(render, tuple(filter(None, ends)), text)
        try:
            syntax = _json_syntax(writer) or _parameter_syntax(writer)
        except (*TEMPLATE_FAILURES, _NotFound):
            continue
        if syntax.prefix.endswith(_HARMONY_NAME):
            syntax = _HARMONY
        if syntax.prefix.strip() and len("".join(_texts(syntax))) <= _MAX_MARKUP:
            return NativeCalls(_several(syntax, writer), text)
    return None


class _NotFound(Exception):
    """The template does not write what was looked for."""


@dataclass(frozen=True)
class _Writer:
    """Lets a template write calls."""

    render: Render
    ends: tuple[str, ...]
    text: bool

    def written(self, *calls: tuple[str, JsonObject]) -> str:
        """What the template writes for an answer with these calls, to the answer's end."""
        tools = [_tool(name) for name in _NAMES]
        user: JsonObject = {"role": "user", "content": "probe question"}
        plain = self.render([user, {"role": "assistant", "content": _TEXT}], tools)
        made = [
            call_message(number, name, args, text=self.text)
            for number, (name, args) in enumerate(calls)
        ]
        answer: JsonObject = {"role": "assistant", "content": "", "tool_calls": made}
        called = self.render([user, answer], tools)
        start = _CUT_MARKER.sub("", called[: common(plain, called)])
        rest = called.removeprefix(start)
        after = common(plain[len(start) :][::-1], rest[::-1])
        body = rest[: len(rest) - after]
        if cut := _CUT_MARKER.search(body):  # its end may be common by chance
            body += rest[len(body) :][: rest.find(">", cut.start()) + 1 - len(body)]
        if not all(name in plain for name in _NAMES):
            raise _NotFound  # such a template shows calls, and never which tools there are
        for number in range(len(calls)):
            body = body.replace(_call_id(number), ID)
        return self._to_end(body, calls[-1][0])

    def _to_end(self, body: str, last: str) -> str:
        """Without what comes after the answer: a token that ends it, and white space."""
        at = body.rfind(last) + len(last)
        head, tail = body[:at], body[at:]
        for end in self.ends:
            tail = tail.split(end, 1)[0]
        return (head + tail).strip()


def _tool(name: str) -> JsonObject:
    properties = {key: {"type": "string", "description": ""} for key in _KEYS}
    parameters = {"type": "object", "properties": properties, "required": []}
    function = {"name": name, "description": "", "parameters": parameters}
    return {"type": "function", "function": function}


def _json_syntax(writer: _Writer) -> CallSyntax | None:
    """The syntax of a single call whose arguments are one JSON object."""
    name, args = _NAMES[0], {_KEYS[0]: _VALUES[0]}
    prefix, rest = _split(writer.written((name, args)), name)
    forms = [json.dumps(args), json.dumps(args, separators=(",", ":"))]
    form = next((form for form in forms if form in rest), None)
    if form is None:
        return None
    middle, close = _split(rest, form)
    if writer.text and middle.rstrip().endswith("{"):
        return None  # braces of the template's own, around what it took for its own notation
    return _named(prefix, CallSyntax("", middle, close.rstrip(), ""))


def _parameter_syntax(writer: _Writer) -> CallSyntax:
    """The syntax of a single call whose arguments are written one by one."""
    name, two = _NAMES[0], dict(zip(_KEYS, _VALUES, strict=True))
    _, alone = _split(writer.written((name, {_KEYS[0]: _VALUES[0]})), name)
    prefix, rest = _split(writer.written((name, two)), name)
    _, bare = _split(writer.written((name, {})), name)
    first, rest = _split(rest, _KEYS[0])
    between, rest = _split(rest, _VALUES[0])
    gap, rest = _split(rest, _KEYS[1])
    again, tail = _split(rest, _VALUES[1])
    if again != between or alone != f"{first}{_KEYS[0]}{between}{_VALUES[0]}{tail}":
        raise _NotFound
    end = gap[: common(gap, tail)]
    # Every call ends in the same way, whether it has arguments or not.
    after = tail[len(end) :]
    shared = common(after[::-1], bare[::-1])
    close = after[len(after) - shared :]
    start = common(first, bare[: len(bare) - shared])
    if not end.strip() or not between or _number_written(writer) != "7":
        raise _NotFound
    parameters = ParameterSyntax(
        first=first[start:],
        middle=between,
        end=end,
        more=gap[len(end) :],
        last=after[: len(after) - shared],
        none=bare[start : len(bare) - shared],
    )
    return _named(prefix, CallSyntax("", first[:start], close, "", parameters=parameters))


def _number_written(writer: _Writer) -> str:
    """How a number is written where a text was: some formats quote texts and nothing else."""
    written = writer.written((_NAMES[0], {_KEYS[0]: 7}))
    text = writer.written((_NAMES[0], {_KEYS[0]: _VALUES[0]}))
    head, tail = _split(text, _VALUES[0])
    return written.removeprefix(head).removesuffix(tail)


def _named(prefix: str, syntax: CallSyntax) -> CallSyntax:
    marker = _MARKER.match(prefix)
    return replace(syntax, prefix=prefix, trigger=marker[0] if marker else "")


def _several(single: CallSyntax, writer: _Writer) -> CallSyntax:
    """The syntax with what stands between calls and after the last, if there can be several."""
    args = {_KEYS[0]: _VALUES[0]}
    first, second = ((name, args) for name in _NAMES)
    one = replace(single, close="").render(first)
    try:
        twice = writer.written(first, second)
        thrice = writer.written(first, second, first)
        _, rest = _split(twice, one)
        gap, _ = _split(rest, _NAMES[1])
    except (*TEMPLATE_FAILURES, _NotFound):
        return single
    shared = len(_CUT_MARKER.sub("", gap[: common(gap, single.close)]))
    found = replace(
        single,
        close=gap[:shared],
        between=gap[shared:],
        suffix=single.close[shared:],
    )
    whole = found.render(first, second), found.render(first, second, first)
    return found if found.between and whole == (twice, thrice) else single


def _texts(syntax: CallSyntax) -> list[str]:
    return [syntax.prefix, syntax.middle, syntax.close, syntax.suffix]


def _split(text: str, at: str) -> tuple[str, str]:
    before, found, after = text.partition(at)
    if not found:
        raise _NotFound
    return before, after


def common(first: str, second: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
