"""Prompt lookup: what followed the newest tokens when they stood in the text before.

Saxena, "Prompt Lookup Decoding", https://github.com/apoorvumang/prompt-lookup-decoding. Good where
an answer repeats what it was given: code to change, a file to quote, a call like the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

_SIZES = (4, 2)
"""Tokens that must be the same, the better evidence first."""


class NgramSource:
    """Looks guesses up in the prompt and the answer so far. Each token is indexed once."""

    def __init__(self) -> None:
        self._follows: dict[tuple[int, ...], int] = {}
        self._indexed = 0

    def guess(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        """See ``Source``."""
        self._index(tokens)
        for size in _SIZES:
            newest = tuple(tokens[-size:])
            at = self._follows.get(newest)
            # What has been dropped from the answer may still be in the index.
            if at is not None and at < len(tokens) and tuple(tokens[at - size : at]) == newest:
                return tokens[at : at + most]
        return ()

    def close(self) -> None:
        """See ``Source``."""

    def _index(self, tokens: Sequence[int]) -> None:
        """Note what follows each n-gram, but for the last ones, which nothing follows yet."""
        start = min(self._indexed, len(tokens))
        for size in _SIZES:
            for at in range(max(start, size), len(tokens)):
                self._follows[tuple(tokens[at - size : at])] = at
        self._indexed = len(tokens)
