"""Chains, cascades and routes through the whole runtime: who answers, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import corral
from corral.agents.services import Shared
from corral.errors import ConfigError, NotFoundError
from corral.policies.budgets import Budget, Budgets
from corral.policies.prices import Price
from corral.runtime.answer_facts import attributes_of, how_answered
from corral.runtime.config import Settings, load_settings
from corral.runtime.events import Notice
from corral.runtime.export.spans import spans_of
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.combined.settings import CombinedModel
from corral.runtime.models.hosted.model import HostedModel
from corral.runtime.models.withholding import Withholding
from corral.runtime.redaction_settings import RedactionSettings

DOWN = '- {error: "no electricity"}\n'
SAYS = '- {{text: "{0} says so.", usage: {{input_tokens: 100, output_tokens: 10}}}}\n'


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, str]:
    """References of scripted models: one that is down, and two that answer."""
    texts = {"down": DOWN, "cheap": SAYS.format("Cheap"), "dear": SAYS.format("Dear")}
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: f"scripted:{tmp_path}/{name}.yaml" for name in texts}


def plain(model: str, **fields: Any) -> corral.RunOptions:
    return corral.RunOptions(agent=corral.Agent(model=model, servers=(), facts=0), **fields)


def priced(settings: Settings, scripts: dict[str, str], **more: Any) -> Settings:
    prices = {
        scripts["cheap"]: Price(input=1.0, output=1.0),
        scripts["dear"]: Price(input=10.0, output=10.0),
    }
    return settings.model_copy(update={"prices": prices, **more})


async def test_a_chain_falls_back_and_the_trace_says_why(
    settings: Settings, scripts: dict[str, str]
) -> None:
    chain = f"{scripts['down']} | {scripts['cheap']}"
    async with corral.open(settings) as c:
        events = [event async for event in c.stream("Who?", plain(chain))]
        [view] = await c.records.runs()
        [call] = [e for e in await c.records.trace(view.run) if e.kind == "model"]
    assert view.output == "Cheap says so."
    assert call.answered_by == scripts["cheap"]
    result: Any = call.result
    assert result["facts"]["fallbacks"][0]["error"] == "no electricity"
    told = [event.text for event in events if isinstance(event, Notice)]
    assert told == [f"no electricity {scripts['cheap']} is asked instead."]


async def test_a_list_in_the_settings_is_a_chain(
    settings: Settings, scripts: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "corral.toml").write_text(
        f'model = ["{scripts["down"]}", "{scripts["dear"]}"]\n'
        f'[agents.other]\nmodel = ["{scripts["down"]}", "{scripts["cheap"]}"]\nservers = []\n'
    )
    own = load_settings({"config": tmp_path / "corral.toml", "home": settings.home})
    async with corral.open(own) as c:
        agent = corral.Agent(servers=(), facts=0)
        assert (await c.run("Who?", corral.RunOptions(agent=agent))).output == "Dear says so."
        other = corral.RunOptions(agent="other")
        assert (await c.run("Who?", other)).output == "Cheap says so."


async def test_who_answered_is_paid_and_the_dearest_is_reserved(
    settings: Settings, scripts: dict[str, str]
) -> None:
    chain = f"{scripts['cheap']} | {scripts['dear']}"
    async with corral.open(priced(settings, scripts)) as c:
        paid = await c.run("Who?", plain(chain))
        assert paid.usage.cost_usd == pytest.approx(110 / 1_000_000)
    tight = Budgets(run=Budget(usd=0.002))
    async with corral.open(priced(settings, scripts, budgets=tight)) as c:
        # The dear one would have been granted fewer tokens for that money.
        done = await c.run("Who?", plain(scripts["cheap"]))
        assert done.status == "completed"
    none = Budgets(run=Budget(usd=0.0005))
    async with corral.open(priced(settings, scripts, budgets=none)) as c:
        assert (await c.run("Who?", plain(scripts["cheap"]))).status == "completed"
        assert (await c.run("Who?", plain(chain))).status != "completed"


async def test_a_chain_that_has_no_model_left_says_what_each_said(
    settings: Settings, scripts: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "late.yaml").write_text('- {error: "out of paper"}\n')
    async with corral.open(settings) as c:
        failed = await c.run("Who?", plain(f"{scripts['down']} | scripted:{tmp_path}/late.yaml"))
    assert failed.status == "failed"
    assert "no electricity" in str(failed.error)
    assert "out of paper" in str(failed.error)


async def test_named_models_combine_others(settings: Settings, scripts: dict[str, str]) -> None:
    models = {
        "thrifty": CombinedModel(cascade=(scripts["cheap"], scripts["dear"])),
        "smart": CombinedModel.model_validate(
            {
                "route": [
                    {"model": scripts["cheap"], "agents": ["clerk"], "tags": ["nightly"]},
                    {"model": "thrifty", "words": ["hard"]},
                ],
                "default": scripts["cheap"],
            }
        ),
    }
    async with corral.open(priced(settings, scripts, models=models)) as c:
        hard = await c.run("A hard one.", plain("smart"))
        easy = await c.run("An easy one.", plain("smart"))
        clerk = corral.Agent(name="clerk", model="smart", servers=(), facts=0)
        nightly = await c.run("A hard one.", corral.RunOptions(agent=clerk, tags=("nightly",)))
        facts: list[Any] = [e.result for e in await c.records.trace(hard.run) if e.kind == "model"]
    assert (hard.output, easy.output) == ("Dear says so.", "Cheap says so.")
    assert nightly.output == "Cheap says so."
    assert hard.usage.cost_usd == pytest.approx((110 + 1100) / 1_000_000), "both were asked"
    assert facts[0]["facts"]["routed"] == [{"to": "thrifty", "because": "rule 2"}]
    assert facts[0]["facts"]["cascade"][0]["why"] == "it told no probabilities"


async def test_a_replay_of_a_chain_asks_nobody(settings: Settings, scripts: dict[str, str]) -> None:
    async with corral.open(settings) as c:
        done = await c.run("Who?", plain(f"{scripts['down']} | {scripts['cheap']}"))
        for ref in scripts.values():
            Path(ref.removeprefix("scripted:")).unlink()
        assert (await c.replay(done.run)).status == "identical"


@pytest.mark.parametrize("ref", ["local |", "| local", "local | | local", "local | nowhere:x"])
async def test_a_chain_with_a_gap_or_a_stranger_is_refused_at_once(
    settings: Settings, ref: str
) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(NotFoundError):
            await c.run("Who?", plain(ref))


async def test_a_missing_key_is_told_before_anything_is_asked(
    settings: Settings, scripts: dict[str, str]
) -> None:
    async with corral.open(settings) as c:
        with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
            await c.run("Who?", plain(f"{scripts['cheap']} | anthropic:claude-haiku-4-5"))
        assert await c.records.runs() == []


async def test_each_member_is_kept_from_seeing_what_is_withheld(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    own = settings.model_copy(update={"redaction": RedactionSettings(hosted=("email",))})
    chain = Shared(own, memory=None, database=None).model("local | openai:gpt-4o-mini")  # type: ignore[arg-type]  # it is not used
    assert isinstance(chain, Fallback)
    local, hosted = chain.members
    assert isinstance(hosted, Withholding)
    assert not isinstance(local, Withholding | HostedModel)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[models.local]\nfallback = ['local']\n", "cannot be the name"),
        ("[models.'a|b']\nfallback = ['local']\n", "cannot be the name"),
        ("[models.a]\nfallback = ['a']\n", "would ask itself: a → a"),
        ("[models.a]\nfallback = ['b']\n[models.b]\ncascade = ['local | a']\n", "a → b → a"),
        ("[models.a]\n", "exactly one of"),
        ("[models.a]\nfallback = ['local']\ncascade = ['local']\n", "exactly one of"),
        ("[models.a]\ncascade = ['local']\nconfidence = 'judge'\n", "judge names a model"),
        ("[models.a]\nroute = [{model = 'local'}]\n", "needs a default"),
        ("[models.a]\nroute = [{tools = true}]\ndefault = 'local'\n", "either a model"),
        ("[models.a]\nfalback = ['local']\n", "fallback"),
    ],
)
def test_models_that_make_no_sense_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_settings({"config": path})
    assert said in str(raised.value)


def test_many_names_are_checked_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    names = [f"[models.m{n}]\nfallback = ['m{n + 1}', 'm{n + 1} | local']\n" for n in range(60)]
    path.write_text("".join([*names, "[models.m60]\nfallback = ['local']\n"]))
    assert len(load_settings({"config": path}).models) == 61


def test_a_project_may_combine_models_and_not_change_the_users(
    workspace: Path, tmp_path: Path
) -> None:
    (workspace / "corral.toml").write_text("[models.ours]\nfallback = ['local']\n")
    users = tmp_path / "config" / "corral"
    users.mkdir(parents=True)
    (users / "config.toml").write_text("[models.mine]\nfallback = ['local']\n")
    assert set(load_settings().models) == {"ours", "mine"}
    (workspace / "corral.toml").write_text("[models.mine]\nfallback = ['openai:x@http://evil']\n")
    with pytest.raises(ConfigError, match=r"models\.mine \(a model of your own\)"):
        load_settings()
    (workspace / "corral.toml").write_text("[cache]\nmode = 'semantic'\n")
    with pytest.raises(ConfigError, match="may not set cache"):
        load_settings()


async def test_exports_hold_how_an_answer_came_about(
    settings: Settings, scripts: dict[str, str], tmp_path: Path
) -> None:
    async with corral.open(settings) as c:
        done = await c.run("Who?", plain(f"{scripts['down']} | {scripts['cheap']}"))
        view = await c.records.run(done.run)
        effects = await c.records.trace(done.run)
    [span] = [s for s in spans_of(view, effects, content=False) if s.name.startswith("chat")]
    assert span.attributes["corral.fallbacks"] == ["down.yaml: failed"]
    assert "no electricity" not in str(span.attributes)
    [call] = [effect for effect in effects if effect.kind == "model"]
    assert how_answered(call.result) == [f"{scripts['down']} did not answer: no electricity"]


@pytest.mark.parametrize(
    "facts",
    [
        None,
        [],
        "x",
        {"fallbacks": "x", "routed": [1], "cascade": [{"model": 3}], "hedged": 7, "cache": []},
        {"cascade": [{"model": "a", "confidence": "b", "threshold": None}]},
    ],
)
def test_facts_of_another_shape_say_nothing(facts: Any) -> None:
    assert how_answered({"facts": facts}) == []
    assert how_answered(None) == []
    assert not any(attributes_of({"facts": facts, "cache": 3}).values())


def test_facts_in_words() -> None:
    facts: Any = {
        "cache": {"run": "r-1", "path": "1.model#0", "similarity": 0.98},
        "routed": [{"to": "b", "because": "rule 2"}],
        "cascade": [
            {"model": "a", "confidence": 0.41, "threshold": 0.7},
            {"model": "b", "confidence": None, "threshold": 0.7, "why": "it refused"},
        ],
        "hedged": {"first": "a", "second": "b", "after_ms": 900},
    }
    assert how_answered({"facts": facts}) == [
        "from the cache: what r-1 was told to a similar prompt (98.00%)",
        "routed to b (rule 2)",
        "a was sure to 41%, and 70% is enough",
        "b: it refused",
        "b was asked beside a after 900 ms",
    ]
