"""A question to a human as a terminal shows it; ``corral.runtime.approvals.page`` words it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.output import clean

if TYPE_CHECKING:
    from rich.text import Text

    from corral.runtime.approvals.page import Tone
    from corral.runtime.views import Approval

_TITLES = {
    "tool": "",
    "in_doubt": "  was cut off: nobody knows whether it happened",
    "budget": "  a limit is reached",
    "loop": "  the agent seems to go round in circles",
    "input": "  its server asks you",
}
_STYLES: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "quiet": "dim",
    "caution": "yellow",
    "warning": "bold yellow",
    "alarm": "bold red",
    "added": "green",
    "removed": "red",
}


def question(approval: Approval, workspace: Path | None = None, *, shortened: bool = True) -> Text:
    """Everything that a person needs to answer.

    What is long is ``shortened``, with a count of what is left out. ``workspace`` is where the
    files of a question are that an older Corral asked.
    """
    from rich.text import Text

    from corral.runtime.approvals.file_change import file_change  # pydantic: not for --help
    from corral.runtime.approvals.page import Page

    if not approval.context and workspace is not None:  # as the file is now: nothing was kept
        change = file_change(approval.tool, approval.args, str(workspace))
        approval = replace(approval, context={"file": change})
    text = Text()
    text.append(clean(approval.tool), style="bold")
    text.append(_TITLES.get(approval.kind, ""), style="yellow")
    text.append("\n")
    for line, tone in Page(approval, shortened).lines():
        text.append(f"  {line}\n", style=_STYLES[tone])
    return text
