"""Runs of the command line that start no server: quick, and with tool calls all the same."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.place import Place


def without_servers(place: Place) -> None:
    """Give the default agent no tools; a call of one is then an effect with an error."""
    (place.workspace / "corral.toml").write_text("[agents.assistant]\nservers = []\nfacts = 0\n")


def script(place: Place, name: str, *turns: dict[str, Any]) -> str:
    """Write a script, and the reference of the model that follows it."""
    (place.scripts / f"{name}.yaml").write_text(json.dumps(list(turns)))
    return place.model(name)


def call(tool: str, **args: Any) -> dict[str, Any]:
    """A tool call of a script."""
    return {"name": tool, "args": args}


def turn(text: str = "", *calls: dict[str, Any]) -> dict[str, Any]:
    """A turn of a script."""
    return {"text": text, "tool_calls": list(calls)}


def run(place: Place, model: str, prompt: str = "Look into it") -> str:
    """Run, and the run's id."""
    done = place.corral("run", prompt, "--json", "--model", model)
    assert done.code == 0, done.err
    return str(done.lines[-1]["run"])


def effects(place: Place, run: str) -> list[dict[str, Any]]:
    """The run's trace."""
    return place.corral("trace", run, "--json").lines


def number(place: Place, run: str, kind: str, nth: int = 0) -> int:
    """The number of the run's nth effect of a kind."""
    return int([one["seq"] for one in effects(place, run) if one["kind"] == kind][nth])
