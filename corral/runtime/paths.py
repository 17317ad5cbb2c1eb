"""Where in a graph an effect was asked for: the path that is its key in the journal.

    3.tools[1]#0            superstep 3, node tools, Send 1, first effect of that task
    3.tools[1]#0/2.model#1  the same inside of the graph (a sub-agent's) that this effect runs
    prepare                 an effect that a run makes once, wherever it is asked for first
    3.tools[1]#0/approval   a question about the effect before the slash; so are in_doubt/1,
                            budget/1 and loop/1, and input/1, which its server asks; check/1
                            is what a check of it took: a judge's answer, or the model's next
                            try, or what its server asked a model; connection/1 is one it made

Paths are made of what a graph does and of nothing else: no clock, no ids of LangGraph's, no order
in which parallel branches happen to end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

BESIDE = ("approval", "connection")
"""The kinds of entries that belong to another one, a call, and go with it: see ``asked_about``."""

_PLACE = re.compile(r"(\d{1,9})\.(.+)#(\d{1,9})")
_QUESTION = re.compile(r"/(?:approval|(?:in_doubt|budget|loop|input|check|connection)/\d{1,9})\Z")


@dataclass(frozen=True)
class Place:
    """One level of a path: the superstep, the task (node and Send index), the effect in it."""

    step: int
    task: str
    index: int


@lru_cache(maxsize=16384)
def places(path: str) -> tuple[Place, ...]:
    """The levels of a path, outermost first; what is no place (``prepare``) is left out."""
    found = (_PLACE.fullmatch(part) for part in path.split("/"))
    return tuple(Place(int(m[1]), m[2], int(m[3])) for m in found if m)


def root(path: str) -> str:
    """The task of the run's own graph that asked, however deep inside of it; or nothing."""
    task, mark, _ = path.partition("#")
    return task if mark else ""


def asked_about(path: str) -> str:
    """The effect that a question is about; the path itself, if it is not a question's."""
    return _QUESTION.sub("", path)


def is_about_another(path: str) -> bool:
    """Whether a graph never asks for it: a question, or what a check of another effect took."""
    return asked_about(path) != path


def is_place(path: str) -> bool:
    """Whether a task asked for the effect, and not a graph for one that it makes once."""
    return _PLACE.fullmatch(path[path.rfind("/") + 1 :]) is not None


def scope(path: str) -> str:
    """The graph that asked: the path of the effect it runs inside, with ``/``, or nothing."""
    return path[: path.rfind("/") + 1]


def scopes(path: str) -> list[str]:
    """The graphs around an effect other than the run's own, outermost first: see ``scope``."""
    around = scope(path)
    return [*scopes(around[:-1]), around] if around else []


def task(path: str) -> str:
    """The task that asked, with its superstep and its graph: siblings in one share it.

    An effect made once is asked for by its graph, and has no siblings.
    """
    return path.rpartition("#")[0] if is_place(path) else path


def conversation(path: str, agent: str) -> str:
    """The scope of the conversation in which the agent of the scope ``agent`` asks.

    A graph that one of its parallel branches runs is a conversation of its own: what it repeats is
    not what another branch, of which it knows nothing, has done.
    """
    inside = (around for around in reversed(scopes(path)) if len(around) > len(agent))
    branches = (task(around[:-1]) for around in inside)
    return next((f"{branch}/" for branch in branches if branch.endswith("]")), agent)


def node(path: str) -> str:
    """Where in the graph, without the step: ``3.model#0`` and ``5.model#0`` are one node."""
    inner = path[path.rfind("/") + 1 :]
    return f"{scope(path)}{inner.lstrip('0123456789')}"


def comes_after(path: str, other: str) -> bool:
    """Whether the effect at ``path`` can only be asked for once the one at ``other`` has ended.

    Parallel branches of one superstep do not come after one another, nor do the effects inside
    of one. An effect made once comes after none, and all of its graph comes after it.
    """
    for mine, its in zip(places(path), places(other), strict=False):
        if mine.step != its.step:
            return mine.step > its.step
        if mine.task != its.task:
            return False
        if mine.index != its.index:
            return mine.index > its.index
    around = scope(other)
    return (
        not is_place(other) and path.startswith(around) and len(places(path)) > len(places(other))
    )


def in_words(path: str) -> str:
    """A path as a person reads it: ``step 3, node tools, branch 2``."""
    levels = places(path)
    if not levels:
        return f"the run's {path}"
    return ", inside of that ".join(_level_in_words(level) for level in levels)


def _level_in_words(level: Place) -> str:
    name, _, send = level.task.partition("[")
    words = f"step {level.step}, node {name}"
    if send:
        words += f", branch {int(send.rstrip(']')) + 1}"
    if level.index:
        words += f", effect {level.index + 1} of it"
    return words
