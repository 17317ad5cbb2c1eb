"""One run from the shell: run and resume."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from corral.cli.agents.completion import agent_names
from corral.cli.budget import BudgetOption, TagOption, parse_budget
from corral.cli.options import taking
from corral.cli.session_rules import RulesOption, session_rules
from corral.errors import UsageError

ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        help="local, local:NAME, a .gguf file, openai:NAME, anthropic:NAME, ...: see "
        "`corral models list`.",
    ),
]
AgentOption = Annotated[
    str | None,
    typer.Option(
        metavar="A", help="An agent's name, or its Markdown file.", autocompletion=agent_names
    ),
]
ThreadOption = Annotated[str | None, typer.Option(metavar="T", help="Go on in this conversation.")]
PolicyOption = Annotated[
    str | None,
    typer.Option(metavar="P", help="read-only, ask, workspace, trusted, or a policy file."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Events as JSON, one a line.")]


AttachOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A text, image or PDF that goes with the prompt."),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="When it asks, wait until somebody has answered elsewhere.")
]


@dataclass(frozen=True)
class Options:
    """The options of ``corral run``."""

    json: JsonOption = False
    model: ModelOption = None
    agent: AgentOption = None
    thread: ThreadOption = None
    policy: PolicyOption = None
    rule: RulesOption = None
    wait: WaitOption = False
    budget: BudgetOption = None
    tag: TagOption = None
    attach: AttachOption = None


@taking(Options)
def run(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="- reads standard input.")],
    options: Options,
) -> int:
    """Give an agent one task and show what it does.

    Exits 0 when it completed, 1 when it failed, 3 when it waits for approval, 4 when a limit
    stopped it.
    """
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise UsageError("The prompt is empty.", hint='Say what to do: corral run "…"')

    from corral.agents.options import RunOptions
    from corral.cli.follow import follow
    from corral.runtime.attachments import Attachment

    chosen = RunOptions(
        agent=options.agent,
        model=options.model,
        thread=options.thread,
        policy=options.policy,
        rules=session_rules(options.rule),
        wait=options.wait,
        budget=parse_budget(options.budget),
        tags=tuple(options.tag or ()),
        attachments=tuple(map(Attachment.read, options.attach or ())),
    )
    return follow(lambda corral: corral.stream(text, chosen), json=options.json, waits=options.wait)


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")],
    max_steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Allow each agent this many steps.")
    ] = None,
    wait: WaitOption = False,
    budget: BudgetOption = None,
    json: JsonOption = False,
) -> int:
    """Go on with a run after a crash, an answer or a limit."""
    from corral.agents.options import RunOptions
    from corral.cli.follow import follow
    from corral.policies.limits import RunLimits

    options = RunOptions(
        limits=RunLimits(max_steps=max_steps) if max_steps else None,
        wait=wait,
        budget=parse_budget(budget),
    )
    return follow(lambda corral: corral.stream_resume(run, options), json=json, waits=wait)
