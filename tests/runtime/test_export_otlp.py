"""Runs as OpenTelemetry spans: what a collector is sent, later and while a run goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import corral
from corral.errors import ConfigError, RunError
from corral.policies.budgets import Budget
from corral.policies.checks import Check
from corral.policies.loops.settings import LoopSettings
from corral.runtime.config import Settings, load_settings
from corral.runtime.events import Notice, RunFinished, ToolFinished
from corral.runtime.export.html_text import obj
from corral.runtime.export.otlp import OtlpTarget, send_otlp, traces_url
from corral.runtime.export.spans import nanoseconds, trace_id
from corral.runtime.views import Approval, EffectView, RunView
from tests.runtime.agents import Ledger, scripted, turn
from tests.runtime.otlp_receiver import Receiver, attributes, receiver

SECRET_WORDS = "the zebra crosses at noon"

Views = tuple[RunView, list[EffectView], list[Approval]]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with receiver() as found:
        yield found


@pytest.fixture
def nowhere() -> str:
    """A URL on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def views(c: corral.Corral, run: str) -> Views:
    approvals = await c.records.approvals(run=run, status=None)
    return await c.records.run(run), await c.records.trace(run), approvals


async def paid(c: corral.Corral) -> Views:
    """A run with two calls at once, one of them approved."""
    turns = [turn(f"I pay: {SECRET_WORDS}", pay={"amount": 3}, balance={}), turn("It is paid.")]
    options = corral.RunOptions(agent=scripted(turns, *Ledger().tools()))
    paused = await c.run("Pay 3.", options)
    await c.approve(paused.approvals[0].id)
    done = await c.resume(paused.run, options)
    assert done.status == "completed", done.error
    return await views(c, done.run)


def by_path(got: Receiver, path: str) -> Span:
    found = [s for s in got.spans if attributes(s).get("corral.effect.path") == path]
    assert len(found) == 1, path
    return found[0]


async def test_a_run_is_one_trace_of_genai_spans(settings: Settings, collector: Receiver) -> None:
    async with corral.open(settings) as c:
        run, effects, approvals = await paid(c)
        sent = await send_otlp(run, effects, approvals, OtlpTarget.of(settings, collector.url))
    assert sent == len(collector.spans) == len(effects) + 1
    assert {span.trace_id.hex() for span in collector.spans} == {f"{trace_id(run.run):032x}"}
    assert collector.resources[0]["service.name"] == "corral"
    root = collector.named("invoke_agent assistant")
    said = attributes(root)
    assert not root.parent_span_id
    assert said["gen_ai.operation.name"] == "invoke_agent"
    assert said["gen_ai.conversation.id"] == run.thread
    assert said["gen_ai.usage.input_tokens"] == run.usage.input_tokens > 0
    assert said["gen_ai.usage.output_tokens"] == run.usage.output_tokens > 0
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (
        nanoseconds(run.started_at),
        nanoseconds(str(run.finished_at)),
    )
    for span in collector.spans:
        if span is not root:
            assert span.parent_span_id == root.span_id
            assert root.start_time_unix_nano <= span.start_time_unix_nano
            assert span.start_time_unix_nano <= span.end_time_unix_nano


async def test_each_effect_has_its_own_names_and_times(
    settings: Settings, collector: Receiver
) -> None:
    async with corral.open(settings) as c:
        run, effects, approvals = await paid(c)
        await send_otlp(run, effects, approvals, OtlpTarget.of(settings, collector.url))
    for effect in effects:
        span = by_path(collector, effect.path)
        assert span.start_time_unix_nano == nanoseconds(effect.started_at)
        if effect.duration_ms is not None:
            took = span.end_time_unix_nano - span.start_time_unix_nano
            assert took == round(effect.duration_ms * 10**6)
    chat = by_path(collector, "1.model#0")
    assert chat.name == "chat scripted"
    assert chat.kind == Span.SPAN_KIND_INTERNAL
    assert attributes(chat)["gen_ai.request.model"] == "scripted"
    assert attributes(chat)["gen_ai.response.finish_reasons"] == ["tool_calls"]
    calls = obj(obj(effects[1].result)["message"])["tool_calls"]
    for number, name in enumerate(("functions__pay", "functions__balance")):
        tool = collector.named(f"execute_tool {name}")
        assert attributes(tool)["gen_ai.tool.name"] == name
        assert attributes(tool)["gen_ai.tool.call.id"] == calls[number]["id"]
        assert attributes(tool)["gen_ai.tool.type"] == "function"
    wait = collector.named("approval functions__pay")
    assert attributes(wait)["corral.approval.status"] == "approved"
    # The journal keeps whole milliseconds of when it was asked and of how long that took.
    late = wait.end_time_unix_nano - nanoseconds(str(approvals[0].answered_at))
    assert abs(late) <= 1_000_000


