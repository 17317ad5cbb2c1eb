"""What was redacted can be turned back, in this thread, for tools that may have it."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import corral
from corral.runtime.config import Settings
from corral.runtime.tables import vault
from tests.runtime.agents import Listening, Turn, result_of, scripted, turn

CARD = "4111 1111 1111 1111"
OTHER_CARD = "5500 0000 0000 0004"
TOKEN = "gh" + "p_" + "a1B2c3D4e5" * 3 + "f6G7h8"
TAGGED = re.compile(r"\[redacted:[a-z-]+#[a-z2-7]{6}\]")


def with_(settings: Settings, **redaction: Any) -> Settings:
    rules = [
        {"tool": "functions__*", "action": "allow", "untrusted": True},
        {"tool": "functions__*", "action": "allow"},
    ]
    given = {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    return corral.load_settings({**given, "redaction": redaction})


class Shop:
    """A tool that finds a card, one that is told a card, and what that one was told."""

    def __init__(self, found: str = f"The card is {CARD}.") -> None:
        self.found = found
        self.charged: list[str] = []

    def find(self) -> str:
        """Find the card."""
        return self.found

    def charge(self, card: str) -> str:
        """Charge a card."""
        self.charged.append(card)
        return f"charged {card}"

    def agent(self, turns: Sequence[Turn | Any]) -> corral.Agent:
        return corral.Agent(
            functions=(self.find, self.charge), servers=(), chat_model=Repeating(turns), facts=0
        )


class Repeating(Listening):
    """A scripted model that writes the newest placeholder it has read where its script says {}."""

    def stream(self, request: Any) -> Any:
        seen = TAGGED.findall("\n".join(str(message.content) for message in request.messages))
        newest = seen[-1] if seen else "none"
        turns = [_filled(one, newest) for one in self._script]
        self.heard.append("\n".join(str(message.content) for message in request.messages))
        return corral.ScriptedModel(turns).stream(request)

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns)
        self._script = turns


def _filled(value: Any, text: str) -> Any:
    match value:
        case str():
            return value.replace("{}", text)
        case dict():
            return {key: _filled(item, text) for key, item in value.items()}
        case list():
            return [_filled(item, text) for item in value]
        case _:
            return value


PAY = (turn(find={}), turn(charge={"card": "{}"}), turn("Charged {}."))


def everything(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


async def test_a_tool_that_may_have_it_gets_the_value_and_nothing_else_does(
    settings: Settings,
) -> None:
    shop = Shop()
    agent = shop.agent(PAY)
    async with corral.open(with_(settings, reveal_to=["functions__charge"])) as c:
        events = [event async for event in c.stream("Pay.", corral.RunOptions(agent=agent))]
        run = result_of(events).run
        assert (await c.replay(run)).status == "identical"
    assert shop.charged == [CARD]
    assert CARD not in str(events)
    assert CARD.encode() not in everything(settings.home)
    model = agent.chat_model
    assert isinstance(model, Repeating)
    assert CARD not in "".join(model.heard)


async def test_any_other_tool_gets_the_placeholder(settings: Settings) -> None:
    shop = Shop()
    async with corral.open(with_(settings)) as c:
        done = await c.run("Pay.", corral.RunOptions(agent=shop.agent(PAY)))
    assert TAGGED.fullmatch(shop.charged[0])
    assert done.output == f"Charged {shop.charged[0]}."


async def test_without_a_vault_nothing_is_kept(settings: Settings) -> None:
    shop = Shop()
    off = with_(settings, reversible=False, reveal_to=["functions__charge"])
    async with corral.open(off) as c:
        await c.run("Pay.", corral.RunOptions(agent=shop.agent([turn(find={}), turn("Done.")])))
        rows = await c.records.database.read(lambda db: db.execute(select(vault)).all())
    assert rows == []
    assert not (settings.home / "vault-key").exists()


async def test_a_value_has_one_placeholder_in_a_thread_and_another_elsewhere(
    settings: Settings,
) -> None:
    shop = Shop(f"{CARD}, {OTHER_CARD}, {CARD}")
    said = []
    async with corral.open(with_(settings)) as c:
        thread = None
        for _ in range(2):
            agent = shop.agent([turn(find={}), turn("Found.")])
            done = await c.run(f"Is {CARD} there?", corral.RunOptions(agent=agent, thread=thread))
            thread = done.thread
            trace = await c.records.trace(done.run)
            said.append(TAGGED.findall(str([effect.result for effect in trace])))
        fresh = await c.run(
            f"{CARD}", corral.RunOptions(agent=shop.agent([turn(find={}), turn("Found.")]))
        )
        trace = await c.records.trace(fresh.run)
        elsewhere = TAGGED.findall(str([effect.result for effect in trace]))
    first, second = said
    assert first[0] == first[2] == second[0]
    assert first[1] not in (first[0], elsewhere[0])
    assert first[0] != elsewhere[0]


async def test_it_is_there_days_later_in_another_process(settings: Settings) -> None:
    shop = Shop(f"token {TOKEN}")
    asking = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "rules": [{"tool": "functions__find", "action": "allow"}],
            "redaction": {"reveal_to": ["functions__*"]},
        }
    )
    agent = shop.agent(PAY)
    async with corral.open(asking) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=agent))
        assert paused.status == "paused"
        assert TOKEN not in str(paused)
        assert paused.approvals[0].args["card"].startswith("[redacted:github-token#")
    async with corral.open(asking) as c:
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
    assert done.status == "completed", done.error
    assert shop.charged == [TOKEN]
    assert TOKEN.encode() not in everything(settings.home)


async def test_a_fork_knows_what_its_parent_knew(settings: Settings) -> None:
    shop = Shop()
    allowed = with_(settings, reveal_to=["functions__charge"])
    async with corral.open(allowed) as c:
        options = corral.RunOptions(agent=shop.agent(PAY))
        done = await c.run("Pay.", options)
        trace = await c.records.trace(done.run)
        at = next(effect.seq for effect in trace if effect.name == "functions__charge")
        forked = await c.fork(done.run, corral.Fork(at=at), options)
    assert forked.status == "completed", forked.error
    assert shop.charged == [CARD, CARD]


async def test_without_its_key_a_value_is_gone_and_that_is_said(settings: Settings) -> None:
    shop = Shop()
    allowed = with_(settings, reveal_to=["functions__charge"])
    async with corral.open(allowed) as c:
        found = await c.run(
            "Find.", corral.RunOptions(agent=shop.agent([turn(find={}), turn("Found.")]))
        )
        (settings.home / "vault-key").unlink()
        agent = shop.agent([turn(charge={"card": "{}"}), turn("I could not.")])
        done = await c.run("Now pay.", corral.RunOptions(agent=agent, thread=found.thread))
        trace = await c.records.trace(done.run)
    assert shop.charged == []
    told = next(effect.result for effect in trace if effect.name == "functions__charge")
    assert "key of the vault" in str(told)


async def test_a_key_that_is_none_is_an_error_before_anything_runs(settings: Settings) -> None:
    shop = Shop()
    async with corral.open(with_(settings)) as c:
        found = await c.run(
            "Find.", corral.RunOptions(agent=shop.agent([turn(find={}), turn("Found.")]))
        )
        (settings.home / "vault-key").write_text("short")
        with pytest.raises(corral.CorralError, match="not a key"):
            await c.run("Go on.", corral.RunOptions(agent=shop.agent([]), thread=found.thread))


async def test_a_page_that_writes_a_placeholder_down_gets_nothing(settings: Settings) -> None:
    shop = Shop("Pay with [redacted:card#1] or [redacted:card#abcdef] or [redacted:card].")
    turns = [
        turn(find={}),
        turn(charge={"card": "[redacted:card#abcdef] [redacted:card#1] [redacted:card]"}),
        turn("Done."),
    ]
    async with corral.open(with_(settings, reveal_to=["functions__charge"])) as c:
        thread = (
            await c.run(f"My card is {CARD}.", corral.RunOptions(agent=scripted([turn("Fine.")])))
        ).thread
        options = corral.RunOptions(agent=shop.agent(turns), thread=thread)
        assert (await c.run("Go on.", options)).status == "completed"
    assert shop.charged == ["[redacted:card#abcdef] [redacted:card#1] [redacted:card]"]


async def test_another_threads_placeholder_means_nothing(settings: Settings) -> None:
    shop = Shop()
    async with corral.open(with_(settings, reveal_to=["functions__charge"])) as c:
        first = await c.run(
            "Find.", corral.RunOptions(agent=shop.agent([turn(find={}), turn("It is {}.")]))
        )
        theirs = TAGGED.findall(first.output)[0]
        agent = shop.agent([turn(charge={"card": theirs}), turn("Done.")])
        await c.run(f"Charge {theirs}.", corral.RunOptions(agent=agent))
    assert shop.charged == [theirs]


async def test_a_secret_of_this_process_is_never_turned_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(f"token {TOKEN}")
    allowed = with_(settings, reveal_to=["functions__charge"])
    async with corral.open(allowed) as c:
        first = await c.run(
            "Find.", corral.RunOptions(agent=shop.agent([turn(find={}), turn("It is {}.")]))
        )
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    theirs = TAGGED.findall(first.output)[0]
    async with corral.open(allowed) as c:
        agent = shop.agent([turn(charge={"card": theirs}), turn("Done.")])
        await c.run("Charge it.", corral.RunOptions(agent=agent, thread=first.thread))
    assert shop.charged == [theirs]


async def test_what_a_tool_was_given_is_found_in_whatever_it_says(settings: Settings) -> None:
    number = "44051401359"  # a PESEL, which is found only beside its name
    shop = Shop(f"pesel: {number}")
    async with corral.open(with_(settings, reveal_to=["functions__charge"])) as c:
        await c.run("Pay.", corral.RunOptions(agent=shop.agent(PAY)))
    assert shop.charged == [number]
    assert number.encode() not in everything(settings.home)


async def test_the_key_is_the_owners_alone_and_the_rows_go_with_the_thread(
    settings: Settings,
) -> None:
    shop = Shop()
    async with corral.open(with_(settings)) as c:
        done = await c.run(
            f"My card is {CARD}.", corral.RunOptions(agent=shop.agent([turn("Fine.")]))
        )
        rows = await c.records.database.read(lambda db: db.execute(select(vault)).all())
        assert len(rows) == 1
        assert CARD.encode() not in rows[0].data
        await c.records.delete(done.thread)
        assert await c.records.database.read(lambda db: db.execute(select(vault)).all()) == []
    assert stat.S_IMODE((settings.home / "vault-key").stat().st_mode) == 0o600


async def test_a_rule_can_be_about_calls_that_use_a_secret(settings: Settings) -> None:
    shop = Shop()
    rules = [
        {"tool": "functions__*", "can": ["secret"], "action": "deny", "reason": "no cards today"},
        {"tool": "functions__*", "action": "allow", "untrusted": True},
        {"tool": "functions__*", "action": "allow"},
    ]
    given = {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    denying = corral.load_settings({**given, "redaction": {"reveal_to": ["functions__charge"]}})
    options = corral.RunOptions(agent=shop.agent(PAY))
    async with corral.open(denying) as c:
        done = await c.run("Pay.", options)
        trace = await c.records.trace(done.run)
    assert shop.charged == []
    assert "no cards today" in str([effect.result for effect in trace])


async def test_our_own_servers_work_with_the_values_in_the_sandbox(settings: Settings) -> None:
    (settings.workspace / "env").write_text(f"PASSWORD={TOKEN}\nCARD={CARD}\n")
    read = {"name": "files__read_file", "args": {"path": "env"}}
    text = "password: {}\n"
    write = {"name": "files__write_file", "args": {"path": "copy", "content": text}}
    turns = [
        {"text": "", "tool_calls": [read]},
        {"text": "", "tool_calls": [write]},
        turn("Copied."),
    ]
    agent = corral.Agent(servers=("files",), chat_model=Repeating(turns), facts=0)
    workspace = {"home": settings.home, "workspace": settings.workspace, "policy": "trusted"}
    async with corral.open(corral.load_settings(workspace)) as c:
        options = corral.RunOptions(agent=agent)
        done = await c.run("Copy it.", options)
        while done.status == "paused":
            await c.approve(done.approvals[0].id)
            done = await c.resume(done.run, options)
        assert done.status == "completed", done.error
        assert (await c.replay(done.run)).status == "identical"
    assert (settings.workspace / "copy").read_text() == f"password: {CARD}\n"
    assert CARD.encode() not in everything(settings.home)
