"""Connections of a tool call are effects under it: in the trace, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.agents.options import Fork
from corral.errors import UsageError
from corral.runtime.config import Settings, load_settings
from corral.runtime.effects import EffectKind
from corral.runtime.export.spans import spans_of
from corral.runtime.views import EffectView, RunView, Totals
from tests.cli.place import Place
from tests.sandbox.network.test_servers import SCRIPT
from tests.sandbox.network.upstream import Service, service

CONNECTION: EffectKind = "connection"


def settings_for(
    settings: Settings, *network: str, settings_: dict[str, Any] | None = None
) -> Settings:
    entry = {"command": "/usr/bin/python3", "args": [str(SCRIPT)], "grants": [str(SCRIPT.parent)]}
    server = {**entry, "trust": True, "network": list(network)}
    fields = {"home": settings.home, "workspace": settings.workspace, "mcp": {"ext": server}}
    return load_settings({**fields, "policy": "trusted", **(settings_ or {})})


def agent(*calls: dict[str, Any]) -> corral.RunOptions:
    turns: list[Mapping[str, Any]] = [
        {"text": "Looking.", "tool_calls": list(calls)},
        {"text": "Done."},
    ]
    model = corral.ScriptedModel(turns)
    made = corral.Agent(servers=("ext",), chat_model=model, facts=0)
    return corral.RunOptions(agent=made)


def fetches(*urls: str) -> dict[str, Any]:
    return {"name": "ext__fetch", "args": {"url": " ".join(urls)}}


def connections(trace: list[EffectView]) -> list[EffectView]:
    return [effect for effect in trace if effect.kind == CONNECTION]


async def test_each_connection_is_an_effect_under_its_call(settings: Settings) -> None:
    async with service() as up:
        options = agent(fetches(f"http://localhost:{up.port}/a?token=secret", "http://evil.test/x"))
        async with corral.open(settings_for(settings, f"localhost:{up.port} private")) as c:
            result = await c.run("Look.", options)
            assert result.status == "completed"
            trace = await c.records.trace(result.run)
            report = await c.replay(result.run, options)
    (call,) = [effect for effect in trace if effect.kind == "tool"]
    allowed, refused = connections(trace)
    assert [one.path for one in (allowed, refused)] == [
        f"{call.path}/connection/1",
        f"{call.path}/connection/2",
    ]
    assert allowed.name == f"localhost:{up.port}"
    asked: Any = allowed.request
    assert asked == {
        "host": "localhost",
        "port": up.port,
        "method": "GET",
        "path": "/a",
        "addresses": ["127.0.0.1", "::1"][: len(asked["addresses"])],
        "allowed": True,
    }
    assert isinstance(allowed.result, dict)
    assert (allowed.result["status"], allowed.result["received"]) == (200, 5)
    assert allowed.result["address"] == "127.0.0.1"
    assert allowed.duration_ms is not None
    kept_out: Any = refused.request
    assert kept_out["allowed"] is False
    assert "evil.test:80 may not be reached" in kept_out["refused"]
    assert all(one.status == "finished" for one in (allowed, refused))
    assert report.status == "identical"
    assert up.connections == 1, "a replay makes none"
    assert result.steps == 2


async def cut_off(
    settings: Settings, up: Service, seen: asyncio.Event
) -> tuple[str, list[EffectView]]:
    """A run that is killed while a connection of its call is open."""
    options = agent(fetches(f"http://localhost:{up.port}/"))
    async with corral.open(settings) as c:
        running = asyncio.ensure_future(c.run("Look.", options))
        await seen.wait()
        (run,) = await c.records.runs()
        open_ = connections(await c.records.trace(run.run))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return run.run, open_


async def test_what_was_open_at_the_end_is_visible_and_the_call_is_made_again(
    settings: Settings,
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if not seen.is_set():
            seen.set()
            await reader.read(-1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    seen = asyncio.Event()
    async with service(serve=silent) as up:
        granted = settings_for(settings, f"localhost:{up.port} private")
        run, before = await cut_off(granted, up, seen)
        assert [one.status for one in before] == ["started"]
        options = agent(fetches(f"http://localhost:{up.port}/"))
        async with corral.open(granted) as c:
            result = await c.resume(run, options)
            assert result.status == "completed", result
            trace = await c.records.trace(run)
            assert (await c.replay(run, options)).status == "identical"
    first, second = connections(trace)
    assert isinstance(first.result, dict)
    assert "status" not in first.result
    assert isinstance(second.result, dict)
    assert second.result["status"] == 200
    assert [one.path.rpartition("/")[2] for one in (first, second)] == ["1", "2"]


async def test_calls_are_counted_without_their_connections(settings: Settings) -> None:
    limits = {"budgets": {"run": {"tool_calls": 1}}}
    async with service() as up:
        url = f"http://localhost:{up.port}/"
        options = agent(fetches(url, url, url))
        granted = settings_for(settings, f"localhost:{up.port} private", settings_=limits)
        async with corral.open(granted) as c:
            result = await c.run("Look.", options)
            assert result.status == "completed", result.error
            rows = await c.records.trace(result.run)
    assert len(connections(rows)) == up.connections == 3


async def test_a_fork_shares_them_with_their_call(settings: Settings) -> None:
    async with service() as up:
        options = agent(fetches(f"http://localhost:{up.port}/"))
        async with corral.open(settings_for(settings, f"localhost:{up.port} private")) as c:
            result = await c.run("Look.", options)
            trace = await c.records.trace(result.run)
            (call,) = [effect for effect in trace if effect.kind == "tool"]
            last = [effect for effect in trace if effect.kind == "model"][-1]
            (connection,) = connections(trace)
            with pytest.raises(UsageError, match="a connection of a tool call"):
                await c.fork(result.run, Fork(connection.seq), options)
            later = await c.fork(result.run, Fork(last.seq), options)
            theirs = await c.records.trace(later.run)
            assert up.connections == 1
            assert (await c.replay(later.run, options)).status == "identical"
            again = await c.fork(result.run, Fork(call.seq), options)
            anew = await c.records.trace(again.run)
    assert [(one.path, one.run) for one in connections(theirs)] == [(connection.path, result.run)]
    assert [(one.path, one.run) for one in connections(anew)] == [(connection.path, again.run)]
    assert up.connections == 2


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Place:
    return Place(settings.home, settings.workspace, tmp_path)


@pytest.fixture
def recorded(settings: Settings) -> tuple[str, int, list[EffectView]]:
    """A run with an allowed and a refused connection: its id, the port, its trace."""

    async def record() -> tuple[str, int, list[EffectView]]:
        async with service() as up:
            options = agent(fetches(f"http://localhost:{up.port}/hidden", "http://evil.test/"))
            granted = settings_for(settings, f"localhost:{up.port} private")
            async with corral.open(granted) as c:
                result = await c.run("Look.", options)
                return result.run, up.port, await c.records.trace(result.run)

    return asyncio.run(record())


Recorded = tuple[str, int, list[EffectView]]


def test_the_trace_shows_them_under_their_call(place: Place, recorded: Recorded) -> None:
    run, port, _ = recorded
    shown = place.corral("trace", run).out
    assert f"connection GET localhost:{port}/hidden" in shown
    assert "status 200; " in shown
    assert "refused" in shown
    assert shown.index("ext__fetch") < shown.index("/hidden") < shown.index("evil.test:80/")
    only = place.corral("trace", run, "--kind", "connection", "--json").lines
    assert [line["name"] for line in only if line.get("kind") == CONNECTION] == [
        f"localhost:{port}",
        "evil.test:80",
    ]
    refused = place.corral("trace", run, "--status", "refused", "--json").lines
    assert [line["name"] for line in refused if "kind" in line] == ["evil.test:80"]


@pytest.mark.parametrize("scrubbed", [False, True])
def test_an_export_takes_them_along(
    place: Place,
    recorded: Recorded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scrubbed: bool,
) -> None:
    run, _, here = recorded
    target = tmp_path / "run.jsonl"
    flags = ["--scrub"] if scrubbed else []
    done = place.corral("export", run, "--jsonl", "-o", str(target), *flags)
    assert done.code == 0, done.err
    for secret in ("hidden", "evil.test", "127.0.0.1"):
        assert (secret in target.read_text()) != scrubbed
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path / "other"))
    taken = place.corral("import", str(target))
    assert taken.code == 0, taken.err
    there = place.corral("trace", "last", "--json").lines
    found = [line for line in there if line.get("kind") == CONNECTION]
    assert [one["path"] for one in found] == [one.path for one in connections(here)]
    assert [one["result"]["sent"] for one in found] == [
        one.result["sent"] for one in connections(here) if isinstance(one.result, dict)
    ]


def test_a_page_and_spans_and_a_clean_up(place: Place, recorded: Recorded, tmp_path: Path) -> None:
    run, port, here = recorded
    page = tmp_path / "run.html"
    assert place.corral("export", run, "--html", "-o", str(page)).code == 0
    assert "evil.test" in page.read_text()
    view = RunView(run, "t", "a", "m", "completed", "", "", here[0].started_at, None, 0, Totals())
    spans = {span.name: span for span in spans_of(view, here, content=False)}
    allowed, refused = spans[f"connection localhost:{port}"], spans["connection evil.test:80"]
    assert allowed.parent == refused.parent == spans["execute_tool ext__fetch"].id
    assert allowed.attributes["http.response.status_code"] == 200
    assert refused.attributes["error.type"] == "refused"
    assert not any("hidden" in str(value) for value in allowed.attributes.values())
    assert place.corral("diff", run, run).code == 0
    assert place.corral("gc", "--older-than", "0h").code == 0
    assert place.corral("trace", run).code != 0
