"""A secret that comes by in any way is in no byte of the database."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.errors import UsageError
from corral.runtime.config import Settings
from tests.runtime.agents import Listening, result_of, scripted, turn

KEY = "sk-ant-api03-" + "Zq8Xw2Rt5Yb7Nc4Mv1Kd" * 4
PASSWORD = "correct-horse-battery-staple-94"
CARD = "4111 1111 1111 1111"
LOGIN = "Zq8Xw2Rt5-Yb7"


@pytest.fixture
def knowing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings in an environment that holds a secret without any format."""
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    return settings


def stored(home: Path) -> bytes:
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name == "corral.db" for path in files)
    return b"".join(path.read_bytes() for path in files)


def check(home: Path) -> None:
    everything = stored(home)
    for secret in (KEY, PASSWORD):
        assert secret.encode() not in everything
        assert secret[8:-8].encode() not in everything
    assert b"[redacted:" in everything


async def test_prompt_instructions_arguments_results_and_answers(knowing: Settings) -> None:
    seen: list[str] = []

    def login(password: str) -> str:
        """Log in."""
        seen.append(password)
        return f"logged in with {password}, token {KEY}"

    agent = scripted(
        [
            turn(f"I use {PASSWORD}.", login={"password": PASSWORD}),
            turn("Again.", login={"password": KEY}),
            turn(f"The key is {KEY}."),
        ],
        login,
        instructions=f"The password is {PASSWORD} and the key {KEY}.",
        description=f"Knows {KEY}.",
    )
    options = corral.RunOptions(agent=agent)
    async with corral.open(knowing) as c:
        paused = await c.run(f"Log in with {PASSWORD} or {KEY}.", options)
        assert KEY not in str(paused)
        assert PASSWORD not in str(paused)
        while paused.status == "paused":
            await c.approve(paused.approvals[0].id, always=True)
            paused = await c.resume(paused.run, options)
        assert paused.status == "completed", paused.error
        report = await c.replay(paused.run)
        assert report.status == "identical", report.divergence
        replayed = await c.replay(paused.run, options)
        assert replayed.status == "identical", replayed.divergence
        more = corral.RunOptions(agent=scripted([turn("Yes.")]), thread=paused.thread)
        await c.run("Are you in?", more)
    assert seen
    check(knowing.home)


async def test_what_is_turned_back_for_a_tool_is_in_no_byte_either(settings: Settings) -> None:
    given: list[str] = []

    def look() -> str:
        """Look."""
        return json.dumps({"card": CARD, "password": LOGIN, "note": f"the token is {KEY}"})

    def pay(card: str, password: str, token: str) -> str:
        """Pay."""
        given.extend((card, password, token))
        raise ValueError(f"no {card} for {password} with {token}")

    seen: list[str] = []

    class Copying(Listening):
        """Calls pay with what it has read."""

        def stream(self, request: Any) -> Any:
            read = "\n".join(str(message.content) for message in request.messages)
            seen.append(read)
            if "card" not in read:
                return corral.ScriptedModel([turn(look={})]).stream(request)
            names = re.findall(r"\[redacted:[a-z-]+#\w+\]", read)
            if len(seen) == 2:
                args = dict(zip(("card", "password", "token"), names, strict=False))
                return corral.ScriptedModel([turn("-"), turn(pay=args)]).stream(request)
            return corral.ScriptedModel([turn("-"), turn("-"), turn(f"Not {names}.")]).stream(
                request
            )

    revealing = corral.load_settings(
        {
            "home": settings.home,
            "workspace": settings.workspace,
            "rules": [{"tool": "functions__look", "action": "allow"}],
            "redaction": {"reveal_to": ["functions__pay"]},
        }
    )
    agent = corral.Agent(functions=(look, pay), servers=(), chat_model=Copying([]), facts=0)
    options = corral.RunOptions(agent=agent)
    async with corral.open(revealing) as c:
        events = [event async for event in c.stream("Pay.", options)]
        paused = result_of(events)
        assert paused.status == "paused", paused.error
        await c.approve(paused.approvals[0].id)
        events += [event async for event in c.stream_resume(paused.run, options)]
        assert result_of(events).status == "completed", result_of(events).error
        trace = await c.records.trace(paused.run)
    assert given == [CARD, LOGIN, KEY]
    everything = stored(settings.home)
    for secret in given:
        assert secret.encode() not in everything
        assert secret not in f"{events} {trace} {seen}"


async def test_errors_of_models_and_tools(knowing: Settings) -> None:
    def broken() -> str:
        """Break."""
        raise ValueError(f"cannot log in with {PASSWORD} and {KEY}")

    class Leaky:
        name = "leaky"
        context_window = 8000

        async def stream(self, request: Any) -> Any:
            raise RuntimeError(f"401 for {KEY}, {PASSWORD}")
            yield

        def check_complete(self, turns: int) -> None:
            raise LookupError(KEY)

    allow = corral.load_settings(
        {
            "home": knowing.home,
            "workspace": knowing.workspace,
            "rules": [{"tool": "functions__*", "action": "allow"}],
        }
    )
    async with corral.open(allow) as c:
        error = {"error": f"the key {KEY} of {PASSWORD} is not valid"}
        script = [turn("Try.", broken={}), error]
        failed = await c.run("Try.", corral.RunOptions(agent=scripted(script, broken)))
        assert failed.status == "failed"
        assert KEY not in str(failed)
        leaky = corral.Agent(servers=(), chat_model=Leaky(), facts=0)
        broke = await c.run("Try.", corral.RunOptions(agent=leaky))
        assert "401" in str(broke.error)
        assert KEY not in str(broke)
    check(knowing.home)


async def test_a_humans_answers(knowing: Settings) -> None:
    def pay(to: str) -> str:
        """Pay."""
        return f"paid {to}"

    script = [turn("Pay.", pay={"to": "me"}), turn("Done.")]
    options = corral.RunOptions(agent=scripted(script, pay))
    async with corral.open(knowing) as c:
        first = await c.run("Pay.", options)
        await c.deny(first.approvals[0].id, f"not before {KEY} and {PASSWORD} are changed")
        assert (await c.resume(first.run, options)).status == "completed"
        second = await c.run("Pay.", options)
        with pytest.raises(UsageError, match="secret"):
            await c.approve(second.approvals[0].id, args={"to": KEY})
        with pytest.raises(UsageError, match="secret"):
            await c.approve(second.approvals[0].id, args={"to": PASSWORD})
        assert [a.id for a in await c.approvals()] == [second.approvals[0].id]
    check(knowing.home)


async def test_a_cut_off_run(knowing: Settings) -> None:
    begun = asyncio.Event()

    async def wait(password: str) -> str:
        """Wait."""
        begun.set()
        await asyncio.Event().wait()
        return password

    allow = corral.load_settings(
        {
            "home": knowing.home,
            "workspace": knowing.workspace,
            "rules": [{"tool": "functions__*", "action": "allow"}],
        }
    )
    options = corral.RunOptions(agent=scripted([turn("Wait.", wait={"password": KEY})], wait))
    async with corral.open(allow) as c:
        running = asyncio.create_task(c.run(f"Wait for {PASSWORD}.", options))
        await asyncio.wait_for(begun.wait(), 10)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    check(knowing.home)
