"""The importer on files that were damaged, changed, or written by somebody hostile.

Whatever comes in: it is refused with a line's number and nothing is stored, or it is stored and
everything that reads runs can take it.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import Connection, func, select

import corral
from corral.errors import ConfigError, CorralError
from corral.runtime.export.html import render_html
from corral.runtime.export.scrub import Scrubber
from corral.runtime.tables import approvals, blobs, checkpoints, effects, runs, threads
from tests.runtime.exports import Records, exported, imported, opened, rich_exports, sealed

EXAMPLES = int(os.environ.get("CORRAL_FUZZ", "40"))
"""How many files each test makes; more of them in a campaign."""

JUNK: strategies.SearchStrategy[Any] = strategies.recursive(
    strategies.none()
    | strategies.booleans()
    | strategies.integers()
    | strategies.floats()
    | strategies.text(max_size=20)
    | strategies.sampled_from(
        ["", "../../x", "r-0", "\x00", "{}", "messages", "model", "1.model#0"]
    ),
    lambda inner: (
        strategies.lists(inner, max_size=3)
        | strategies.dictionaries(strategies.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Real exports, by name."""
    folder = tmp_path_factory.mktemp("material")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        found = corral.load_settings({"home": folder / "home", "workspace": folder})
        return asyncio.run(rich_exports(found))


@pytest.fixture
def loop_and_corral(
    own_home: Path, workspace: Path
) -> Iterator[tuple[asyncio.Runner, corral.Corral]]:
    """An empty database, and the loop that it lives in."""
    own = corral.load_settings({"home": own_home, "workspace": workspace})
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        opening = corral.open(own)
        c = runner.run(opening.__aenter__())
        stack.callback(lambda: runner.run(opening.__aexit__(None, None, None)))
        yield runner, c


def counts(connection: Connection) -> list[int]:
    tables = (threads, runs, effects, approvals, checkpoints, blobs)
    return [connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables]


async def attempt(c: corral.Corral, content: bytes) -> bool:
    """Import a file; when it is taken, do everything with it that reads runs."""
    before = await c.records.database.read(counts)
    path = c.settings.workspace / "run.jsonl"
    try:
        found = await imported(c, path, content)
    except ConfigError as error:
        assert error.message.startswith(str(path)), error.message  # noqa: PT017  # or it is taken
        assert await c.records.database.read(counts) == before
        return False
    run = await c.records.run(found.run)
    trace = await c.records.trace(found.run)
    questions = await c.records.approvals(run=found.run, status=None)
    assert render_html(run, trace, questions)
    scrub = Scrubber()
    assert render_html(scrub.run(run), [scrub.effect(one) for one in trace], [])
    try:
        report = await c.replay(found.run)
        assert report.status in ("identical", "diverged")
    except CorralError:
        pass
    assert await exported(c, found.run)
    return True


@pytest.mark.parametrize("name", ["new", "older", "fork", "delegated"])
def test_what_was_not_changed_is_taken(
    material: dict[str, bytes], name: str, loop_and_corral: tuple[asyncio.Runner, corral.Corral]
) -> None:
    runner, c = loop_and_corral
    assert runner.run(attempt(c, material[name]))
    assert runner.run(attempt(c, sealed(opened(material[name]))))


def test_any_byte_that_is_changed_is_noticed(
    material: dict[str, bytes], loop_and_corral: tuple[asyncio.Runner, corral.Corral]
) -> None:
    runner, c = loop_and_corral
    chance = random.Random(3)
    for _ in range(EXAMPLES * 4):
        content = bytearray(material[chance.choice(sorted(material))])
        at = chance.randrange(len(content))
        match chance.choice(["flip", "drop", "insert", "cut", "repeat"]):
            case "flip":
                content[at] ^= 1 << chance.randrange(8)
            case "drop":
                del content[at : at + chance.choice([1, 7, 300])]
            case "insert":
                content[at:at] = chance.randbytes(chance.choice([1, 9]))
            case "cut":
                del content[at:]
            case "repeat":
                content[at:at] = content[max(0, at - 500) : at + 1]
        taken = runner.run(attempt(c, bytes(content)))
        # Blank ends of lines and of the file are all that may differ.
        assert not taken or any(
            bytes(content).split() == whole.split() for whole in material.values()
        )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside of a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def change(records: Records, draw: Any) -> None:
    """Change one thing, as somebody would who can compute sums."""
    at = draw(strategies.integers(0, len(records) - 1))
    match draw(
        strategies.sampled_from(["value", "value", "value", "key", "drop", "twice", "swap"])
    ):
        case "value":
            where = draw(strategies.sampled_from(list(places(records[at]))))
            _at(records[at], where[:-1])[where[-1]] = draw(JUNK)
        case "key":
            where = draw(strategies.sampled_from(list(places(records[at]))))
            inner = _at(records[at], where[:-1])
            if isinstance(inner, dict):
                del inner[where[-1]]
            else:
                inner.append(draw(JUNK))
        case "drop":
            del records[at]
        case "twice":
            records.insert(at, deepcopy(records[at]))
        case "swap":
            other = draw(strategies.integers(0, len(records) - 1))
            records[at], records[other] = records[other], records[at]


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_a_file_that_contradicts_itself_is_refused_or_read(
    material: dict[str, bytes], loop_and_corral: tuple[asyncio.Runner, corral.Corral]
) -> None:
    runner, c = loop_and_corral
    taken = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES == 40,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.data())
    def check(data: strategies.DataObject) -> None:
        name = data.draw(strategies.sampled_from(sorted(material)))
        records = opened(material[name])
        for _ in range(data.draw(strategies.integers(1, 3))):
            if records:
                change(records, data.draw)
        try:
            content = sealed(records)
        except (ConfigError, UnicodeEncodeError, KeyError):
            return  # no writer could write that
        taken.append(runner.run(attempt(c, content)))

    check()
    assert set(taken) == {True, False}
