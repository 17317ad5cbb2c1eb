"""The names by which agents and tools are offered: such as every client takes, and each once."""

from __future__ import annotations

import re
from collections.abc import Iterable

STATUS, RESULT, CANCEL, SEND = "run_status", "run_result", "run_cancel", "run_send"
LIST, PENDING = "runs_list", "pending_approvals"
RUN_TOOLS = (STATUS, RESULT, CANCEL, SEND, LIST, PENDING)
"""The tools that every server of agents has; no agent takes their names."""

LONGEST = 64
"""Characters that a name may have. Clients refuse longer ones, and other characters."""

_OTHER = re.compile(r"[^A-Za-z0-9_-]")


def offered_names(names: Iterable[str]) -> dict[str, str]:
    """What each is called by as a tool, by that name: unlike each other and ``RUN_TOOLS``."""
    taken: dict[str, str] = {}
    for name in names:
        base = _OTHER.sub("_", name)[:LONGEST] or "agent"
        free, count = base, 1
        while free in taken or free in RUN_TOOLS:
            count += 1
            free = f"{base[: LONGEST - 4]}_{count}"
        taken[free] = name
    return taken
