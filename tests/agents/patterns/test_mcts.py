"""Monte Carlo tree search: selection, backup, what it answers. More is in test_tree_of_thoughts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.agents.patterns.mcts import ROOT, Node, backed_up, most_visited, selected, ucb1
from corral.agents.patterns.thoughts import Thought
from corral.runtime.config import Settings
from tests.agents.patterns.support import solved
from tests.agents.patterns.test_tree_of_thoughts import searching, thinking


def thought(parent: int, value: float, *, done: bool = False) -> Thought:
    return Thought(parent=parent, text="", depth=1, value=value, done=done, solved=False)


def grown(*leaves: tuple[int, list[float]]) -> list[Node]:
    """A tree of which so many leaves were expanded, with thoughts of these values."""
    tree: list[Node] = []
    for leaf, values in leaves:
        tree = backed_up(tree, leaf, [thought(leaf, value) for value in values])
    return tree


def test_values_are_backed_up_to_the_root() -> None:
    tree = grown((ROOT, [0.4, 0.6]), (1, [1.0, 0.0]), (2, [0.5]))
    assert [(node["visits"], node["total"]) for node in tree] == [
        (1, 0.4),
        (4, pytest.approx(2.1)),
        (2, 1.5),
        (1, 0.0),
        (1, 0.5),
    ]
    assert most_visited(tree) == 4


def test_the_bound_is_that_of_ucb1() -> None:
    (node,) = grown((ROOT, [0.5]))
    assert ucb1(node, math.log(4), 2.0) == pytest.approx(0.5 + 2 * math.sqrt(math.log(4)))


def test_what_did_well_is_selected_and_at_last_what_was_not_seen() -> None:
    tree = grown((ROOT, [0.2, 0.6]))
    assert selected(tree, 0.0) == 1
    many = grown((ROOT, [0.5, 0.6]), *[(1, [0.4] * 30)])
    assert selected(many, 2.0) == 0


def test_of_equal_children_the_first_is_selected() -> None:
    assert selected(grown((ROOT, [0.5, 0.5, 0.5])), 1.4) == 0


def test_what_is_over_is_closed_up_to_the_root() -> None:
    tree = grown((ROOT, [0.5]), (0, [0.5]))
    closed = backed_up(tree, 1, [thought(1, 0.1, done=True)])
    assert [node["closed"] for node in closed] == [True, True, True]
    assert [node["closed"] for node in backed_up(tree, 1, [])] == [True, True]


@given(st.lists(st.tuples(st.integers(0, 20), st.lists(st.floats(0, 1), max_size=4)), max_size=8))
def test_visits_and_values_add_up(grows: list[tuple[int, list[float]]]) -> None:
    """A thought was visited once, and once for each thought below it."""
    tree: list[Node] = []
    for wanted, values in grows:
        leaf = min(wanted, len(tree)) - 1
        tree = backed_up(tree, leaf, [thought(leaf, value) for value in values])
    for index, node in enumerate(tree):
        below = [index]
        for at in below:
            below += [child for child, other in enumerate(tree) if other["parent"] == at]
        assert node["visits"] == len(below)
        assert node["total"] == pytest.approx(sum(tree[at]["value"] for at in below))


async def test_the_answer_follows_the_visits_or_the_values(settings: Settings) -> None:
    tree = {"": ["a", "b"], "a": ["aa", "ab", "ac"], "b": ["bb"]}
    values = {"a": 0.5, "b": 0.4, "aa": 0.5, "ab": 0.5, "ac": 0.4, "bb": 0.9}
    by_visits = searching(thinking(tree, values), pattern="mcts", exploration=0)
    assert (await solved(settings, by_visits)).output == "By a aa"
    by_value = searching(thinking(tree, values), pattern="mcts", exploration=0, final="value")
    assert (await solved(settings, by_value)).output == "By b bb"


async def test_it_is_the_same_search_each_time(settings: Settings) -> None:
    runs = [await solved(settings, searching(thinking(), pattern="mcts")) for _ in range(2)]
    first, second = ([(e.path, e.request) for e in run.journal] for run in runs)
    assert first == second
