"""What a run was made by: the versions and the code that a later replay may find changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from corral.agents.files.reading import read_text
from corral.agents.spec import Agent
from corral.errors import ConfigError, UsageError
from corral.jsontypes import JsonObject, digest
from corral.runtime.runs import RunRow
from corral.version import VERSION


def fingerprint(agent: Agent, graph_version: str) -> JsonObject:
    """Versions, and a digest of each piece of code that lives in the caller's program."""
    functions = {
        _name(function): _source(function) for one in agent.team() for function in one.functions
    }
    return {
        "corral": VERSION,
        "graph": graph_version,
        "functions": functions,
        "own_graph": None if agent.graph is None else _source(agent.graph),
        "files": {one.source.file: one.source.digest for one in agent.team() if one.source},
    }


def changes(before: JsonObject | None, agent: Agent, graph_version: str) -> tuple[str, ...]:
    """What is not as it was when a run was made, in words; code that is not at hand is left out."""
    return tuple(_changes(before or {}, fingerprint(agent, graph_version)))


def _changes(before: JsonObject, now: JsonObject) -> Iterator[str]:
    for key, what in (("corral", "Corral"), ("graph", "the graph")):
        if before.get(key) not in (None, now[key]):
            yield f"{what} was {before[key]} and is {now[key]}"
    was = before.get("own_graph")
    if was is not None and now["own_graph"] not in (None, was):
        yield "the code of the agent's graph"
    recorded: JsonObject = before.get("functions") or {}
    for name, source in now["functions"].items():
        if name not in recorded:
            yield f"the function {name} is new"
        elif recorded[name] != source:
            yield f"the code of the function {name}"
    if now["functions"]:
        for name in recorded.keys() - now["functions"].keys():
            yield f"the function {name} is gone"
    files = before.get("files")
    yield from _changed_files(files if isinstance(files, dict) else {})


def _changed_files(recorded: JsonObject) -> Iterator[str]:
    """The Markdown files of agents that are not as they were."""
    for file, was in recorded.items():
        try:
            is_changed = digest(read_text(Path(file))) != was
        except ConfigError:
            yield f"the agent's file {file} cannot be read any more"
        else:
            if is_changed:
                yield f"the agent's file {file}"


def own_code(agent: Agent) -> JsonObject:
    """What of an agent lives only in the program that made it."""
    return {
        "functions": [_name(function) for one in agent.team() for function in one.functions],
        "checks": [check.name for one in agent.team() for check in one.checks if check.code],
        "own_model": agent.chat_model is not None,
        "own_graph": agent.graph is not None,
    }


def require_own_code(row: RunRow, agent: Agent) -> None:
    """Refuse to go on without the code that a run began with."""
    functions = row.spec.get("functions")
    if functions and not any(one.functions for one in agent.team()):
        missing = f"Python functions ({', '.join(functions)})"
    elif absent := _absent_checks(row, agent):
        missing = f"checks ({', '.join(absent)})"
    elif row.spec.get("own_model") and agent.chat_model is None:
        missing = f"a model object ({row.model})"
    elif row.spec.get("own_graph") and agent.graph is None:
        missing = "a graph"
    else:
        return
    raise UsageError(
        f"The run {row.id} uses {missing} of the program that started it.",
        hint="Resume it there, with the same agent: "
        f"c.resume({row.id!r}, RunOptions(agent=agent)). `corral cancel {row.id}` gives it up.",
    )


def _absent_checks(row: RunRow, agent: Agent) -> list[str]:
    """The checks whose functions are not at hand: without them nothing goes on."""
    here = {check.name for one in agent.team() for check in one.checks if check.function}
    return [name for name in row.spec.get("checks", ()) if name not in here]


def require_own_graph(row: RunRow, agent: Agent) -> None:
    """Refuse to replay a graph that is not at hand."""
    if row.spec.get("own_graph") and agent.graph is None:
        raise UsageError(
            f"The run {row.id} was made by a graph of the program that started it.",
            hint="Replay it there, with the same agent: "
            f"c.replay({row.id!r}, RunOptions(agent=agent)).",
        )


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", "?"))


def _source(function: Callable[..., Any]) -> str:
    """A digest of a function's code, made once for as long as the function lives."""
    if not inspect.isfunction(function):
        return _digest(function)
    if function not in _DIGESTS:
        _DIGESTS[function] = _digest(function)
    return _DIGESTS[function]


_DIGESTS: WeakKeyDictionary[Callable[..., Any], str] = WeakKeyDictionary()


def _digest(function: Callable[..., Any]) -> str:
    try:
        return digest(inspect.getsource(inspect.unwrap(function)))[:16]
    except (OSError, TypeError):  # made by exec, built in, or a callable object
        code = getattr(function, "__code__", None)
        return digest(code.co_code.hex() if code else repr(type(function)))[:16]
