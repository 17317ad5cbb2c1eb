"""What theory predicts for a model that is right with given probabilities, independently."""

from __future__ import annotations

import math

from bench._patterns_model import Rates


def majority(right: float, votes: int) -> float:
    """The majority of votes of which each is right with this probability, where all wrong ones
    agree (Condorcet 1785). Of two answers with as many votes the first one counts, which is as
    often right as wrong.
    """
    shares = [math.comb(votes, k) * right**k * (1 - right) ** (votes - k) for k in range(votes + 1)]
    tied = shares[votes // 2] / 2 if votes % 2 == 0 else 0.0
    return sum(shares[votes // 2 + 1 :]) + tied


def any_of(right: float, tries: int) -> float:
    """At least one of some tries is right: best of n with a verifier that does not err."""
    return 1 - (1 - right) ** tries


def first_accepted(right: float, judge: float, tries: int) -> float:
    """The first try that a judge accepts is right; where it accepts none, the first try."""
    both = right * judge
    accepted = both + (1 - right) * (1 - judge)
    none = (1 - accepted) ** tries
    first = right * (1 - judge) / (1 - accepted) if accepted < 1 else 0.0
    return (1 - none) * both / accepted + none * first


def reflected(rates: Rates, rounds: int) -> float:
    """The Markov chain of reflection: the first draft that the critic accepts is right; where it
    accepts none, the first draft, of all that it gave the same score.
    """
    states = {(True, True): rates.answer, (False, False): 1 - rates.answer}
    right = 0.0
    for number in range(rounds):
        rejected: dict[tuple[bool, bool], float] = {}
        for (first, now), share in states.items():
            accepts = rates.judge if now else 1 - rates.judge
            right += share * accepts * now
            rejected[first, now] = share * (1 - accepts)
        if number == rounds - 1:
            return right + sum(share for (first, _), share in rejected.items() if first)
        states = {}
        for (first, now), share in rejected.items():
            to = rates.keep if now else rates.mend
            states[first, True] = states.get((first, True), 0.0) + share * to
            states[first, False] = states.get((first, False), 0.0) + share * (1 - to)
    return right


def chain(rates: Rates) -> float:
    """All three steps of a game are right."""
    return rates.step**3