async def test_sent_again_it_is_the_same_trace(settings: Settings, collector: Receiver) -> None:
    async with corral.open(settings) as c:
        run, effects, approvals = await paid(c)
        for _ in range(2):
            await send_otlp(run, effects, approvals, OtlpTarget.of(settings, collector.url))
    half = len(collector.spans) // 2
    assert half > 3
    assert collector.spans[:half] == collector.spans[half:]
    assert len({span.span_id for span in collector.spans}) == half


async def test_content_is_sent_only_when_asked_for(settings: Settings, collector: Receiver) -> None:
    async with corral.open(settings) as c:
        run, effects, approvals = await paid(c)
        await send_otlp(run, effects, approvals, OtlpTarget.of(settings, collector.url))
        assert not any(SECRET_WORDS in str(span) for span in collector.spans)
        collector.spans.clear()
        with_content = load_settings({"otlp_content": True, "otlp_endpoint": collector.url})
        await send_otlp(run, effects, approvals, OtlpTarget.of(with_content))
    said = attributes(by_path(collector, "3.model#0"))
    roles = [message["role"] for message in said["gen_ai.input.messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    call = said["gen_ai.input.messages"][2]["parts"]
    assert call[0] == {"type": "text", "content": f"I pay: {SECRET_WORDS}"}
    assert (call[1]["type"], call[1]["arguments"]) == ("tool_call", {"amount": 3})
    assert said["gen_ai.input.messages"][3]["parts"][0]["response"] == "paid 3"
    assert said["gen_ai.output.messages"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "It is paid."}],
            "finish_reason": "stop",
        }
    ]
    tool = attributes(collector.named("execute_tool functions__pay"))
    assert tool["gen_ai.tool.call.arguments"] == {"amount": 3}
    assert tool["gen_ai.tool.call.result"] == "paid 3"


async def test_errors_are_marked_and_told_only_with_content(
    settings: Settings, collector: Receiver
) -> None:
    def burn() -> str:
        """Break."""
        raise ValueError(SECRET_WORDS)

    turns = [turn(burn={}), turn("It broke.")]
    policy = {"rules": ({"tool": "*", "action": "allow"},)}
    async with corral.open(settings.model_copy(update=_rules(policy))) as c:
        done = await c.run("Burn.", corral.RunOptions(agent=scripted(turns, burn)))
        seen = await views(c, done.run)
        await send_otlp(*seen, OtlpTarget(traces_url(collector.url)))
        tool = collector.named("execute_tool functions__burn")
        assert (tool.status.code, tool.status.message) == (Status.STATUS_CODE_ERROR, "")
        assert attributes(tool)["error.type"] == "tool_error"
        collector.spans.clear()
        await send_otlp(*seen, OtlpTarget(traces_url(collector.url), content=True))
    assert SECRET_WORDS in collector.named("execute_tool functions__burn").status.message


def _rules(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"rules": load_settings(data).rules}


async def test_what_a_sub_agent_does_hangs_on_its_span(
    settings: Settings, collector: Receiver
) -> None:
    inner = scripted([turn(balance={}), turn("Nothing is paid.")], Ledger().tools()[1])
    inner = inner.model_copy(update={"name": "clerk", "description": "Knows what is paid."})
    call = {"name": "agents__clerk", "args": {"task": "How much is paid?"}}
    outer = scripted([{"text": "", "tool_calls": [call]}, turn("None.")], agents=(inner,))
    async with corral.open(settings) as c:
        done = await c.run("Is it paid?", corral.RunOptions(agent=outer))
        assert done.status == "completed", done.error
        seen = await views(c, done.run)
        await send_otlp(*seen, OtlpTarget.of(settings, collector.url))
    agent = collector.named("invoke_agent clerk")
    tool = collector.named("execute_tool functions__balance")
    assert agent.parent_span_id == collector.named("invoke_agent assistant").span_id
    assert tool.parent_span_id == agent.span_id
    assert agent.start_time_unix_nano <= tool.start_time_unix_nano
    # Each start is of the wall clock and each duration of the steady one, read a moment apart.
    assert tool.end_time_unix_nano <= agent.end_time_unix_nano + 10**9
    assert attributes(tool)["gen_ai.tool.call.id"]


