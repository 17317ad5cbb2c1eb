"""A model that answers from a script: for tests, demonstrations and reproducible evals.

A script is a YAML list of turns, or the same list in code::

    - {text: "Let me compute.", tool_calls: [{name: python__run_code, args: {code: "print(6*7)"}}]}
    - {text: "42"}

``ModelRequest.turn`` picks the turn, so a run that resumes or replays gets the answers that it
had. A turn may also hold ``delay`` (seconds before each chunk), ``error`` (raised as a
``ModelError`` after the turn's text), ``stop_reason``, ``reasoning`` (what it thinks first) and
``usage`` (the tokens of ``contract.Usage`` by name); without ``usage`` four characters count as one
token. A tool call may name a tool that was not offered: models do that too.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from langchain_core.messages import AIMessage, ToolCall

from corral.errors import ConfigError, ModelError, NotFoundError
from corral.jsontypes import JsonObject, canonical
from corral.policies.prices import FREE, Price, Tokens
from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    ModelRequest,
    ReasoningChunk,
    StopReason,
    TextChunk,
    Usage,
)

_EXAMPLE = 'A script is a list of turns such as  - {text: "Hello", tool_calls: []}'


@dataclass(frozen=True)
class ScriptedCall:
    """One tool call of a turn. ``name`` is the name that the model uses, ``SERVER__TOOL``."""

    name: str
    args: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class ScriptedTurn:
    """One answer of a script; the module's docstring says what each field does."""

    text: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    delay: float = 0.0
    error: str | None = None
    usage: Usage | None = None
    stop_reason: StopReason | None = None
    reasoning: str = ""


class ScriptedModel:
    """A ``ChatModel`` that answers turn N of a run with turn N of its script."""

    def __init__(
        self,
        turns: Sequence[ScriptedTurn | Mapping[str, Any]],
        *,
        name: str = "scripted",
        context_window: int = 128_000,
        price: Price = FREE,
    ) -> None:
        """Take the turns from code, as ``ScriptedTurn`` or in the shape that the YAML has.

        It costs nothing unless a ``price`` is given. Raises ``ConfigError`` naming the turn whose
        shape is wrong.
        """
        self._turns = tuple(
            turn if isinstance(turn, ScriptedTurn) else _turn(turn, _In(f"turn {index}"))
            for index, turn in enumerate(turns)
        )
        self._name = name
        self._context_window = context_window
        self._price = price

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        name: str | None = None,
        context_window: int = 128_000,
        price: Price = FREE,
    ) -> ScriptedModel:
        """Read a YAML script.

        Raises ``NotFoundError`` when there is no such file and ``ConfigError``, with file and
        line, when it is not a script.
        """
        turns = read_script(Path(path))
        return cls(
            turns, name=name or f"scripted:{path}", context_window=context_window, price=price
        )

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        return self._name

    @property
    def context_window(self) -> int:
        """How many tokens a request and its answer may have together; not enforced."""
        return self._context_window

    @property
    def price(self) -> Price:
        """What it was given as its price."""
        return self._price

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Stream the text of turn ``request.turn`` word by word, then the whole answer.

        An answer that is longer than ``max_tokens`` is cut off, as a real model's would be. Raises
        ``ModelError`` when the script has no such turn, or when the turn says so.
        """
        turn = _within(request, self._turn(request))
        if turn.reasoning:
            yield ReasoningChunk(turn.reasoning)
        for word in re.findall(r"\S+\s*|\s+", turn.text):
            await asyncio.sleep(turn.delay)
            yield TextChunk(word)
        if turn.error is not None:
            raise ModelError(turn.error, hint=f"Turn {request.turn} of {self._name} says so.")
        calls = [
            ToolCall(name=call.name, args=dict(call.args), id=call_id(request, index))
            for index, call in enumerate(turn.tool_calls)
        ]
        usage = turn.usage or _estimate(request, turn)
        tokens = (usage.input_tokens, usage.output_tokens)
        cost = self._price.cost(Tokens(*tokens, usage.cached_tokens, usage.cache_write_tokens))
        yield FinalChunk(
            message=AIMessage(content=turn.text, tool_calls=calls),
            usage=replace(usage, cost_usd=cost),
            stop_reason=turn.stop_reason or ("tool_calls" if calls else "stop"),
        )

    def check_complete(self, turns: int) -> None:
        """Raise ``ModelError`` when a run has completed with turns of the script left over."""
        left = len(self._turns) - turns
        if left > 0:
            raise ModelError(
                f"The run completed after {turns} of the {len(self._turns)} turns of {self._name}: "
                f"{left} left over, next {_summary(self._turns[turns])}.",
                hint="Remove the turns that are not needed, or find out why the run ended early.",
            )

    async def aclose(self) -> None:
        """Nothing to free."""

    def _turn(self, request: ModelRequest) -> ScriptedTurn:
        if request.turn < len(self._turns):
            return self._turns[request.turn]
        asked = request.messages[-1] if request.messages else None
        what = f"{asked.type}: {str(asked.text)[:200]!r}" if asked else "no messages at all"
        raise ModelError(
            f"{self._name} has {len(self._turns)} turns, and was asked for turn {request.turn} "
            f"(the first is 0). It was asked with {what}.",
            hint="Add the missing turn, or find out why the run went on.",
        )


def read_script(path: Path) -> list[ScriptedTurn]:
    """The turns of a YAML script, checked.

    Raises ``NotFoundError`` when there is no such file and ``ConfigError``, with file and line,
    when it is not a script.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(f"There is no script {path}.", hint=_EXAMPLE) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The script {path} cannot be read: {error}", hint=_EXAMPLE) from error
    return _parse(text, str(path))


