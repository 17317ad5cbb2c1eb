"""Records as Rich renderables: tables and status words.

Rich is imported when something is drawn, because most commands with ``--json`` never draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from corral.cli.output import clean, one_line

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from corral.runtime.views import RunView, ServerView, ThreadView

STATUS_STYLE = {
    "completed": "green",
    "finished": "green",
    "approved": "green",
    "given": "green",
    "identical": "green",
    "ok": "green",
    "running": "cyan",
    "started": "yellow",
    "paused": "yellow",
    "pending": "yellow",
    "waiting": "yellow",
    "warn": "yellow",
    "stopped": "yellow",
    "failed": "red",
    "fail": "red",
    "denied": "red",
    "diverged": "red",
}
"""The colour of every status word, wherever it is shown."""


def table(*columns: str) -> Table:
    """A plain table: a header, no boxes, cells that fold instead of being cut."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    return drawn


def status(word: str) -> Text:
    """A status word in its colour."""
    from rich.text import Text

    return Text(clean(word), style=STATUS_STYLE.get(word, ""))


def when(timestamp: str | None) -> str:
    """An ISO timestamp to the second, without its zone (all are UTC)."""
    return (timestamp or "")[:19].replace("T", " ")


def runs_table(runs: Iterable[RunView]) -> Table:
    """One line a run, newest first as given."""
    drawn = table("run", "thread", "status", "started (UTC)", "steps", "tokens", "model", "prompt")
    for run in runs:
        tokens = run.usage.input_tokens + run.usage.output_tokens
        how = status(run.status)
        if run.rewound:
            how.append(", rewound", style="dim")
        cells = (run.thread, how, when(run.started_at), str(run.steps), str(tokens))
        drawn.add_row(run.run, *cells, clean(run.model), one_line(run.prompt, 60))
    return drawn


def threads_table(threads: Iterable[ThreadView]) -> Table:
    """One line a thread, as given."""
    drawn = table("thread", "runs", "last used (UTC)", "workspace", "began with")
    for thread in threads:
        cells = (str(thread.runs), when(thread.updated_at), clean(thread.workspace))
        drawn.add_row(clean(thread.thread), *cells, one_line(thread.title, 60))
    return drawn


def servers_table(servers: Iterable[ServerView]) -> Table:
    """One line a tool, under its server with the tokens of its definitions; problems in place."""
    drawn = table("server", "transport", "tokens", "tool", "description")
    for server in servers:
        name, transport = clean(server.name), clean(server.transport)
        tokens = f"~{server.definition_tokens:,}" if server.tools else ""
        if server.error is not None:
            drawn.add_row(name, transport, "", status("fail"), clean(server.error))
        elif not server.tools:
            drawn.add_row(name, transport, "", "", "offers no tools")
        for tool in server.tools:
            described = one_line(str(tool.get("description", "")), 90)
            drawn.add_row(name, transport, tokens, clean(str(tool.get("tool", ""))), described)
            name = transport = tokens = ""
    return drawn
