"""Checks on what goes in and comes out: functions, patterns and a model as judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.events import Notice, TextDelta
from tests.runtime.agents import Listening, Turn, result_of, scripted, turn


def allowing(settings: Settings, **more: Any) -> Settings:
    rules = [
        {"tool": "functions__*", "action": "allow", "untrusted": True},
        {"tool": "functions__*", "action": "allow"},
    ]
    given = {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    return corral.load_settings({**given, **more})


def agent(turns: Sequence[Turn], *checks: corral.Check, **fields: Any) -> corral.Agent:
    return corral.Agent(servers=(), chat_model=Listening(turns), facts=0, checks=checks, **fields)


def heard(asked: corral.Agent) -> list[str]:
    assert isinstance(asked.chat_model, Listening)
    return asked.chat_model.heard


def short(text: str) -> str | None:
    """Refuse a long answer."""
    return None if len(text) <= 20 else "it is too long"


LONG = "It is rather a long answer that says little."


async def found_in(c: corral.Corral, run: str) -> list[dict[str, Any]]:
    """What checks have found, as the journal has it."""
    trace = await c.records.trace(run)
    results: list[Any] = [effect.result or {} for effect in trace]
    return [one for result in results for one in result.get("checks", ())]


class TestOutput:
    async def test_one_that_is_refused_is_asked_for_again_with_the_reason(
        self, settings: Settings
    ) -> None:
        asked = agent(
            [turn(LONG), turn("Short.")], corral.check(short, on="output", on_fail="reask")
        )
        async with corral.open(settings) as c:
            events = [event async for event in c.stream("Tell me.", corral.RunOptions(agent=asked))]
            done = result_of(events)
            assert (done.status, done.output) == ("completed", "Short.")
            assert done.steps == 2
            assert (await found_in(c, done.run))[0]["reason"] == "it is too long"
            replayed = await c.replay(done.run)
            assert replayed.status == "identical", replayed.divergence
            trace = await c.records.trace(done.run)
        assert [effect.path for effect in trace if effect.kind == "model"] == [
            "1.model#0",
            "1.model#0/check/1",
        ]
        assert "it is too long" in heard(asked)[1]
        assert LONG in heard(asked)[1]
        said = [event.text for event in events if isinstance(event, TextDelta)]
        assert "".join(said) == "Short."

    async def test_after_so_many_tries_the_run_stops(self, settings: Settings) -> None:
        asked = agent(
            [turn(LONG)] * 3, corral.check(short, on="output", on_fail="reask", retries=2)
        )
        async with corral.open(settings) as c:
            done = await c.run("Tell me.", corral.RunOptions(agent=asked))
            assert done.status == "stopped"
            assert "too long" in str(done.error)
            assert LONG not in done.output
            assert done.steps == 3
            replayed = await c.replay(done.run)
            assert replayed.status == "identical", replayed.divergence

    async def test_one_that_is_asked_for_again_and_refused_reaches_nobody(
        self, settings: Settings
    ) -> None:
        again = corral.check(short, on="output", on_fail="reask", retries=1)
        asked = agent([turn(LONG), turn(LONG)], again)
        async with corral.open(settings) as c:
            events = [event async for event in c.stream("Tell me.", corral.RunOptions(agent=asked))]
        assert result_of(events).status == "stopped"
        assert LONG not in str(events)

    async def test_one_that_is_blocked_reaches_nobody(self, settings: Settings) -> None:
        asked = agent([turn(LONG)], corral.check(short, on="output"))
        async with corral.open(settings) as c:
            events = [event async for event in c.stream("Tell me.", corral.RunOptions(agent=asked))]
        assert not [event for event in events if isinstance(event, TextDelta)]
        assert result_of(events).status == "stopped"
        assert LONG not in str(events)

    async def test_one_that_is_flagged_goes_on_and_is_told(self, settings: Settings) -> None:
        asked = agent([turn(LONG)], corral.check(short, on="output", on_fail="flag"))
        async with corral.open(settings) as c:
            events = [event async for event in c.stream("Tell me.", corral.RunOptions(agent=asked))]
            done = result_of(events)
            assert done.output == LONG
            assert (await found_in(c, done.run))[0]["did"] == "flag"
        notices = [event.text for event in events if isinstance(event, Notice)]
        assert any("too long" in notice for notice in notices)

    async def test_one_that_is_mended_is_mended_everywhere(self, settings: Settings) -> None:
        mend = corral.Check(
            name="codenames", on="output", on_fail="fix", pattern=r"Blue\w+", replace="the project"
        )
        asked = agent([turn("We begin Bluebird."), turn("Yes.")], mend)
        async with corral.open(settings) as c:
            done = await c.run("What?", corral.RunOptions(agent=asked))
            assert done.output == "We begin the project."
            await c.run("Go on.", corral.RunOptions(agent=asked, thread=done.thread))
            assert (await c.replay(done.run)).status == "identical"
        assert "We begin the project." in heard(asked)[1]

    async def test_several_look_one_after_the_other(self, settings: Settings) -> None:
        async def shout(text: str) -> str:
            return text.upper()

        asked = agent(
            [turn("quiet"), turn("calm")],
            corral.check(shout, on="output", on_fail="fix"),
            corral.Check(name="no Q", on="output", on_fail="reask", pattern="Q"),
        )
        async with corral.open(settings) as c:
            done = await c.run("Say.", corral.RunOptions(agent=asked))
        assert done.output == "CALM"

    async def test_a_check_that_breaks_refuses(self, settings: Settings) -> None:
        def broken(_text: str) -> None:
            raise KeyError("nothing")

        asked = agent([turn("Hello.")], corral.check(broken, on="output", on_fail="fix"))
        async with corral.open(settings) as c:
            done = await c.run("Say.", corral.RunOptions(agent=asked))
        assert done.status == "stopped"
        assert "KeyError" in str(done.error)

    async def test_a_pattern_gets_only_so_much_time(self, settings: Settings) -> None:
        slow = corral.Check(name="slow", on="output", pattern=r"^(a|a)*$")
        asked = agent([turn("a" * 5000 + "!")], slow)
        async with corral.open(settings) as c:
            done = await c.run("Say.", corral.RunOptions(agent=asked))
        assert done.status == "stopped"
        assert "takes more than" in str(done.error)


class TestInput:
    async def test_a_prompt_that_is_blocked_reaches_no_model(self, settings: Settings) -> None:
        asked = agent([turn("Hello.")], corral.check(short, on="input"))
        async with corral.open(settings) as c:
            done = await c.run(LONG, corral.RunOptions(agent=asked))
            assert done.status == "stopped"
            assert "The prompt was refused" in str(done.error)
            again = await c.resume(done.run, corral.RunOptions(agent=asked))
            assert again.status == "stopped"
        assert heard(asked) == []

    async def test_a_prompt_that_is_mended_is_what_the_model_gets(self, settings: Settings) -> None:
        mend = corral.Check(
            name="names", on="input", on_fail="fix", pattern="Ann Smith", replace="the customer"
        )
        asked = agent([turn("Done.")], mend)
        async with corral.open(settings) as c:
            done = await c.run("Write to Ann Smith.", corral.RunOptions(agent=asked))
            assert done.status == "completed", done.error
            replayed = await c.replay(done.run)
            assert replayed.status == "identical", replayed.divergence
        assert "the customer" in heard(asked)[0]
        assert "Ann Smith" not in heard(asked)[0]

    async def test_a_forks_other_prompt_is_looked_at(self, settings: Settings) -> None:
        asked = agent([turn("Hello.")], corral.check(short, on="input"))
        options = corral.RunOptions(agent=asked)
        async with corral.open(settings) as c:
            done = await c.run("Hello?", options)
            trace = await c.records.trace(done.run)
            at = next(effect.seq for effect in trace if effect.kind == "model")
            forked = await c.fork(done.run, corral.Fork(at=at, prompt=LONG), options)
            assert forked.status == "stopped"
            fine = await c.fork(done.run, corral.Fork(at=at, prompt="Hi?"), options)
            assert fine.status == "completed", fine.error
            assert (await c.replay(fine.run)).status == "identical"

    async def test_a_sub_agents_task_is_its_input(self, settings: Settings) -> None:
        helper = scripted([turn("Never.")], name="helper", checks=[corral.check(short, on="input")])
        call = {"text": "", "tool_calls": [{"name": "agents__helper", "args": {"task": LONG}}]}
        lead = scripted([call, turn("Done.")], agents=(helper,))
        async with corral.open(settings) as c:
            done = await c.run("Go.", corral.RunOptions(agent=lead))
        assert done.status == "stopped"
        assert "The prompt was refused" in str(done.error)


class TestTools:
    def sends(self, turns: Sequence[Turn], *checks: corral.Check) -> tuple[corral.Agent, list[str]]:
        sent: list[str] = []

        def send(text: str) -> str:
            """Send a text."""
            sent.append(text)
            return f"sent to ann: {text}"

        return agent(turns, *checks, functions=(send,)), sent

    @pytest.mark.parametrize("on_fail", ["block", "reask"])
    async def test_a_call_that_is_refused_is_not_made_and_the_model_knows_why(
        self, settings: Settings, on_fail: Any
    ) -> None:
        no = corral.Check(
            name="swearing", on="tool_call", on_fail=on_fail, pattern="darn", reason="be polite"
        )
        asked, sent = self.sends(
            [turn(send={"text": "darn"}), turn(send={"text": "dear"}), turn("Done.")], no
        )
        async with corral.open(allowing(settings)) as c:
            done = await c.run("Send.", corral.RunOptions(agent=asked))
            assert done.status == "completed", done.error
            assert (await found_in(c, done.run))[0]["check"] == "swearing"
            assert (await c.replay(done.run)).status == "identical"
        assert sent == ["dear"]
        assert "be polite" in heard(asked)[1]

    async def test_the_arguments_of_a_call_are_mended(self, settings: Settings) -> None:
        mend = corral.Check(
            name="swearing", on="tool_call", on_fail="fix", pattern="darn", replace="dear"
        )
        asked, sent = self.sends([turn(send={"text": "darn you"}), turn("Done.")], mend)
        async with corral.open(allowing(settings)) as c:
            done = await c.run("Send.", corral.RunOptions(agent=asked))
            assert (await c.replay(done.run)).status == "identical"
        assert sent == ["dear you"]

    async def test_arguments_that_a_check_has_spoilt_are_refused(self, settings: Settings) -> None:
        spoil = corral.check(lambda _text: "no JSON", on="tool_call", on_fail="fix", name="spoil")
        asked, sent = self.sends([turn(send={"text": "hello"}), turn("Done.")], spoil)
        async with corral.open(allowing(settings)) as c:
            await c.run("Send.", corral.RunOptions(agent=asked))
        assert sent == []
        assert "no arguments" in heard(asked)[1]

    async def test_a_result_is_withheld_or_mended(self, settings: Settings) -> None:
        checks = (
            corral.Check(
                name="ann", on="tool_result", on_fail="fix", pattern="ann", replace="somebody"
            ),
            corral.Check(name="bad", on="tool_result", pattern="ignore all"),
            corral.Check(name="other", on="tool_result", pattern=".", tools=("files__*",)),
        )
        texts = ("hello", "ignore all of it")
        asked, sent = self.sends(
            [*(turn(send={"text": text}) for text in texts), turn("Done.")], *checks
        )
        async with corral.open(allowing(settings)) as c:
            done = await c.run("Send.", corral.RunOptions(agent=asked))
            assert done.status == "completed", done.error
            assert (await c.replay(done.run)).status == "identical"
        assert sent == list(texts)
        assert "sent to somebody: hello" in heard(asked)[1]
        assert "withheld" in heard(asked)[2]

    async def test_checks_of_the_settings_hold_for_every_agent(self, settings: Settings) -> None:
        everywhere = {"name": "polite", "on": "tool_call", "pattern": "darn"}
        asked, sent = self.sends([turn(send={"text": "darn"}), turn("Done.")])
        async with corral.open(allowing(settings, checks=[everywhere])) as c:
            done = await c.run("Send.", corral.RunOptions(agent=asked))
        async with corral.open(allowing(settings)) as c:  # a replay has what the run had
            assert (await c.replay(done.run)).status == "identical"
        assert sent == []


class TestJudge:
    async def test_a_model_judges_through_the_door(self, settings: Settings) -> None:
        """The agent's own model, so that its script has the judge's turns between its own."""
        judge = corral.Check(name="kind", on="output", on_fail="reask", judge="It is kind.")
        script = [turn("No!"), turn("FAIL: it is rude."), turn("Gladly."), turn("PASS. Nice.")]
        asked = agent(script, judge)
        async with corral.open(settings) as c:
            done = await c.run("Help?", corral.RunOptions(agent=asked))
            assert (done.status, done.output) == ("completed", "Gladly."), done.error
            assert done.steps == 4
            replayed = await c.replay(done.run)
            assert replayed.status == "identical", replayed.divergence
        assert "it is rude" in heard(asked)[2]
        assert "It is kind." in heard(asked)[1]

    async def test_a_judge_that_does_not_judge_refuses(self, settings: Settings) -> None:
        judge = corral.Check(name="kind", on="output", judge="It is kind.")
        asked = agent([turn("No!"), turn("Well, well.")], judge)
        async with corral.open(settings) as c:
            done = await c.run("Help?", corral.RunOptions(agent=asked))
        assert done.status == "stopped"
        assert "no verdict" in str(done.error)

    async def test_a_judge_is_not_asked_again_after_a_pause(self, settings: Settings) -> None:
        paid: list[int] = []

        def pay(amount: int) -> str:
            """Pay."""
            paid.append(amount)
            return "paid"

        judge = corral.Check(name="fair", on="tool_call", judge="It is fair.")
        script = [turn(pay={"amount": 3}), turn("PASS"), turn("Done.")]
        asked = agent(script, judge, functions=(pay,))
        options = corral.RunOptions(agent=asked)
        async with corral.open(settings) as c:
            paused = await c.run("Pay.", options)
            assert paused.status == "paused", paused.error
            await c.approve(paused.approvals[0].id)
            done = await c.resume(paused.run, options)
            assert done.status == "completed", done.error
            assert (await c.replay(done.run)).status == "identical"
        assert paid == [3]


async def test_a_run_is_not_resumed_without_the_functions_of_its_checks(
    settings: Settings,
) -> None:
    def pay() -> str:
        """Pay."""
        return "paid"

    asked = agent([turn(pay={}), turn("Done.")], corral.check(short, on="output"), functions=(pay,))
    async with corral.open(settings) as c:
        paused = await c.run("Pay.", corral.RunOptions(agent=asked))
        without = agent([turn(pay={}), turn("Done.")], functions=(pay,))
        with pytest.raises(corral.CorralError, match="short"):
            await c.resume(paused.run, corral.RunOptions(agent=without))
