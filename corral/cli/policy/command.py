"""The commands ``corral policy check``, ``test``, ``lint`` and ``show``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.agents.completion import agent_names
from corral.cli.context import current, open_records, wait
from corral.cli.options import taking
from corral.cli.output import emit, note
from corral.cli.session_rules import RulesOption, session_rules
from corral.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.cli.policy.recorded import Recorded
    from corral.jsontypes import JsonObject
    from corral.policies.layers import Layered
    from corral.policies.rules import LayerName, Rule
    from corral.policies.writing.cases import Facts, Table
    from corral.policies.writing.lint import Problem
    from corral.runtime.config import Settings
    from corral.runtime.views import StandingRule

JsonOption = Annotated[bool, typer.Option("--json", help="JSON, one object a line.")]
PolicyOption = Annotated[
    str | None, typer.Option(metavar="P", help="A preset or a policy file, instead of your own.")
]
app = typer.Typer(
    name="policy",
    help="What the rules say to a call and why; test, look through and list them.",
    rich_markup_mode=None,
)


@dataclass(frozen=True)
class CheckOptions:
    """The facts of a call, and the policy that it is decided by."""

    args: Annotated[str, typer.Option(metavar="JSON", help="The call's arguments.")] = "{}"
    agent: Annotated[
        str | None,
        typer.Option(metavar="A", help="The agent that asks.", autocompletion=agent_names),
    ] = None
    depth: Annotated[int, typer.Option(min=0, metavar="N", help="Agents above it.")] = 0
    untrusted: Annotated[bool, typer.Option(help="Untrusted content was read.")] = False
    private: Annotated[bool, typer.Option(help="Private content was read.")] = False
    said: Annotated[str | None, typer.Option(metavar="TEXT", help="What the user wrote.")] = None
    read_only: Annotated[bool | None, typer.Option(help="The tool changes nothing.")] = None
    sandboxed: Annotated[bool | None, typer.Option(help="The tool runs in the sandbox.")] = None
    open_world: Annotated[bool | None, typer.Option(help="It reaches the outside.")] = None
    run: Annotated[str | None, typer.Option(metavar="RUN", help="A call of this run.")] = None
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|N", help="When, as 2027-01-31T18:00; with --run: the call's number."
        ),
    ] = None
    policy: PolicyOption = None
    rule: RulesOption = None
    json: JsonOption = False


@app.command("check")
@taking(CheckOptions)
def check(
    tool: Annotated[str, typer.Argument(metavar="[TOOL]", help="SERVER__TOOL.")] = "",
    options: CheckOptions = CheckOptions(),
) -> None:
    """Say what is decided on a call, by which rule, and what would change it.

    With --run and --at it is a call that a run has made.
    """
    from corral.cli.policy.words import explained
    from corral.policies.writing.explain import explain

    settings = current().settings()
    if options.run is not None:
        asked = wait(_recorded(settings, options))
    else:
        asked = _described(tool, options, settings)
    policy = _policy(settings, options.policy, options.rule, asked)
    found = explain(policy, asked.call, wait(_standing(settings)))
    if options.json:
        emit(found.to_json())
    else:
        explained(found)


@app.command("test")
def try_cases(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A table of cases.")],
    policy: PolicyOption = None,
    rule: RulesOption = None,
    json: JsonOption = False,
) -> int:
    """Decide on every case of a table and show those that are not as expected.

    Exits 1 when there is one.
    """
    from corral.cli.policy.known import Tools
    from corral.cli.policy.words import tested
    from corral.policies.writing.cases import parse_cases, run_cases
    from corral.runtime.policy_layers import read_policy_text

    settings = current().settings()
    table: Table = parse_cases(read_policy_text(file), str(file))
    layered = _policy(settings, policy or _of_table(table, file), rule, None)
    found = run_cases(table, layered, Tools(settings).find, str(settings.workspace))
    if json:
        for outcome in found:
            emit(outcome.to_json())
    else:
        tested(found)
    return 1 if any(outcome.differs for outcome in found) else 0


@app.command("lint")
def lint(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A policy file; else what holds here.")
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A server or an agent that Python code brings."),
    ] = None,
    policy: PolicyOption = None,
    json: JsonOption = False,
) -> int:
    """Find rules that can never match, never decide, or name what is not there.

    Exits 1 when there is one.
    """
    from corral.cli.policy.known import Tools
    from corral.policies.writing.lint import lint as look

    try:
        settings = current().settings()
        layered = _policy(settings, policy, None, None) if file is None else _of_file(file)
    except ConfigError as error:
        problem: JsonObject = {"kind": "broken", "message": error.message, "hint": error.hint}
        _tell_problem(problem, json=json)
        return 1
    problems: Sequence[Problem] = look(layered, Tools(settings).known(known or ()))
    if file is not None:
        problems = [each for each in problems if each.source.startswith(str(file.absolute()))]
    for each in problems:
        _tell_problem(each.to_json(), json=json)
    if not problems and not json:
        note("No problems found.")
    return 1 if problems else 0


@app.command("show")
def show(policy: PolicyOption = None, rule: RulesOption = None, json: JsonOption = False) -> None:
    """Show the rules that hold here, layer by layer, and the answers given ahead."""
    from corral.cli.policy.words import layers_json, shown

    settings = current().settings()
    layered = _policy(settings, policy, rule, None)
    standing = wait(_standing_views(settings))
    if json:
        for record in layers_json(layered, standing):
            emit(record)
    else:
        shown(layered, standing)


def _policy(
    settings: Settings, policy: str | None, rules: Sequence[str] | None, asked: Recorded | None
) -> Layered:
    from corral.agents.policy_files import Chosen

    given = session_rules(rules)
    began, agents = (asked.chosen.to_spec(), asked.agents) if asked is not None else (None, ())
    return Chosen.by(policy, given, began).load(settings, agents)


def _described(tool: str, options: CheckOptions, settings: Settings) -> Recorded:
    """The call that the options describe, with the policy of the agent that they name."""
    from dataclasses import replace

    from corral.agents.files.catalog import find_agents
    from corral.agents.policy_files import Chosen, agent_layer
    from corral.cli.policy.known import Tools
    from corral.cli.policy.recorded import Recorded
    from corral.runtime.links import links_of

    if not tool:
        raise UsageError(
            "There is no call to check.",
            hint="Name a tool, as in `corral policy check files__write_file --args "
            """'{"path": "a.txt"}'`, or a call of a run with --run RUN --at N.""",
        )
    facts = _facts(tool, options)
    call = facts.call(Tools(settings).find(tool), str(settings.workspace))
    call = replace(
        call,
        links=links_of(call.args, call.workspace),
        rewindable=settings.snapshots.enabled,
    )
    entry = find_agents(settings).find(call.agent)
    own = entry.require().policy if entry is not None else None
    return Recorded(call, Chosen(), (agent_layer(own, call.agents),) if own is not None else ())


def _facts(tool: str, options: CheckOptions) -> Facts:
    import json
    from datetime import datetime

    from corral.policies.writing.cases import DEFAULT_AGENT, Facts

    try:
        args = json.loads(options.args)
    except ValueError as error:
        raise UsageError(
            f"--args is not JSON: {error}.", hint="""Write it like this: --args '{"path": "a"}'"""
        ) from error
    if not isinstance(args, dict):
        raise UsageError("--args is not a JSON object.", hint="Write the arguments by their names.")
    try:
        at = datetime.fromisoformat(options.at) if options.at else datetime.now()
    except ValueError as error:
        raise UsageError(
            f"{options.at!r} is no time.", hint="Write it like 2027-01-31T18:00."
        ) from error
    return Facts(
        tool=tool,
        args=args,
        agent=options.agent or DEFAULT_AGENT,
        depth=options.depth,
        untrusted=options.untrusted,
        private=options.private,
        said=(options.said,) if options.said else (),
        at=at.astimezone(),
        read_only=options.read_only,
        sandboxed=options.sandboxed,
        open_world=options.open_world,
    )


async def _recorded(settings: Settings, options: CheckOptions) -> Recorded:
    from corral.cli.policy.recorded import recorded_call

    if options.at is None or not options.at.isdecimal():
        raise UsageError(
            "--run needs --at N, the number of the call.",
            hint=f"`corral trace {options.run}` shows the calls with their numbers.",
        )
    async with open_records() as records:
        return await recorded_call(records, settings, str(options.run), int(options.at))


async def _standing(settings: Settings) -> tuple[Rule, ...]:
    from corral.policies.rules import Rule

    async with open_records() as records:
        stored = await records.standing_rules(str(settings.workspace))
    return tuple(Rule.model_validate(rule) for rule in stored)


async def _standing_views(settings: Settings) -> list[StandingRule]:
    async with open_records() as records:
        return await records.rules(str(settings.workspace))


def _of_table(table: Table, file: Path) -> str | None:
    """The policy that a table names; a file beside the table."""
    if table.policy is None or not table.policy.endswith(".toml"):
        return table.policy
    return str(file.parent / Path(table.policy).expanduser())


def _of_file(file: Path) -> Layered:
    """A policy file under the organisation's."""
    from corral.agents.policy_files import organisation_policies
    from corral.policies.layers import Layered
    from corral.policies.writing.parse import parse_policy, parse_rules
    from corral.runtime.policy_layers import read_policy_text

    text, source = read_policy_text(file), str(file.absolute())
    is_configuration = file.name in ("corral.toml", "config.toml")
    layer: LayerName = "project" if file.name == "corral.toml" else "user"
    own = (
        parse_rules(text, source, layer)
        if is_configuration
        else parse_policy(text, source, layer=layer)
    )
    above = [one for one in organisation_policies() if source not in one.files]
    return Layered.of(*above, own)


def _tell_problem(problem: JsonObject, *, json: bool) -> None:
    from corral.cli.policy.words import problem_told

    if json:
        emit(problem)
    else:
        problem_told(problem)
