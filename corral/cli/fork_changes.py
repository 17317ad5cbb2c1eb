"""What a fork changes: read from options and files, and checked before anything is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.output import clean, one_line
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.agents.spec import Agent
    from corral.jsontypes import Json, JsonObject
    from corral.runtime.entries import JournalRow
    from corral.runtime.views import EffectView, RunView

MAX_GIVEN = 200_000
"""The longest result, in characters, that an effect can be given by hand."""

_WAYS = "--model M, --set-result FILE, --prompt TEXT, --edit-prompt or --agent FILE"


@dataclass(frozen=True)
class Before:
    """The run that is forked: as listed, its agent as stored, and its journal, read and as rows."""

    run: RunView
    agent: JsonObject
    effects: tuple[EffectView, ...]
    rows: tuple[JournalRow, ...]


@dataclass(frozen=True)
class Changes:
    """What is to be different from effect ``at`` on."""

    at: int
    model: str | None = None
    prompt: str | None = None
    agent: Agent | None = None
    result: str | JsonObject | None = None

    def names(self) -> tuple[str, ...]:
        """The changes by name."""
        named = ("model", "prompt", "agent", "result")
        return tuple(name for name in named if getattr(self, name) is not None)

    def in_words(self) -> Iterator[str]:
        """Each change on a line."""
        if self.model is not None:
            yield f"the model: {clean(self.model)}"
        if self.agent is not None:
            yield f"the agent: {clean(self.agent.name)}"
        if self.prompt is not None:
            yield f"the prompt: {one_line(self.prompt, 80)}"
        if self.result is not None:
            text = self.result if isinstance(self.result, str) else json.dumps(self.result)
            yield f"the result of effect {self.at}: {one_line(text, 80)}"


def require_changes(changes: Changes, before: Before, point: EffectView, *, again: bool) -> None:
    """Raise ``UsageError`` when there is no change, or one that leaves things as they are."""
    if not changes.names() and not again:
        raise UsageError(
            f"Nothing is changed at effect {changes.at} of the run {before.run.run}.",
            hint=f"Say what should be different: {_WAYS}.\n"
            "Or --again, to make it and what follows once more.",
        )
    if changes.names() and again:
        raise UsageError("--again changes nothing, and there is a change.", hint="Leave it out.")
    for what in _idle(changes, before, point):
        raise UsageError(
            f"{what} That is no change.", hint=f"Change something: {_WAYS}. Or use --again."
        )


def _idle(changes: Changes, before: Before, point: EffectView) -> Iterator[str]:
    """The changes that leave things as they are, in words."""
    run = before.run
    if changes.prompt is not None and not changes.prompt.strip():
        raise UsageError("The prompt is empty.", hint="Say what the agent should do.")
    if changes.model == run.model and changes.agent is None:
        yield f"The run's model is {run.model} already."
    if changes.prompt == run.prompt:
        yield "The prompt is what it was."
    if changes.agent is not None and _spec(changes.agent, run) == before.agent:
        yield f"The agent {changes.agent.name!r} is what it was."
    if changes.result is not None and changes.result == _recorded(point):
        yield f"The result of effect {point.seq} is what it was."


def _spec(agent: Agent, run: RunView) -> JsonObject:
    """The agent as it would be stored: one that names no model goes on with the run's."""
    return agent.model_copy(update={"model": agent.model or run.model}).to_spec()


def _recorded(point: EffectView) -> str | None:
    """The text of a recorded result, when it is nothing but a text."""
    match point.result:
        case {"message": {"tool_calls": calls}} if calls:
            return None
        case {"is_error": True}:
            return None
        case {"text": str(text)}:
            return text
    return None


def read_result(source: str, point: EffectView) -> str | JsonObject:
    """A result from a file, or from standard input for ``-``: a text, or an object in JSON.

    Raises ``UsageError`` for what cannot be read, and for what cannot be the effect's result.
    """
    from corral.runtime.fork_plan import GIVEN

    if point.kind not in GIVEN:
        raise UsageError(
            f"Effect {point.seq} is a {point.kind}: its result cannot be given by hand.",
            hint="Choose a model call, a tool call or a sub-agent: see `corral trace`.",
        )
    text = sys.stdin.read() if source == "-" else _text_of(Path(source).expanduser())
    if len(text) > MAX_GIVEN:
        raise UsageError(
            f"The result has {len(text):,} characters; a model can read {MAX_GIVEN:,}.",
            hint="Give the part of it that the agent needs to go on.",
        )
    try:
        value: Json = json.loads(text)
    except ValueError as error:
        if source.endswith(".json"):
            raise UsageError(
                f"{source} is not JSON: {error}.",
                hint="Correct it, or give a text in a file with another name.",
            ) from error
        value = None
    if not isinstance(value, dict):
        return text.removesuffix("\n")
    if point.kind == "tool" and "text" in value:
        _require_tool_result(value, source)
    return value


def _text_of(path: Path) -> str:
    try:
        # A file that is far too long is not read to its end to say so.
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_GIVEN * 2)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text in UTF-8"
        raise UsageError(
            f"The result cannot be read from {path}: {why}.",
            hint="Write --set-result FILE with a text or a JSON file, or --set-result - "
            "for standard input.",
        ) from error


_TOOL_RESULT = {
    "text": str,
    "is_error": bool,
    "dropped": int,
    "structured": object,
    "images": list,
}


def _require_tool_result(value: JsonObject, source: str) -> None:
    for key, one in value.items():
        kind = _TOOL_RESULT.get(key)
        if kind is None or not isinstance(one, kind):
            what = "is none" if kind is None else f"is not a {kind.__name__}"
            raise UsageError(
                f"{source} is not the result of a tool: its {key!r} {what}.",
                hint='Give a text, or {"text": "…", "is_error": false, "structured": …}.',
            )
