"""What a kept answer is the answer to."""

from __future__ import annotations

from dataclasses import dataclass

from corral.runtime.caching.settings import AnswerKind


@dataclass(frozen=True)
class Question:
    """A request, as far as another may be the same.

    ``key`` is the same for the same request; ``scope`` for requests that differ only in what the
    user says last, which is ``text`` (empty where that is not plain text). ``kind`` is what its
    answer is.
    """

    key: str
    scope: str
    text: str
    kind: AnswerKind
