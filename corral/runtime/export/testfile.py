"""A run as a test: a pytest file beside an export, which replays the run and fails when it
differs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from corral.jsontypes import JsonObject

_HEAD = '''\
"""Replays the run {run}: what was recorded must be asked for again, and in the same way.

Written by `corral export {run} --test`. It needs no model, no server, no key and no network.
"""

from pathlib import Path

import corral
{imports}
RECORDED = Path(__file__).with_name("{fixture}")


def test_{name}() -> None:
    report = corral.replay_file(RECORDED{options})
    assert report.status == "identical", report.divergence
'''

_HOLD_TO = """
# The test replays the agent as it was recorded. To hold the agent of your project to this run,
# hand it over:
#
#     corral.replay_file(RECORDED, corral.RunOptions(agent={agent}))
"""

_OWN_CODE = """
# The agent has code of your program ({what}). The recorded results stand
# for it, so this test works as it is. To hold your code to this run, import the agent:
#
#     from my_project import agent
#     corral.replay_file(RECORDED, corral.RunOptions(agent=agent))
"""

_OWN_GRAPH = """
# The agent's graph is code of your program: import the agent that has it, and name it below.
#
#     from my_project import agent
agent = None
"""


@dataclass(frozen=True)
class TestFile:
    """The names and the text of a test, and the name of the export that it replays."""

    name: str
    fixture: str
    text: str


def make_test(run: str, agent: str, spec: JsonObject) -> TestFile:
    """The test of a run. ``spec`` says what code of the caller's program the agent has."""
    name = f"run_{re.sub(r'[^0-9a-z]', '_', run.removeprefix('r-'))}"
    fixture = f"{name}.jsonl"
    options = ""
    if spec.get("own_graph"):
        imports = _OWN_GRAPH
        options = ", corral.RunOptions(agent=agent)"
    elif code := _code(spec):
        imports = _OWN_CODE.format(what=code)
    else:
        imports = _HOLD_TO.format(agent=_literal(agent))
    text = _HEAD.format(run=run, name=name, fixture=fixture, imports=imports, options=options)
    return TestFile(f"test_{name}.py", fixture, text)


def _code(spec: JsonObject) -> str:
    """The code that a run used, in words that are safe in a comment."""
    functions = [name for name in spec.get("functions") or () if str(name).isidentifier()]
    words = [f"the functions {', '.join(functions[:5])}"] if functions else []
    if spec.get("own_model"):
        words.append("a model object")
    return " and ".join(words)


def _literal(text: str) -> str:
    """The text as Python and as one line, whatever is in it."""
    return ascii(text)
