"""What ``corral trace`` shows of a context: long results and their handles, and summaries."""

from __future__ import annotations

import asyncio

import corral
from tests.cli.place import Place
from tests.runtime.agents import turn
from tests.runtime.test_long_results import HANDLE, READ_ALL, WHOLE, using, watching
from tests.runtime.test_prefix import Heard, agent


def opened(place: Place) -> corral.Settings:
    return corral.load_settings({"home": place.home, "workspace": place.workspace})


def test_a_long_result_is_shown_whole_and_as_the_model_was_shown_it(place: Place) -> None:
    async def read() -> str:
        _, one = watching(READ_ALL, using("read", handle=HANDLE, offset=60_000), turn("Read."))
        async with corral.open(opened(place)) as c:
            return (await c.run("Go.", corral.RunOptions(agent=one))).run

    run = asyncio.run(read())
    told = place.corral("trace", run, "--full")
    assert told.code == 0, told.err
    assert "line 2500: " in told.out, "of the whole result"
    assert f'results__read(handle="{HANDLE}"' in told.out, "in what the model was sent"
    assert "results__read" in place.corral("trace", run).out
    effects = place.corral("trace", run, "--json").lines
    assert next(e["result"]["text"] for e in effects if e["kind"] == "tool") == WHOLE


def test_a_summary_says_what_it_stands_for(place: Place) -> None:
    heard = Heard()

    async def talk() -> str:
        thread = None
        async with corral.open(opened(place)) as c:
            while not heard.summaries:
                one = corral.RunOptions(agent=agent(heard, 1500, facts=0), thread=thread)
                done = await c.run("word " * 200, one)
                thread = done.thread
            return done.run

    told = place.corral("trace", asyncio.run(talk()), "--full")
    assert told.code == 0, told.err
    words = " ".join(told.out.replace("│", " ").split())
    assert "stands for the first 3 messages; new in it: r-" in words