async def test_a_fork_is_linked_to_its_parents_trace(
    settings: Settings, collector: Receiver
) -> None:
    async with corral.open(settings) as c:
        turns = [turn("Let me see.", balance={}), turn("Nothing is paid.")]
        options = corral.RunOptions(agent=scripted(turns, *Ledger().tools()))
        run, effects, _ = await views(c, (await c.run("Look.", options)).run)
        fork = await c.fork(run.run, corral.Fork(at=effects[-1].seq, result="Some."), options)
        seen = await views(c, fork.run)
        await send_otlp(*seen, OtlpTarget.of(settings, collector.url))
    root = collector.named("invoke_agent assistant")
    assert root.links[0].trace_id.hex() == f"{trace_id(run.run):032x}"
    assert attributes(root)["corral.fork.parent"] == run.run
    own = [effect for effect in seen[1] if effect.run == fork.run]
    assert len(collector.spans) == 1 + len(own) < len(seen[1])


async def test_nothing_listens(settings: Settings, nowhere: str) -> None:
    async with corral.open(settings) as c:
        seen = await paid(c)
        with pytest.raises(RunError, match="No OpenTelemetry collector answers") as caught:
            await send_otlp(*seen, OtlpTarget.of(settings, nowhere))
    assert caught.value.exit_code == 1
    assert nowhere in caught.value.message
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in caught.value.hint


async def test_the_collector_refuses(settings: Settings) -> None:
    async with corral.open(settings) as c:
        seen = await paid(c)
        with (
            receiver(answer=401) as closed,
            pytest.raises(RunError, match=r"spans: .*401") as caught,
        ):
            await send_otlp(*seen, OtlpTarget.of(settings, closed.url))
    assert "OTEL_EXPORTER_OTLP_HEADERS" in caught.value.hint


def test_where_spans_go(settings: Settings) -> None:
    own = settings.model_copy(update={"otlp_endpoint": "http://mine:4318"})
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://theirs/base/"}
    assert OtlpTarget.of(own, "http://flag", environ=environ).endpoint == "http://flag/v1/traces"
    assert OtlpTarget.of(own, environ=environ).endpoint == "http://mine:4318/v1/traces"
    assert OtlpTarget.of(settings, environ=environ).endpoint == "https://theirs/base/v1/traces"
    assert OtlpTarget.of(settings, environ={}).endpoint == "http://localhost:4318/v1/traces"
    assert traces_url("http://a/v1/traces") == "http://a/v1/traces"
    for wrong in ("a:4317", "grpc://a:4317", "http://", "http://a:b", ""):
        with pytest.raises(ConfigError, match="is no URL"):
            traces_url(wrong)


@pytest.mark.parametrize(
    ("name", "value"), [("otlp_endpoint", '"http://127.0.0.1:1"'), ("otlp_content", "true")]
)
def test_a_project_does_not_decide_where_runs_are_sent(
    settings: Settings, name: str, value: str
) -> None:
    (settings.workspace / "corral.toml").write_text(f"{name} = {value}")
    with pytest.raises(ConfigError, match=name):
        load_settings({"workspace": settings.workspace})


def live(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"otlp_endpoint": url})


async def test_spans_are_sent_while_a_run_goes_on(settings: Settings, collector: Receiver) -> None:
    ledger = Ledger()

    @corral.tool(read_only=True)
    def look() -> str:
        """Wait until the model's call before this one has been sent."""
        collector.wait_for("chat scripted")
        return "seen"

    pay, balance = ledger.tools()
    turns = [turn(pay={"amount": 2}, balance={}, look={}), turn("Done.")]
    options = corral.RunOptions(agent=scripted(turns, pay, balance, look))
    async with corral.open(live(settings, collector.url)) as c:
        paused = await c.run("Pay 2.", options)
        assert paused.status == "paused"
        names = sorted(span.name for span in collector.spans)
        assert names == [
            "chat scripted",
            "execute_tool functions__balance",
            "execute_tool functions__look",
            "prepare assistant",
        ]
        await c.approve(paused.approvals[0].id)
    async with corral.open(live(settings, collector.url)) as c:
        done = await c.resume(paused.run, options)
        assert (done.status, done.output) == ("completed", "Done.")
        run, effects, approvals = await views(c, done.run)
    sent = list(collector.spans)
    assert len(sent) == len({span.span_id for span in sent}) == len(effects) + 1
    collector.spans.clear()
    await send_otlp(run, effects, approvals, OtlpTarget.of(settings, collector.url))
    assert {span.span_id for span in sent} == {span.span_id for span in collector.spans}
    assert {(span.name, span.parent_span_id) for span in sent} == {
        (span.name, span.parent_span_id) for span in collector.spans
    }


