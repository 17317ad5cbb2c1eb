"""Runs of teams from the shell: who works is told, to people and to programs."""

from __future__ import annotations

import json

import pytest

from tests.cli.place import Place

WORKERS = [f"w{number}" for number in range(8)]


@pytest.fixture
def team(place: Place) -> tuple[str, ...]:
    """A supervisor over eight workers that read a file each; the arguments that run it."""
    asking = [{"name": f"agents__{name}", "args": {"task": f"Part {name}."}} for name in WORKERS]
    reading = [{"name": "files__read_file", "args": {"path": "orders.csv"}}]
    scripts = {
        "lead": [{"tool_calls": asking}, {"text": "All is done."}],
        **{
            name: [{"tool_calls": reading}, {"text": f"Two orders, says {name}."}]
            for name in WORKERS
        },
    }
    for name, turns in scripts.items():
        (place.scripts / f"{name}.yaml").write_text(json.dumps(turns))
    agents = "".join(
        f'[agents.{name}]\nservers = ["files"]\nmodel = "{place.model(name)}"\n' for name in WORKERS
    )
    config = place.scripts / "team.toml"
    config.write_text(
        f'{agents}[agents.lead]\npattern = "supervisor"\nservers = []\n'
        f'model = "{place.model("lead")}"\nagents = {json.dumps(WORKERS)}\n'
    )
    return "--config", str(config), "run", "--agent", "lead", "Go."


def test_programs_are_told_who_does_what_without_parsing(
    place: Place, team: tuple[str, ...]
) -> None:
    done = place.corral(*team, "--json")
    assert done.code == 0, done.err
    events = done.lines
    started = {e["path"]: e for e in events if e["type"] == "agent_started"}
    assert sorted(e["name"] for e in started.values()) == WORKERS
    assert {tuple(e["agents"]) for e in started.values()} == {("lead",)}
    calls = [e for e in events if e["type"] == "tool_started"]
    assert sorted(e["agents"][-1] for e in calls) == WORKERS
    for event in calls:
        around = event["path"].rpartition("/")[0]
        assert started[around]["name"] == event["agents"][-1]
    ended = [e for e in events if e["type"] == "agent_finished"]
    assert sorted(e["text"] for e in ended) == [f"Two orders, says {name}." for name in WORKERS]


def test_people_see_whose_line_is_whose(place: Place, team: tuple[str, ...]) -> None:
    done = place.corral(*team)
    assert done.code == 0, done.err
    assert done.out == "All is done.\n"
    lines = done.err.splitlines()
    for name in WORKERS:
        assert any(line.startswith(f"→ {name}(") for line in lines)
        assert f"  {name} Two orders, says {name}." in lines
        assert any(line.startswith(f"  {name} → files__read_file") for line in lines)
        assert any(line.startswith(f"← {name}") for line in lines)
