"""What theory predicts for searches over thoughts that are right or wrong, independently.

A game of 24 has ``STEPS`` steps. A step that follows right ones is right with the rate of a step,
one that follows a wrong one is wrong, and a judge sees which it is as often as it judges well. A
verifier, who does not err, sees whether the last step is right. The numbers of a game play no part.
So the chance of a search is a sum over what can happen, without a run and without a game; of MCTS,
whose next choice depends on all before, it is the share of many searches played with such thoughts.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache
from itertools import product

from bench._patterns_model import PROPOSALS, Rates

STEPS = 3
PLAYED = 4_000
"""How often MCTS is played."""

Shares = dict[tuple[bool, ...], float]
"""How likely each sequence of thoughts is, right or wrong."""

Found = tuple[float, dict[int, float]]
"""How likely it is solved; where it is not, how likely so many calls are left."""

_ACCEPTED, _REJECTED = 0.9, 0.1  # what a judge says (`bench/_patterns_model.py`)
_RIGHT, _WRONG = 1.0, 0.0  # what a verifier says


def beam(rates: Rates, breadth: int) -> float:
    """A beam: of all that the judge accepts, the first ``breadth`` of each level are gone on with.

    All accepted thoughts are of equal value, and equal ones stay in their order, so a beam is the
    sequence of its thoughts, right or wrong: of some few, as there are 2 ** ``breadth``.
    """
    beams: Shares = {(True,): 1.0}
    for _ in range(STEPS - 1):
        beams = _grown(beams, rates, breadth)
    missed = (1 - rates.step) ** PROPOSALS
    return sum(share * (1 - missed ** sum(thoughts)) for thoughts, share in beams.items())


def _grown(beams: Shares, rates: Rates, breadth: int) -> Shares:
    found: Shares = {}
    for parents, share in beams.items():
        partial: Shares = {(): share}
        for parent in parents:
            partial = _joined(partial, _accepted(parent, PROPOSALS, rates), breadth)
        for children, chance in partial.items():
            found[children] = found.get(children, 0.0) + chance
    return found


def _joined(before: Shares, after: Shares, most: int) -> Shares:
    found: Shares = {}
    for (first, one), (second, other) in product(before.items(), after.items()):
        both = (*first, *second)[:most]
        if one * other:
            found[both] = found.get(both, 0.0) + one * other
    return found


def _accepted(parent: bool, proposals: int, rates: Rates) -> Shares:
    """What the judge accepts of the thoughts after one, in order."""
    right = rates.step if parent else 0.0
    both, slipped = right * rates.judge, (1 - right) * (1 - rates.judge)
    one = {(True,): both, (False,): slipped, (): 1 - both - slipped}
    found: Shares = {(): 1.0}
    for _ in range(proposals):
        found = _joined(found, one, proposals)
    return found


def depth_first(rates: Rates, calls: int) -> float:
    """The first accepted thought is gone on with, and what lies below it searched before the next.

    ``calls``: model calls without the one for the answer. A thought that nobody could value any
    more is lost.
    """
    return _below(rates, True, 0, calls)[0]


@cache
def _below(rates: Rates, right: bool, depth: int, calls: int) -> Found:
    if calls < 1:
        return 0.0, {calls: 1.0}
    if depth == STEPS - 1:
        missed = (1 - rates.step) ** PROPOSALS if right else 1.0
        return 1 - missed, {calls - 1: missed}
    valued = min(PROPOSALS, calls - 1)
    solved, left = 0.0, dict[int, float]()
    for children, share in _accepted(right, valued, rates).items():
        waiting = {calls - 1 - valued: share}
        for child in children:
            found, waiting = _next_one(rates, waiting, child, depth + 1)
            solved += found
        _add(left, waiting, 1.0)
    return solved, left


def _next_one(rates: Rates, waiting: dict[int, float], child: bool, depth: int) -> Found:
    solved, left = 0.0, dict[int, float]()
    for calls, share in waiting.items():
        found, after = _below(rates, child, depth, calls)
        solved += share * found
        _add(left, after, share)
    return solved, left


def _add(to: dict[int, float], more: dict[int, float], share: float) -> None:
    for calls, chance in more.items():
        to[calls] = to.get(calls, 0.0) + share * chance


@cache
def monte_carlo(rates: Rates, calls: int, exploration: float, played: int = PLAYED) -> float:
    """UCT (Kocsis and Szepesvári 2006), played so often; ``calls`` are without the answer's."""
    chance = random.Random("theory")
    return sum(_is_solved(rates, calls, exploration, chance) for _ in range(played)) / played


@dataclass
class _Node:
    """A thought; ``is_over``: nothing below it could still be looked at."""

    right: bool
    depth: int
    visits: int = 0
    total: float = 0.0
    is_over: bool = False
    children: list[_Node] = field(default_factory=list)


def _is_solved(rates: Rates, calls: int, exploration: float, chance: random.Random) -> bool:
    root = _Node(right=True, depth=0)
    while calls > 0 and not root.is_over:
        path = _selected(root, exploration)
        new = _expanded(path[-1], calls - 1, rates, chance)
        if any(child.total == _RIGHT for child in new):
            return True
        calls -= 1 + len(new) * (path[-1].depth < STEPS - 1)
        path[-1].children = new
        for node in reversed(path):
            node.visits += len(new)
            node.total += sum(child.total for child in new)
            node.is_over = all(child.is_over for child in node.children)
    return False


def _selected(root: _Node, exploration: float) -> list[_Node]:
    """The path from the root to a leaf, by UCB1 (Auer et al. 2002)."""
    path = [root]
    while path[-1].children:
        log = math.log(max(1, path[-1].visits))
        waiting = [child for child in path[-1].children if not child.is_over]
        path.append(max(waiting, key=lambda node: _bound(node, log, exploration)))
    return path


def _bound(node: _Node, log: float, exploration: float) -> float:
    return node.total / node.visits + exploration * math.sqrt(log / node.visits)


def _expanded(leaf: _Node, calls: int, rates: Rates, chance: random.Random) -> list[_Node]:
    """New thoughts below a leaf, as many as can be valued. A verifier takes no call."""
    is_last = leaf.depth == STEPS - 1
    new: list[_Node] = []
    for _ in range(PROPOSALS if is_last else min(PROPOSALS, calls)):
        right = leaf.right and chance.random() < rates.step
        if is_last:
            value = _RIGHT if right else _WRONG
        else:
            seen = right if chance.random() < rates.judge else not right
            value = _ACCEPTED if seen else _REJECTED
        new.append(_Node(right, leaf.depth + 1, 1, value, is_over=is_last))
    return new
