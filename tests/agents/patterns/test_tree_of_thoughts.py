"""Tree of thoughts: the three searches, pruning, the call budget, and what a run must survive."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.models.contract import ModelRequest
from tests.agents.patterns.support import (
    Answering,
    Garbage,
    allowing,
    answers,
    approved,
    cut_and_resumed,
    deciding,
    solved,
    solved_in,
    text_of,
    wants,
)
from tests.runtime.agents import Turn

pytestmark = pytest.mark.slow

TREE: Mapping[str, Sequence[str]] = {"": ["a", "b"], "a": ["aa", "ab"], "b": ["ba", "bb"]}
"""What comes after each step; of two letters is a solution."""

VALUES: Mapping[str, float] = {"a": 0.4, "b": 0.6, "aa": 0.9, "ab": 0.3, "ba": 0.5, "bb": 0.1}


def steps_in(request: ModelRequest) -> list[str]:
    """The steps that a request is about."""
    _, _, after = text_of(request).rpartition("<steps>\n")
    lines = after.partition("\n</steps>")[0].splitlines()
    return [line.partition(". ")[2] for line in lines if ". " in line]


def thinking(
    tree: Mapping[str, Sequence[str]] = TREE,
    values: Mapping[str, float] = VALUES,
    value: Callable[[ModelRequest], Turn | str] | None = None,
) -> Answering:
    """A model that knows a tree of steps and what each is worth."""

    def reply(request: ModelRequest) -> Turn | str:
        path = steps_in(request)
        last = path[-1] if path else ""
        match wants(request):
            case "Steps":
                after = [{"text": text, "done": len(text) == 2} for text in tree.get(last, ())]
                return json.dumps({"steps": after})
            case "Score":
                return value(request) if value else deciding(score=values[last])
            case _:
                return f"By {' '.join(path)}" if path else "By nothing"

    return Answering(reply)


def searching(
    model: Any, *functions: Any, agents: Any = (), pattern: str = "tree_of_thoughts", **options: Any
) -> corral.Agent:
    given = {"depth": 2, **options}
    return answers(model, *functions, pattern=pattern, options=given, agents=agents)


@pytest.mark.parametrize(
    ("options", "answer", "calls"),
    [
        ({"search": "bfs"}, "By a aa", 10),
        ({"search": "beam", "breadth": 2}, "By a aa", 10),
        ({"search": "beam", "breadth": 1}, "By b ba", 7),
        ({"search": "dfs"}, "By b ba", 7),
        ({"search": "bfs", "threshold": 0.5}, "By b ba", 7),
        ({"search": "dfs", "threshold": 0.7}, "By b", 4),
    ],
)
async def test_searches(
    settings: Settings, options: dict[str, Any], answer: str, calls: int
) -> None:
    done = await solved(settings, searching(thinking(), **options))
    assert (done.output, done.calls, done.aloud) == (answer, calls, [answer])


async def test_a_depth_first_search_goes_back(settings: Settings) -> None:
    values = {**VALUES, "ba": 0.0, "bb": 0.0}
    done = await solved(settings, searching(thinking(values=values), search="dfs"))
    assert done.output == "By a aa"


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
@pytest.mark.parametrize("calls", [1, 2, 3, 4, 5, 8])
async def test_the_call_budget_holds(settings: Settings, pattern: str, calls: int) -> None:
    tree = {"": ["a", "b"], **{letter: ["a", "b"] for letter in "ab"}}
    model = thinking(tree)
    agent = searching(model, pattern=pattern, depth=30, branches=2, calls=calls)
    done = await solved(settings, agent)
    assert done.calls <= calls
    assert done.output.startswith("By")


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
@pytest.mark.parametrize("calls", [1, 2, 4, 12])
async def test_asking_again_counts(settings: Settings, pattern: str, calls: int) -> None:
    """Values that cannot be read are asked for again, but never beyond the budget."""
    agent = searching(thinking(value=lambda _: "%$ no JSON"), pattern=pattern, calls=calls)
    done = await solved(settings, agent)
    assert done.calls <= calls
    assert done.output.startswith("By")


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
@pytest.mark.parametrize(
    "nonsense",
    ["", "%$ no JSON", '{"steps": []}', '{"steps": [{"text": ""}]}', '{"score": 2}', "[" * 5000],
)
async def test_garbage_comes_to_an_end(settings: Settings, pattern: str, nonsense: str) -> None:
    done = await solved(settings, searching(Garbage(nonsense, draft="Still."), pattern=pattern))
    assert done.output == "Still."


@corral.tool(read_only=True)
def check(answer: str) -> bool:
    """Whether a solution is right."""
    return answer == "bb"


@pytest.mark.parametrize(
    ("pattern", "options"),
    [("tree_of_thoughts", {"search": kind}) for kind in ("bfs", "beam", "dfs")] + [("mcts", {})],
)
async def test_a_verifier_finds_what_the_model_does_not_value(
    settings: Settings, pattern: str, options: dict[str, Any]
) -> None:
    verified = {"verifier": "functions__check", **options}
    done = await solved(settings, searching(thinking(), check, pattern=pattern, **verified))
    assert done.output == "By b bb"


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
async def test_a_verifier_that_fails_refuses_all(settings: Settings, pattern: str) -> None:
    @corral.tool(read_only=True)
    def broken(answer: str) -> bool:
        """It breaks."""
        raise ValueError(answer)

    agent = searching(thinking(), broken, pattern=pattern, verifier="functions__broken")
    done = await solved(settings, agent)
    assert done.output.startswith("By ")


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
async def test_many_refused_solutions_are_no_loop(settings: Settings, pattern: str) -> None:
    tree = {
        "": list("abcdefgh"),
        **{letter: [f"{letter}{n}" for n in range(4)] for letter in "abcdefgh"},
    }
    values = dict.fromkeys("abcdefgh", 0.5)
    model = thinking(tree, values)
    options: dict[str, Any] = {"branches": 8, "calls": 100, "verifier": "functions__check"}
    if pattern == "tree_of_thoughts":
        options["breadth"] = 8
    done = await solved(settings, searching(model, check, pattern=pattern, **options))
    assert sum(entry.kind == "tool" for entry in done.journal) == 32
    told = str([entry.result for entry in done.journal])
    assert "'loop':" not in told
    assert "'told':" not in told


def criticised(pattern: str) -> corral.Agent:
    """A search whose thoughts a sub-agent values, after it has looked something up."""

    @corral.tool(read_only=True)
    def look(topic: str) -> str:
        """Look a topic up."""
        return f"about {topic}"

    def reply(request: ModelRequest) -> Turn | str:
        if request.messages[-1].type == "tool":
            return deciding(score=VALUES[steps_in(request)[-1]])
        return {"text": "", "tool_calls": [{"name": "functions__look", "args": {"topic": "it"}}]}

    critic = answers(Answering(reply), look, name="critic")
    return searching(thinking(), agents=(critic,), pattern=pattern, critic="critic")


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
async def test_approvals_inside_of_a_critic(settings: Settings, pattern: str) -> None:
    assert await approved(settings, criticised(pattern), "look") == 6


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
@pytest.mark.parametrize("after", [1, 6, 14])
async def test_cut_off_and_resumed(settings: Settings, pattern: str, after: int) -> None:
    done = await cut_and_resumed(settings, criticised(pattern), after)
    assert done.output == "By a aa"


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
async def test_a_critic_that_fails_says_nothing(settings: Settings, pattern: str) -> None:
    critic = answers(Answering(lambda _: {"error": "overloaded"}), name="critic")
    agent = searching(thinking(), agents=(critic,), pattern=pattern, critic="critic")
    assert (await solved(settings, agent)).output == "By a aa"


@pytest.mark.parametrize("pattern", ["tree_of_thoughts", "mcts"])
async def test_the_tree_does_not_reach_the_next_prompt(settings: Settings, pattern: str) -> None:
    agent = searching(thinking(), pattern=pattern)
    async with corral.open(allowing(settings)) as c:
        first = await solved_in(c, agent, "First.")
        second = await solved_in(c, agent, "Second.", first.result.thread)
    assert (first.output, first.calls) == (second.output, second.calls)


@pytest.mark.parametrize(
    "options", [{"calls": 0}, {"depth": 0}, {"branches": 99}, {"search": "best"}, {"breadth": -1}]
)
async def test_options_that_do_not_fit(settings: Settings, options: dict[str, Any]) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(corral.CorralError, match=next(iter(options))):
            await c.run("Go.", corral.RunOptions(agent=searching(thinking(), **options)))
