"""What clients are offered: agents and single tools; and whether an order can be done at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pydantic import ValidationError

from corral.agents.app import Corral
from corral.agents.direct import ToolCall
from corral.agents.files.catalog import find_agents
from corral.agents.hosting.contract import Offer, Order
from corral.agents.policy_files import load_policy
from corral.agents.spec import Agent
from corral.errors import CorralError, NotFoundError, UsageError
from corral.policies.budgets import Budget
from corral.policies.layers import decide
from corral.policies.patterns.globs import compile_glob
from corral.policies.presets import READ_ONLY
from corral.runtime.call_facts import call_of_spec
from corral.tools.contract import ToolSpec


def offers(corral: Corral) -> list[Offer]:
    """The configured agents that can be used, by name. Starts and opens nothing."""
    corral.launcher.look_again()
    found = []
    for entry in find_agents(corral.settings).entries:
        try:
            agent = corral.launcher.roster.agent(entry.name, None)
        except CorralError:
            continue  # `corral agents check` says what is wrong with it
        found.append(_offer(corral, agent))
    return found


def _offer(corral: Corral, agent: Agent) -> Offer:
    team = list(agent.team())
    typed = agent.typed
    return Offer(
        name=agent.name,
        description=agent.description,
        instructions=agent.instructions or "",
        returns=dict(typed.schema) if typed else None,
        read_only=_only_reads(corral, team),
        open_world=_reaches_out(corral, team),
    )


def _only_reads(corral: Corral, team: list[Agent]) -> bool:
    """Whether no tool of the team's can change anything: it has none, or policy lets none."""
    if corral.settings.policy == READ_ONLY.name:
        return True
    own = team[0].policy
    if own is not None and own.name == READ_ONLY.name and not own.rules:
        return True
    return all(agent.servers == () and not agent.functions for agent in team)


def _reaches_out(corral: Corral, team: Iterable[Agent]) -> bool:
    """Whether a tool of the team's can reach beyond this machine."""
    settings = corral.settings
    everything = (*settings.servers, *settings.mcp)
    reaching = settings.networked_servers | settings.remote_servers
    used = {
        name for agent in team for name in (everything if agent.servers is None else agent.servers)
    }
    unconfined = used - settings.sandboxed_servers - {"memory"}
    return bool(used & reaching or unconfined)


async def tools(corral: Corral) -> list[ToolSpec]:
    """See ``Runs.tools``. Starts the servers."""
    settings = corral.settings
    agent = Agent(name="call", offered=0)
    specs = (await corral.launcher.services(agent).tools.catalog()).tools
    policy, workspace = load_policy(settings), str(settings.workspace)
    networked = settings.networked_servers | settings.remote_servers
    allowed = [compile_glob(pattern) for pattern in settings.serve.allow]

    def is_let_out(spec: ToolSpec) -> bool:
        if allowed and not any(one.matches(spec.name) for one in allowed):
            return False
        call = call_of_spec(spec, {}, workspace, settings.sandboxed_servers, networked)
        return decide(policy, call).action != "deny"

    servers = {*settings.servers, *settings.mcp, "memory"}
    return [spec for spec in specs if spec.server in servers and is_let_out(spec)]


async def checked(corral: Corral, order: Order, thread: str) -> Order:
    """The order as it may be stored. Raises ``UsageError`` for one that cannot be done."""
    launcher = corral.launcher
    launcher.look_again()
    _check_budget(order)
    if order.tool is not None:
        _check_server(corral, ToolCall(order.tool, dict(order.args)))
        args = await launcher.stored_json(order.args, thread)
        return replace(order, agent="", prompt="", args=args, thread=thread)
    if not order.prompt.strip():
        raise UsageError("The prompt is empty.", hint="Say what the agent should do.")
    agent = launcher.roster.agent(order.agent, None)
    launcher.services(agent).open_model()
    return replace(order, prompt=await launcher.stored(order.prompt, thread), thread=thread)


def _check_budget(order: Order) -> None:
    try:
        Budget.model_validate(order.budget)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(
            f"The budget cannot be used: {where}: {problem['msg']}.",
            hint='Such as {"tokens": 20000} or {"usd": 0.5}; see docs/budgets.md.',
        ) from error


def _check_server(corral: Corral, call: ToolCall) -> None:
    servers = (*corral.settings.servers, *corral.settings.mcp, "memory")
    if call.server not in servers:
        raise NotFoundError(
            f"There is no tool server {call.server!r}.",
            hint=f"The servers are: {', '.join(servers)}.",
        )
