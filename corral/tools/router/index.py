"""The tools of an agent, ranked by a request: keywords (BM25) and embeddings, fused.

    score = cos(request, tool) + SERVER · cos(request, server) + KEYWORDS · bm25 / best bm25

A server's vector is the mean of its tools'. The weights and the gap were tuned on the requests of
``bench/routing.py`` that are for tuning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from corral.ranking import Bm25
from corral.tools.contract import ToolSpec
from corral.tools.router.definitions import definition_terms, definition_text
from corral.tools.router.embeddings import static_embeddings
from corral.tools.router.wording import MAX_REQUEST, widened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float32]

Ranking = Literal["fused", "keywords", "embeddings"]

KEYWORDS = 0.5
SERVER = 1.0

GAP = 0.7
"""How far behind the best one a tool still fits a request."""

MOST = 2
"""How many times the usual number of tools may fit one request."""

_KEPT = 8
_made: deque[tuple[tuple[ToolSpec, ...], ToolIndex]] = deque(maxlen=_KEPT)


def tool_index(specs: tuple[ToolSpec, ...]) -> ToolIndex:
    """The index of some tools, made once for the same definitions. Never on an event loop."""
    for known, index in tuple(_made):
        if known == specs:
            return index
    index = ToolIndex(specs)
    _made.append((specs, index))
    return index


class ToolIndex:
    """Some tools, ready to be ranked. Made for a list of definitions, and good for that one."""

    def __init__(self, specs: Sequence[ToolSpec]) -> None:
        import numpy as np

        self._names = [spec.name for spec in specs]
        self._keywords = Bm25({spec.name: definition_terms(spec) for spec in specs})
        self._embeddings = static_embeddings()
        self._tools = self._embeddings.embed([definition_text(spec) for spec in specs])
        servers = np.array([spec.server for spec in specs])
        self._servers = np.zeros_like(self._tools)
        for server in set(servers.tolist()):
            mean = self._tools[servers == server].mean(axis=0)
            self._servers[servers == server] = mean / max(float(np.linalg.norm(mean)), 1e-9)

    def ranked(self, request: str, by: Ranking = "fused") -> list[str]:
        """The names of all tools, those that fit a request best first."""
        return [name for name, _ in self.scored(request, by)]

    def fitting(self, request: str, usual: int) -> list[str]:
        """The names of the tools that fit a request, the best one first.

        Where one tool fits far better than the others, these are half as many as usual; where many
        fit alike, the right one is seldom among the first, and they are up to twice as many.
        """
        scored = self.scored(request)
        near = sum(score >= scored[0][1] - GAP for _, score in scored)
        count = min(max(near, (usual + 1) // 2), MOST * usual)
        return [name for name, _ in scored[:count]]

    def scored(self, request: str, by: Ranking = "fused") -> list[tuple[str, float]]:
        """The names of all tools, the best one first, and how well they fit a request."""
        import numpy as np

        match by:
            case "keywords":
                scores = self._by_keywords(request)
            case "embeddings":
                scores = self._by_meaning(request)
            case "fused":
                scores = self._by_meaning(request) + KEYWORDS * self._by_keywords(request)
        # Rounded, so that the last bits of a sum, which differ from machine to machine, decide
        # nothing; the order of the tools does.
        rounded = scores.astype(np.float64).round(5)
        order = np.argsort(-rounded, kind="stable")
        return [(self._names[index], float(rounded[index])) for index in order]

    def _by_meaning(self, request: str) -> Scores:
        (vector,) = self._embeddings.embed([request[:MAX_REQUEST]])
        scores: Scores = self._tools @ vector + SERVER * (self._servers @ vector)
        return scores

    def _by_keywords(self, request: str) -> Scores:
        import numpy as np

        found = self._keywords.weighted_scores(widened(request))
        best = max(found.values(), default=1.0)
        return np.array([found.get(name, 0.0) / best for name in self._names], np.float32)
