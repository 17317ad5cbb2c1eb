"""What a model sees of a growing thread, without looking at all of it at every step.

A thread mostly grows at its end. As long as it does, and fits, only what was added is looked
at, so that step 1,000 costs what step 10 costs. Anything else is worked out anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from corral.memory.compaction import plan, repair, visible
from corral.memory.tokens import estimate_tokens
from corral.policies.provenance.labels import PUBLIC, Label


class ThreadView:
    """The view of one thread in one run. Not shared between tasks."""

    def __init__(self) -> None:
        self._known: list[BaseMessage] = []
        self._seen: list[BaseMessage] = []
        self._tokens = 0
        self._shown = 0
        self._covered = -1

    @property
    def tokens(self) -> int:
        """Estimated tokens of what was seen last."""
        return self._shown

    def grown(
        self, messages: Sequence[BaseMessage], covered: int, budget: int
    ) -> list[BaseMessage] | None:
        """The view after the thread has grown at its end; ``None``: look at all of it.

        ``covered`` and ``budget`` are those of ``compaction.plan``.
        """
        count = len(self._known)
        known = messages if isinstance(messages, list) else list(messages)
        if covered != self._covered or known[:count] != self._known:
            return None
        added = known[count:]
        more = estimate_tokens(added)
        if self._tokens + more > budget or not _settled(added):
            return None
        repaired = repair(added)
        self._known += added
        self._seen += repaired
        self._tokens += more
        self._shown += more if repaired == added else estimate_tokens(repaired)
        return list(self._seen)

    def whole(
        self,
        messages: Sequence[BaseMessage],
        summary: str | None,
        covered: int,
        budget: int,
        label: Label = PUBLIC,
    ) -> list[BaseMessage]:
        """The view of a thread for which ``plan`` has nothing more to summarise.

        ``label`` is what the summary was made with.
        """
        seen = repair(visible(messages, summary, covered, budget=budget, label=label))
        self._known, self._seen = list(messages), seen
        self._tokens = self._shown = estimate_tokens(seen)
        fits = plan(messages, summary, budget, covered=covered) is None
        self._covered = covered if fits and _settled(messages) else -1
        return list(seen)


def _settled(messages: Sequence[BaseMessage]) -> bool:
    """Whether the last calls have their results, so that what follows stands by itself."""
    answered: set[str] = set()
    for message in reversed(messages):
        if isinstance(message, ToolMessage):
            answered.add(message.tool_call_id)
            continue
        if isinstance(message, AIMessage):
            return all(call["id"] in answered for call in message.tool_calls)
        return True
    return not answered