class _Loader(yaml.SafeLoader):
    """YAML whose scalars are JSON's: a date stays the text that was written."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse(text: str, source: str) -> list[ScriptedTurn]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if not isinstance(root, yaml.SequenceNode) or not root.value:
            raise ConfigError(f"{source}: expected a list with at least one turn", hint=_EXAMPLE)
        turns = []
        for index, node in enumerate(root.value):
            where = _In(f"{source}:{node.start_mark.line + 1}: turn {index}")
            turns.append(_turn(loader.construct_object(node, deep=True), where))
        return turns
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ConfigError(f"{source}{line}: not YAML: {problem}", hint=_EXAMPLE) from error
    finally:
        loader.dispose()


@dataclass(frozen=True)
class _In:
    """Where in a script a value stands, for messages."""

    where: str

    def wrong(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.where}: {problem}", hint=_EXAMPLE)

    def at(self, part: str) -> _In:
        return _In(f"{self.where}, {part}")

    def mapping(self, value: object, known: Sequence[str]) -> Mapping[str, Any]:
        """``value`` if it is a mapping with only known keys."""
        if not isinstance(value, Mapping):
            raise self.wrong(f"expected a mapping, found {value!r:.80}")
        unknown = [str(key) for key in value if key not in known]
        if unknown:
            raise self.wrong(f"unknown key {', '.join(unknown)}; known are {', '.join(known)}")
        return value

    def text(self, value: object, key: str) -> str:
        if not isinstance(value, str):
            raise self.wrong(f'{key} must be text, found {value!r:.80} (put it in "quotes")')
        return value

    def number(self, value: object, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f"{key} must be a number, found {value!r:.80}")
        if not 0 <= value < math.inf:
            raise self.wrong(f"{key} must be 0 or more, found {value!r:.80}")
        return value

    def count(self, value: object, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(f"{key} must be a whole number, 0 or more, found {value!r:.80}")
        return value


def _turn(value: object, where: _In) -> ScriptedTurn:
    known = ("text", "tool_calls", "delay", "error", "usage", "stop_reason", "reasoning")
    data = where.mapping(value, known)
    if not data:
        raise where.wrong("empty; give it a text, tool_calls or an error")
    calls = data.get("tool_calls", [])
    if not isinstance(calls, list | tuple):
        raise where.wrong(f"tool_calls must be a list, found {calls!r:.80}")
    reason = data.get("stop_reason")
    if reason is not None and reason not in get_args(StopReason):
        raise where.wrong(f"stop_reason must be one of {', '.join(get_args(StopReason))}")
    return ScriptedTurn(
        text=where.text(data.get("text", ""), "text"),
        tool_calls=tuple(
            _call(call, where.at(f"tool call {index}")) for index, call in enumerate(calls)
        ),
        delay=where.number(data.get("delay", 0.0), "delay"),
        error=where.text(data["error"], "error") if "error" in data else None,
        usage=_usage(data["usage"], where) if "usage" in data else None,
        stop_reason=reason,
        reasoning=where.text(data.get("reasoning", ""), "reasoning"),
    )


def _call(value: object, where: _In) -> ScriptedCall:
    data = where.mapping(value, ("name", "args"))
    name = where.text(data.get("name"), "name")
    args = data.get("args", {})
    if not isinstance(args, dict):
        raise where.wrong(f"args must be a mapping, found {args!r:.80}")
    if not name:
        raise where.wrong("name must not be empty")
    _require_json(args, where.at("args"))
    return ScriptedCall(name, args)


def _usage(value: object, where: _In) -> Usage:
    known = [name for name in vars(Usage()) if name != "cost_usd"]
    data = where.mapping(value, known)
    return Usage(**{key: where.count(tokens, key) for key, tokens in data.items()})


def _require_json(value: object, where: _In) -> None:
    """Raise unless ``value`` is JSON: YAML also has sets, bytes, NaN and keys like 1 or yes."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise where.wrong(f'key {key!r} is not text (put it in "quotes")')
            _require_json(item, where.at(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_json(item, where.at(str(index)))
    elif isinstance(value, float) and not math.isfinite(value):
        raise where.wrong(f"{value} is not a JSON number")
    elif not isinstance(value, str | int | float | None):
        raise where.wrong(f"{value!r:.80} is not a JSON value")


def _estimate(request: ModelRequest, turn: ScriptedTurn) -> Usage:
    asked = sum(len(str(message.text)) for message in request.messages)
    called = sum(len(call.name) + len(canonical(call.args)) for call in turn.tool_calls)
    return Usage(input_tokens=-(-asked // 4), output_tokens=-(-(len(turn.text) + called) // 4))


def _within(request: ModelRequest, turn: ScriptedTurn) -> ScriptedTurn:
    """The turn, cut off where the request says that an answer ends."""
    most = request.sampling.max_tokens
    usage = turn.usage or _estimate(request, turn)
    if most is None or usage.output_tokens <= most:
        return turn
    kept = len(turn.text) * most // usage.output_tokens
    return replace(
        turn,
        text=turn.text[:kept],
        tool_calls=(),
        usage=replace(usage, output_tokens=most),
        stop_reason="length",
    )


def _summary(turn: ScriptedTurn) -> str:
    calls = ", ".join(call.name for call in turn.tool_calls)
    return f"{turn.text[:60]!r}" + (f" calling {calls}" if calls else "")
