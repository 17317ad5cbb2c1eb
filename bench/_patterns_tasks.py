"""Tasks with an answer that can be checked: arithmetic word problems, and the Game of 24."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import combinations

Numbers = tuple[Fraction, ...]

_STEP = re.compile(r"(-?[\d/]{1,20}) ([-+*/]) (-?[\d/]{1,20}) = (-?[\d/]{1,20})")
_TWENTY_FOUR = Fraction(24)


@dataclass(frozen=True)
class Problem:
    """An arithmetic word problem."""

    text: str
    answer: int

    def is_right(self, answer: str) -> bool:
        """Whether the last number of an answer is the right one."""
        found = re.findall(r"-?\d{1,20}", answer)
        return bool(found) and int(found[-1]) == self.answer


@dataclass(frozen=True)
class Game:
    """A Game of 24: four numbers, each to be used once."""

    numbers: Numbers

    @property
    def text(self) -> str:
        """The task in words."""
        given = " ".join(map(str, self.numbers))
        return f"Make 24 of {given} with + - * /, each number used once."

    def is_right(self, answer: str) -> bool:
        """Whether the steps of an answer lead to 24."""
        return left_after(self.numbers, steps_in(answer)) == (_TWENTY_FOUR,)


Task = Problem | Game


@dataclass(frozen=True)
class Move:
    """Two numbers become one."""

    text: str
    left: Numbers


def problems(count: int, seed: int, without: Collection[Task] = ()) -> list[Task]:
    """Word problems, all different, and none of those ``without``."""
    chance = random.Random(f"{seed}/problems")
    found: dict[str, Task] = {}
    while len(found) < count:
        boxes, each, given, more = (chance.randint(2, 90) for _ in range(4))
        text = (
            f"Ann has {boxes} boxes with {each} pens each. She gives {given} pens away and buys "
            f"{more} more. How many pens has she?"
        )
        problem = Problem(text, boxes * each - given + more)
        if problem not in without:
            found[text] = problem
    return list(found.values())


def games(count: int, seed: int, without: Collection[Task] = ()) -> list[Task]:
    """Games that can be won, all different, and none of those ``without``."""
    chance = random.Random(f"{seed}/games")
    found: dict[Numbers, Task] = {}
    while len(found) < count:
        numbers = tuple(sorted(Fraction(chance.randint(1, 13)) for _ in range(4)))
        game = Game(numbers)
        if can_make_24(numbers) and game not in without:
            found[numbers] = game
    return list(found.values())


@lru_cache(maxsize=100_000)
def can_make_24(numbers: Numbers) -> bool:
    """Whether 24 can be made of these numbers."""
    if len(numbers) == 1:
        return numbers[0] == _TWENTY_FOUR
    return any(can_make_24(tuple(sorted(move.left))) for move in moves(numbers))


def moves(numbers: Numbers) -> Iterator[Move]:
    """All that can be done with two of the numbers."""
    for one, other in combinations(range(len(numbers)), 2):
        rest = tuple(n for i, n in enumerate(numbers) if i not in (one, other))
        a, b = numbers[one], numbers[other]
        both = ((a, "+", b), (a, "*", b), (a, "-", b), (b, "-", a), (a, "/", b), (b, "/", a))
        for x, sign, y in both:
            made = _made(x, sign, y)
            if made is not None:
                yield Move(f"{x} {sign} {y} = {made}", (*rest, made))


def steps_in(text: str) -> list[str]:
    """The calculations in a text."""
    return [found.group(0) for found in _STEP.finditer(text)]


def left_after(numbers: Numbers, steps: list[str]) -> Numbers | None:
    """The numbers that are left after some steps; ``None``: one of them is wrong."""
    left = list(numbers)
    for step in steps:
        found = _STEP.fullmatch(step)
        if found is None:
            return None
        x, sign, y, made = Fraction(found[1]), found[2], Fraction(found[3]), Fraction(found[4])
        if _made(x, sign, y) != made:
            return None
        for number in (x, y):
            if number not in left:
                return None
            left.remove(number)
        left.append(made)
    return tuple(left)


def _made(x: Fraction, sign: str, y: Fraction) -> Fraction | None:
    match sign:
        case "+":
            return x + y
        case "-":
            return x - y
        case "*":
            return x * y
        case _:
            return x / y if y else None
