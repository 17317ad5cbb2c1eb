"""What a model call costs. Prices are US dollars for a million tokens; sums are nano-dollars.

Sums are whole numbers, so that many small amounts add up to exactly what they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

NANO = 1_000_000_000
"""Nano-dollars in a dollar."""

_PER_TOKEN = NANO / 1_000_000

_RATES = ("input", "output", "cached", "written")

_ENDLESS = 1_000_000_000
"""Tokens that no answer has."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one call; ``input`` includes what the provider's cache gave and took."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0


class Rates(BaseModel):
    """US dollars for a million tokens.

    ``cached`` is for input that the provider had cached, ``written`` for input that it puts into
    its cache; left out, they cost as ``input``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    written: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def dearest_input(self) -> float:
        """The most that a token of input can cost, cached or not."""
        return max(self.input, self.cached or 0.0, self.written or 0.0)


class Tier(Rates):
    """The rates of a whole call whose input is longer than ``above`` tokens."""

    above: int = Field(ge=0)


class Price(Rates):
    """A model's price, with the ``tiers`` of those that cost more when they are asked for more."""

    tiers: tuple[Tier, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether nothing is ever to be paid."""
        rates = (self, *self.tiers)
        return all(not one.dearest_input and not one.output for one in rates)

    def cost(self, tokens: Tokens) -> float:
        """The price of a call in US dollars."""
        rates = self._rates(tokens.input)
        plain = max(0, tokens.input - tokens.cached - tokens.written)
        dollars = (
            plain * rates.input
            + tokens.cached * (rates.input if rates.cached is None else rates.cached)
            + tokens.written * (rates.input if rates.written is None else rates.written)
            + tokens.output * rates.output
        )
        return dollars / 1_000_000

    def of_each(self, answers: int) -> Price:
        """The price of one of so many answers, where this one is that of all to one request."""
        shares = [
            {name: rate and rate / answers for name, rate in dict(one).items() if name in _RATES}
            for one in (self, *self.tiers)
        ]
        tiers = [
            Tier(above=tier.above * answers, **share)
            for tier, share in zip(self.tiers, shares[1:], strict=True)
        ]
        return Price(**shares[0], tiers=tuple(tiers))

    def at_most(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a call with so many tokens can cost, in nano-dollars."""
        of_input, of_output = self._dearest(input_tokens)
        return math.ceil((input_tokens * of_input + output_tokens * of_output) * _PER_TOKEN)

    def output_for(self, nano_usd: int, input_tokens: int) -> int | None:
        """How many tokens of output that pays for, after the input; ``None``: any number.

        Negative when it does not even pay for the input.
        """
        left = nano_usd - self.at_most(input_tokens, 0)
        per_token = self._dearest(input_tokens)[1] * _PER_TOKEN
        if left < 0:
            return -1
        if left >= per_token * _ENDLESS:
            return None
        tokens = math.floor(left / per_token)
        # Both ways are rounded: the grant is what its own reservation pays for.
        while tokens > 0 and self.at_most(input_tokens, tokens) > nano_usd:
            tokens -= 1
        return tokens

    def _rates(self, input_tokens: int) -> Rates:
        found: Rates = self
        for tier in sorted(self.tiers, key=lambda tier: tier.above):
            if input_tokens > tier.above:
                found = tier
        return found

    def _dearest(self, input_tokens: int) -> tuple[float, float]:
        """The highest rates, of input and of output, for up to so many tokens of input."""
        of_input, of_output = self.dearest_input, self.output
        for tier in self.tiers:
            if input_tokens > tier.above:
                of_input, of_output = max(of_input, tier.dearest_input), max(of_output, tier.output)
        return of_input, of_output


FREE = Price(input=0.0, output=0.0)


def nano(usd: float) -> int:
    """US dollars as nano-dollars."""
    return round(usd * NANO)
