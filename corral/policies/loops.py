"""Whether a run goes round in circles: the same tool call again and again, to no effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload


@dataclass(frozen=True)
class CallRecord:
    """One finished tool call: its name, and digests of its arguments and its result."""

    tool: str
    args_digest: str
    result_digest: str


class CallHistory(Sequence[CallRecord]):
    """The finished tool calls of a run, oldest first, with how often each had the same outcome."""

    def __init__(self, records: Iterable[CallRecord] = ()) -> None:
        self._records = list(records)
        self._times = Counter(self._records)

    def append(self, record: CallRecord) -> None:
        """One more call has finished."""
        self._records.append(record)
        self._times[record] += 1

    def count(self, value: CallRecord) -> int:
        """How many of the calls are this one with this outcome; takes no look at them."""
        return self._times[value]

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> CallRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[CallRecord]: ...
    def __getitem__(self, index: int | slice) -> CallRecord | list[CallRecord]:
        return self._records[index]


def stuck(
    history: Sequence[CallRecord], tool: str, args_digest: str, max_repeats: int
) -> str | None:
    """Why calling ``tool`` once more is pointless, in words; ``None``: it may be called.

    ``history`` is oldest first. The call is stuck when it has been made ``max_repeats`` times and
    gave the same result each time, with no progress in between. Progress is another result of
    this call (so polling something that changes is fine), or another call with an outcome that
    is in the history only once. So a circle of several calls is found as well.
    """
    repeats = 0
    result: str | None = None
    for record in reversed(history):
        if (record.tool, record.args_digest) != (tool, args_digest):
            if history.count(record) == 1:
                break
            continue
        if result is not None and record.result_digest != result:
            break
        result = record.result_digest
        repeats += 1
    if repeats < max_repeats:
        return None
    times = "once" if repeats == 1 else f"{repeats} times"
    return (
        f"{tool} was called {times} with the same arguments and the same result, without "
        f"progress; the limit is {max_repeats} (max_repeats)."
    )
