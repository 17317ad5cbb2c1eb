"""What is kept of servers, in either database: one process trusts, and all of them know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from corral.runtime.config import Settings
from corral.runtime.database import Database
from corral.runtime.migrate import open_database
from corral.tools.pin_store import DatabaseEras, DatabasePins
from corral.tools.pins import Pins
from corral.tools.wire import Declared
from tests.runtime.postgres_server import Server, running

TOOL = Declared("add", "Adds two numbers.", {"type": "object", "properties": {}})
STRANGE = "nul \0 private \ue000 \ue0000 hidden \u202e \U000e0068 \U0001f980 %s ' \\"

Two = tuple[Database, Database]


def pins(*tools: Declared, instructions: str = "") -> Pins:
    return Pins.of("srv", tools, instructions)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture(params=["sqlite", "postgres"])
async def two(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Two]:
    """One database, opened as by two processes."""
    url = settings.database
    if request.param == "postgres":
        url = request.getfixturevalue("server").new_database()
    first, second = await open_database(url), await open_database(url)
    yield first, second
    await first.aclose()
    await second.aclose()


async def test_the_first_is_kept_and_trust_replaces_it(two: Two) -> None:
    here, there = map(DatabasePins, two)
    assert await here.load("srv") is None
    first, second = pins(TOOL, instructions="one"), pins(replace(TOOL, name="b"))
    assert await here.first(first) == first
    assert await there.first(second) == first, "another process was faster"
    await there.trust(second)
    assert await here.load("srv") == second
    await here.forget("srv")
    assert await there.load("srv") is None


async def test_of_rivals_for_a_new_server_one_wins_whole(two: Two) -> None:
    here, there = map(DatabasePins, two)
    rivals = [pins(replace(TOOL, description=f"{n}"), instructions=f"{n}") for n in range(12)]
    kept = await asyncio.gather(
        *(store.first(one) for one in rivals for store in (here, there)), return_exceptions=True
    )
    won = await here.load("srv")
    assert won in rivals
    assert kept == [won] * len(kept)


async def test_what_is_trusted_again_and_again_at_once_is_always_one_of_them(two: Two) -> None:
    here, there = map(DatabasePins, two)
    tools = [replace(TOOL, name=f"tool{n}") for n in range(20)]
    few, many = pins(TOOL, instructions="few"), pins(*tools, instructions="many")
    await here.trust(few)

    async def trust(store: DatabasePins, what: Pins) -> None:
        for _ in range(5):
            await store.trust(what)

    trusting = asyncio.gather(trust(here, few), trust(there, many))
    while not trusting.done():
        assert await here.load("srv") in (few, many)
    await trusting


async def test_any_text_is_kept_as_it_is(two: Two) -> None:
    here, there = map(DatabasePins, two)
    sly = replace(TOOL, name=STRANGE, description=STRANGE, input_schema={"title": STRANGE})
    long = replace(TOOL, name="long", description="\u202e" * 200_000)
    trusted = pins(sly, long, instructions=STRANGE)
    await here.trust(trusted)
    assert await there.load("srv") == trusted


async def test_which_programs_are_old_is_remembered_for_all(two: Two) -> None:
    here, there = map(DatabaseEras, two)
    assert not await here.is_legacy("k")
    await asyncio.gather(*(eras.found_legacy("k") for eras in (here, there) * 6))
    assert await here.is_legacy("k")
    assert await there.is_legacy("k")
    assert not await there.is_legacy("other")
