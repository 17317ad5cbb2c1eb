"""The line in front of a model: who is served next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from corral.errors import ModelError
from corral.runtime.models.local.scheduling.job import Job


class Queue:
    """Requests that wait. Not safe to use from two threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Join the line. Raises ``ModelError`` when it is full."""
        if len(self._jobs) >= self._limit:
            self._jobs = [waiting for waiting in self._jobs if not waiting.is_cancelled]
        if len(self._jobs) >= self._limit:
            raise ModelError(
                f"{len(self._jobs):,} requests wait for the model already.",
                hint="Ask again later, run fewer agents at once, or raise queue of [local].",
                kind="overloaded",
            )
        self._jobs.append(job)

    def next(self, served: Iterable[str]) -> Job:
        """Take out who is served next, where those in ``served`` (conversations) are now.

        The highest priority comes first; among equals the conversation of which fewest are being
        served, and then who came first: nobody starves beside one that asks for much.
        """
        running = Counter(map(_asker, served))
        job = min(
            self._jobs,
            key=lambda job: (-job.place.priority, running[_asker(job.place.conversation)]),
        )
        self._jobs.remove(job)
        return job

    def remove_over(self) -> list[Job]:
        """Take out all that nobody waits for, or whose deadline has passed."""
        over = [job for job in self._jobs if job.is_over]
        self._jobs = [job for job in self._jobs if not job.is_over]
        return over

    def remove_all(self) -> list[Job]:
        """Empty the line."""
        jobs, self._jobs = self._jobs, []
        return jobs


def _asker(conversation: str) -> str:
    """The thread of a conversation; its agents count together."""
    return conversation.partition("/")[0]
