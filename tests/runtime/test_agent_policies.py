"""Policies of agents in runs: at every depth, after a resume, in forks and replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import ConfigError
from corral.runtime.agent_policy import AgentPolicy
from corral.runtime.config import Settings, load_settings
from tests.runtime.agents import Ledger, Turn, scripted, turn
from tests.runtime.test_budgets_agents import LEAD, team

PAYS: list[Turn] = [turn(pay={"amount": 5}), turn("Paid.")]
DENY = {"tool": "functions__pay", "action": "deny", "reason": "readers do not pay"}


def trusting(settings: Settings) -> Settings:
    return load_settings(
        {"home": settings.home, "workspace": settings.workspace, "policy": "trusted"}
    )


async def test_it_holds_for_the_agent_below_and_not_for_the_one_above(settings: Settings) -> None:
    ledger = Ledger()
    helper = scripted(PAYS, *ledger.tools(), name="helper", policy="read-only")
    agent = team(helper, LEAD)
    async with corral.open(trusting(settings)) as c:
        done = await c.run("Pay.", corral.RunOptions(agent=agent))
        assert (done.status, ledger.paid) == ("completed", [])
        trace = await c.records.trace(done.run)
        (paid,) = (view for view in trace if view.name == "functions__pay")
        assert "read-only of the agent helper" in str(paid.result)
        assert (await c.replay(done.run, corral.RunOptions(agent=agent))).status == "identical"


async def test_it_holds_for_all_below_the_agent(settings: Settings) -> None:
    ledger = Ledger()
    helper = scripted(PAYS, *ledger.tools(), name="helper")
    agent = team(helper, LEAD, policy=[DENY])
    async with corral.open(trusting(settings)) as c:
        done = await c.run("Pay.", corral.RunOptions(agent=agent))
    assert (done.status, ledger.paid) == ("completed", [])


async def test_a_policy_that_asks_pauses_a_run_that_is_trusted(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted(PAYS, *ledger.tools(), name="clerk", policy="ask")
    options = corral.RunOptions(agent=agent)
    async with corral.open(trusting(settings)) as c:
        paused = await c.run("Pay.", options)
        assert (paused.status, ledger.paid) == ("paused", [])
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, options)
        assert (done.output, ledger.paid) == ("Paid.", [5])
        assert (await c.replay(paused.run, options)).status == "identical"


async def test_it_is_stored_with_the_run_and_holds_after_a_resume(
    settings: Settings, tmp_path: Path
) -> None:
    ledger = Ledger()
    slow = scripted(PAYS, *ledger.tools(), name="clerk", limits=corral.RunLimits(max_steps=1))
    agent = slow.model_copy(update={"policy": AgentPolicy(name="read-only")})
    async with corral.open(trusting(settings)) as c:
        first = await c.run("Pay.", corral.RunOptions(agent=agent))
        stored = await c.records.run(first.run)
        assert stored.status == "stopped"
        more = corral.RunLimits(max_steps=5)
        await c.resume(first.run, corral.RunOptions(agent=agent, limits=more))
    assert ledger.paid == []


async def test_a_file_is_found_from_the_workspace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.workspace / "strict.toml").write_text('preset = "read-only"\n')
    ledger = Ledger()
    agent = scripted(PAYS, *ledger.tools(), policy="strict.toml")
    async with corral.open(trusting(settings)) as c:
        done = await c.run("Pay.", corral.RunOptions(agent=agent))
        assert (done.status, ledger.paid) == ("completed", [])
        monkeypatch.chdir("/")
        fork = await c.fork(done.run, corral.Fork(at=2), corral.RunOptions(agent=agent))
        assert (fork.status, ledger.paid) == ("completed", [])


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("read-onyl", "There is no policy 'read-onyl'"),
        ("missing.toml", "There is no policy file"),
        ("sources.toml", "says what sources are worth"),
    ],
)
async def test_nothing_runs_where_it_cannot_be_loaded(
    settings: Settings, policy: str, said: str
) -> None:
    sources = settings.workspace / "sources.toml"
    sources.write_text('[[sources]]\ntool = "web__*"\ntrust = "trusted"\n')
    agent = scripted([turn("Hi.")], policy=policy)
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match=said):
            await c.run("Hello.", corral.RunOptions(agent=agent))
        assert await c.records.runs() == []


def test_it_may_be_a_name_or_rules_or_both(workspace: Path) -> None:
    written: dict[str, Any] = {"name": "read-only", "rules": [DENY]}
    both = AgentPolicy.model_validate(written)
    assert both.in_words == "1 rule before read-only"
    assert AgentPolicy.model_validate("ask").in_words == "ask"
    toml = '[[agents.clerk.policy]]\ntool = "functions__pay"\naction = "deny"\n'
    (workspace / "corral.toml").write_text(f'[agents.reader]\npolicy = "read-only"\n{toml}')
    agents = load_settings().agents
    assert agents["reader"].policy == AgentPolicy(name="read-only")
    assert agents["clerk"].policy is not None
    assert agents["clerk"].policy.rules[0].action == "deny"
    (workspace / "corral.toml").write_text('[agents.reader]\npolicy = "/etc/loose.toml"\n')
    with pytest.raises(ConfigError, match=r"agents\.reader\.policy"):
        load_settings()