async def test_a_question_about_a_budget_is_sent_with_its_call(
    settings: Settings, collector: Receiver
) -> None:
    @corral.tool(read_only=True)
    def look() -> str:
        """Wait until the question about the model's call before this one has been sent."""
        collector.wait_for("approval budget")
        return "seen"

    options = corral.RunOptions(
        agent=scripted([turn(look={}), turn("Seen.")], look), budget=Budget(model_calls=0)
    )
    async with corral.open(live(settings, collector.url)) as c:
        paused = await c.run("Look.", options)
        (question,) = paused.approvals
        assert question.kind == "budget"
        await c.approve(question.id, args={**question.args, "raise_to": 9})
        assert (await c.resume(paused.run, options)).status == "completed"
    sent = collector.named("approval budget")
    said = attributes(sent)
    assert (said["corral.approval.kind"], said["corral.approval.status"]) == ("budget", "approved")
    assert sent.parent_span_id == collector.named("execute_tool functions__look").parent_span_id


async def test_a_question_about_a_loop_and_a_checks_next_try_are_sent(
    settings: Settings, collector: Receiver
) -> None:
    @corral.tool(read_only=True)
    def look() -> str:
        """Look."""
        return "the same"

    looks = [turn(look={}) for _ in range(12)]
    nudged = settings.model_copy(update={"loops": LoopSettings(ask_after=2, stop_after=9)})
    options = corral.RunOptions(agent=scripted([*looks, turn("Seen.")], look))
    async with corral.open(live(nudged, collector.url)) as c:
        paused = await c.run("Look.", options)
        (question,) = paused.approvals
        assert question.kind == "loop"
        await c.stop(question.id)
        check = Check(name="polite", on="output", require="please", on_fail="reask")
        agent = scripted([turn("No."), turn("Yes, please.")], checks=(check,))
        assert (await c.run("Say.", corral.RunOptions(agent=agent))).output == "Yes, please."
    tries = [s for s in collector.spans if s.name == "chat scripted"]
    again = next(s for s in tries if "/check/1" in str(attributes(s)["corral.effect.path"]))
    assert again.parent_span_id in {s.span_id for s in tries}


async def test_a_sub_agents_spans_are_sent_below_it_before_it_has_ended(
    settings: Settings, collector: Receiver
) -> None:
    @corral.tool(read_only=True)
    def look() -> str:
        """Wait until the sub-agent's own model call has been sent."""
        collector.wait_for("chat scripted")
        with collector.arrived:
            assert collector.arrived.wait_for(lambda: len(collector.spans) >= 2, 30)
        return "seen"

    inner = scripted([turn(look={}), turn("Seen.")], look).model_copy(update={"name": "clerk"})
    call = {"name": "agents__clerk", "args": {"task": "Look."}}
    outer = scripted([{"text": "", "tool_calls": [call]}, turn("None.")], agents=(inner,))
    async with corral.open(live(settings, collector.url)) as c:
        done = await c.run("Look.", corral.RunOptions(agent=outer))
    assert done.status == "completed", done.error
    agent = collector.named("invoke_agent clerk")
    assert collector.named("execute_tool functions__look").parent_span_id == agent.span_id
    inside = [span for span in collector.spans if span.parent_span_id == agent.span_id]
    assert len(inside) >= 3


async def test_a_run_that_its_caller_leaves_is_sent_to_its_end(
    settings: Settings, collector: Receiver
) -> None:
    options = corral.RunOptions(
        agent=scripted([turn(balance={}), turn("Done.")], *Ledger().tools())
    )
    async with (
        corral.open(live(settings, collector.url)) as c,
        aclosing(c.stream("Look.", options)) as events,
    ):
        async for event in events:
            if isinstance(event, ToolFinished):
                break
    root = collector.named("invoke_agent assistant")
    assert attributes(root)["corral.run.status"] == "stopped"
    assert root.status.code == Status.STATUS_CODE_ERROR
    assert collector.named("execute_tool functions__balance").parent_span_id == root.span_id


async def test_a_collector_that_is_down_costs_a_run_one_notice(
    settings: Settings, nowhere: str
) -> None:
    ledger = Ledger()
    turns = [turn(balance={}), turn(balance={}), turn("Done.")]
    options = corral.RunOptions(agent=scripted(turns, *ledger.tools()))
    async with corral.open(live(settings, nowhere)) as c:
        events = [event async for event in c.stream("Look.", options)]
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 1
    assert "No OpenTelemetry collector answers" in notices[0]
    assert "corral export RUN --otlp" in notices[0]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert (last.result.status, last.result.output) == ("completed", "Done.")


async def test_a_collector_that_never_answers_does_not_hold_a_run_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.runtime.export.live.PATIENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        options = corral.RunOptions(agent=scripted([turn("Done.")]))
        async with corral.open(live(settings, url)) as c:
            events = [event async for event in c.stream("Look.", options)]
    assert [type(event) for event in events[-2:]] == [Notice, RunFinished]
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result.status == "completed"
