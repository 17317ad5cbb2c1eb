"""Finds a short way to the end of what a grammar allows, for when few tokens are left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from corral.runtime.models.local.constraints.masks import Mask
from corral.runtime.models.local.native.weights import Weights

_MOST_STEPS = 400
_BRACKETS = "}]"
_PREFERRED = '"}],@.TZ2103456789nfe{[-: abcdghijklmoptpqrsuvwxyz/_ABCDEFGHIJKLMNOPQRSUVWXY\n<'
"""What ends something stands before what goes on, and that before what begins something."""

_TEXT = "~"
"""Stands in texts and nowhere else in JSON."""


class Closing:
    """Closes what a model has begun to write. ``ends`` are texts to try wherever they may stand."""

    def __init__(self, vocabulary: Weights, ends: Sequence[str] = ()) -> None:
        self._tokenizer = vocabulary.tokenizer
        self._mask = Mask(vocabulary.n_vocab)
        self._ends = [self._tokenizer.tokenize_str(end, parse_special=True) for end in ends if end]

    def shortest(self, matcher: LLMatcher, most: int) -> list[int] | None:
        """Tokens that end it: not always the fewest. ``None``: there are more than ``most``.

        The matcher is left as it is.
        """
        walker, made = matcher.deep_copy(), list[int]()
        while not (walker.is_stopped() or walker.is_accepting()):
            step = self._step(walker)
            made += step
            if (
                not step
                or len(made) > min(4 * most, _MOST_STEPS)
                or not walker.consume_tokens(step)
            ):
                return None
        if walker.is_error():
            return None
        made = self._shorter(matcher, made)
        return made if len(made) <= most else None

    def _step(self, walker: LLMatcher) -> list[int]:
        forced = walker.compute_ff_tokens()
        if forced:
            return list(forced)
        for end in self._ends:
            if walker.validate_tokens(end) == len(end):
                return end
        allowed = self._mask.allowed(walker)
        in_text = bool(allowed[self._text].any())
        letters = self._letters if in_text else self._brackets_first
        preferred = letters[allowed[letters]]
        first = preferred if len(preferred) else np.flatnonzero(allowed)
        return [int(first[0])] if len(first) else []

    @cached_property
    def _letters(self) -> NDArray[np.intp]:
        return self._tokens(_PREFERRED)

    @cached_property
    def _brackets_first(self) -> NDArray[np.intp]:
        return self._tokens(_BRACKETS + _PREFERRED)

    @cached_property
    def _text(self) -> NDArray[np.intp]:
        return self._tokens(_TEXT)

    def _tokens(self, letters: str) -> NDArray[np.intp]:
        """The tokens of single letters, as far as there are any."""
        tokens = (self._tokenizer.greedy_tokenize(letter) for letter in letters)
        return np.array([one[0] for one in tokens if len(one) == 1], dtype=np.intp)

    def _shorter(self, matcher: LLMatcher, tokens: list[int]) -> list[int]:
        """The same text in the tokens that it usually has."""
        if any(map(self._tokenizer.is_special_token, tokens)):
            return tokens
        usual = self._tokenizer.greedy_tokenize(self._tokenizer.decode_str(tokens))
        fits = len(usual) < len(tokens) and matcher.validate_tokens(usual) == len(usual)
        return list(usual) if fits else tokens
