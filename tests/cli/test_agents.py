"""``corral agents``: what there is, what would run, what is wrong, and the graphs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import Place, Result
from tests.cli.test_inspection import HEAVY

REVIEWER = """\
---
description: Looks for mistakes in a change.
tools: Read, Grep
policy: read-only
---
You review changes.
"""


def agent(place: Place, name: str, text: str) -> Path:
    path = place.workspace / ".corral" / "agents" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def configured(place: Place, text: str) -> None:
    (place.workspace / "corral.toml").write_text(text)


@pytest.fixture
def team(place: Place) -> Place:
    """A lead of corral.toml with a reviewer in Markdown."""
    agent(place, "reviewer", REVIEWER)
    configured(place, 'model = "local"\n\n[agents.lead]\nagents = ["reviewer"]\n')
    return place


class TestList:
    def test_every_agent_is_told_with_where_it_is_from(self, team: Place) -> None:
        done = team.corral("agents", "list")
        assert done.code == 0
        rows = {line.split()[0]: line for line in done.out.splitlines()}
        assert "built in" in rows["assistant"]
        assert "corral.toml, line 3" in rows["lead"]
        assert "Looks for mistakes in a change." in rows["reviewer"]

    def test_as_json_for_machines(self, team: Place) -> None:
        rows = {row["name"]: row for row in team.corral("agents", "list", "--json").lines}
        assert list(rows) == ["assistant", "lead", "reviewer"]
        assert (rows["reviewer"]["owner"], rows["reviewer"]["line"]) == ("project", 1)
        assert (rows["lead"]["pattern"], rows["lead"]["model"]) == ("react", "local")
        assert all(row["used"] and row["problems"] == [] for row in rows.values())

    def test_a_broken_one_is_told_with_its_problem(self, team: Place) -> None:
        agent(team, "broken", "---\ntols: x\nfacts: -1\n---\n")
        done = team.corral("agents", "list")
        assert done.code == 0
        assert "line 2: tols: there is no such key (and 1 more)" in done.out
        assert "corral agents check" in done.err
        rows = {row["name"]: row for row in team.corral("agents", "list", "--json").lines}
        assert [problem["line"] for problem in rows["broken"]["problems"]] == [2, 3]

    def test_what_a_stranger_wrote_cannot_move_the_cursor(self, place: Place) -> None:
        agent(place, "evil", '---\ndescription: "a\\e[2Jb\\u202ec"\n---\nx\x1b[2J\n')
        for command in (("list",), ("show", "evil"), ("graph", "evil"), ("check",)):
            done = place.corral("agents", *command)
            assert "\x1b" not in done.out + done.err
            assert "\u202e" not in done.out + done.err


class TestShow:
    def test_all_that_holds_is_shown(self, team: Place) -> None:
        done = team.corral("agents", "show", "reviewer")
        assert done.code == 0
        for said in (
            "reviewer  Looks for mistakes in a change.",
            "reviewer.md, line 1",
            "model: local",
            "pattern: react: ",
            "arXiv:2210.03629",
            "policy: read-only",
            "tools: files__read_file, files__search_files",
            '"max_steps":12',
            "  You review changes.",
        ):
            assert said in done.out

    def test_the_team_is_a_tree(self, team: Place) -> None:
        done = team.corral("agents", "show", "lead")
        assert "└── reviewer (react, local)  Looks for mistakes in a change." in done.out
        (told,) = team.corral("agents", "show", "lead", "--json").lines
        assert told["team"]["agents"][0]["name"] == "reviewer"
        assert told["limits"]["max_steps"] == 12
        assert told["file"].endswith("corral.toml")

    def test_options_are_shown_with_their_defaults(self, place: Place) -> None:
        agent(place, "author", "---\npattern: reflection\noptions: {rounds: 2}\n---\n")
        done = place.corral("agents", "show", "author")
        assert "    rounds = 2  " in done.out
        assert "    threshold = 0.9 (default)  " in done.out

    def test_the_tools_are_listed_with_what_their_definitions_cost(self, place: Place) -> None:
        configured(place, '[agents.lead]\nservers = ["memory"]\nagents = ["assistant"]\n')
        done = place.corral("agents", "show", "lead", "--tools")
        assert "memory__recall" in done.out
        assert "agents__assistant" in done.out
        (told,) = place.corral("agents", "show", "lead", "--tools", "--json").lines
        assert 0 < told["offered_tokens"] < sum(tool["tokens"] for tool in told["offered"]) + 10

    @pytest.mark.parametrize("command", ["show", "graph", "check"])
    def test_an_unknown_name_is_an_error(self, team: Place, command: str) -> None:
        done = team.corral("agents", command, "reviwer")
        assert (done.code, done.out) == (2, "")
        assert "There is no agent 'reviwer'" in done.err
        assert "reviewer" in done.err.splitlines()[1]


class TestCheck:
    def test_all_is_well(self, team: Place) -> None:
        done = team.corral("agents", "check")
        assert (done.code, done.out) == (0, "")
        assert "No problems found in 3 agents." in done.err

    @pytest.mark.parametrize(
        ("front", "line", "said"),
        [
            ("servers: [fles]", 2, "there is no server 'fles'"),
            ("tools: files__raed_file", 2, "there is no tool 'files__raed_file'"),
            ("facts: 1\ntools: jira__list", 3, "there is no server 'jira'"),
            ("tools: Bash", 2, "the server 'shell' is not offered to it"),
            ("tools: agents__helper", 2, "'helper' is not in its team"),
            ("agents: [hepler]", 2, "there is no agent 'hepler'"),
            ("agents: [assistant, assistant]", 2, "an agent is named twice"),
            ("agents: [broken]", 2, "the agent 'broken' cannot be used"),
            ("agents: [critic]", 2, "give tasks to itself: critic → critic"),
            ("pattern: reflecton", 2, "There is no pattern 'reflecton'"),
            ("pattern: reflection\noptions: {rouns: 3}", 3, "do not fit the pattern reflection"),
            ("pattern: supervisor", 2, "has no sub-agents"),
            ("model: ./nowhere.gguf", 2, "nowhere.gguf"),
            ("model: openai:gpt-5", 2, "OPENAI_API_KEY"),
            ("policy: [{tool: x, action: deny}]\nreturns: {type: nonsense}", 3, "returns"),
        ],
    )
    def test_what_is_not_there_is_told_with_its_line(
        self, place: Place, front: str, line: int, said: str
    ) -> None:
        agent(place, "broken", "no agent")
        path = agent(place, "critic", f"---\n{front}\n---\nx\n")
        done = place.corral("agents", "check", "critic")
        assert done.code == 1
        assert f"{path}, line {line}: " in done.out
        assert said in done.out
        (told,) = place.corral("agents", "check", "critic", "--json").lines
        assert (told["line"], told["file"]) == (line, str(path))
        assert told["hint"]

    def test_everything_wrong_is_told_at_once(self, place: Place) -> None:
        agent(place, "a", "---\nagents: [b]\n---\n")
        agent(place, "b", "---\nagents: [c]\n---\n")
        agent(place, "c", "---\nagents: [a]\nservers: [x]\n---\n")
        agent(place, "d", "---\ncolor: red\nmodel: opus\n---\n")
        done = place.corral("agents", "check")
        assert done.code == 1
        for way in ("a → b → c → a", "b → c → a → b", "c → a → b → c"):
            assert way in done.out
        assert "there is no server 'x'" in done.out
        assert "color: there is no such key" in done.out
        assert "'opus' is not a model" in done.out

    def test_a_policy_of_corral_toml_is_loaded_too(self, place: Place) -> None:
        configured(place, '[agents.critic]\ntools = ["files__nothing"]\n')
        done = place.corral("agents", "check")
        assert "corral.toml, line 1: tools: critic: there is no tool" in done.out

    def test_a_file_can_be_checked_where_it_lies(self, place: Place) -> None:
        (place.workspace / "there.md").write_text("---\nmodel: haiku\n---\n")
        done = place.corral("agents", "check", "./there.md")
        assert (done.code, "there.md, line 2: model" in done.out) == (1, True)

    def test_a_file_that_is_not_used_is_told(self, team: Place, tmp_path: Path) -> None:
        mine = tmp_path / "config" / "corral" / "agents"
        mine.mkdir(parents=True)
        (mine / "reviewer.md").write_text(REVIEWER)
        done = team.corral("agents", "check")
        assert (done.code, "it is not used" in done.out) == (1, True)


def lines(done: Result) -> list[str]:
    assert done.code == 0, done.err
    return [line.rstrip() for line in done.out.splitlines()]


class TestGraph:
    def test_the_patterns_graph_is_drawn(self, place: Place) -> None:
        agent(place, "author", "---\npattern: reflection\n---\n")
        drawn = lines(place.corral("agents", "graph", "author"))
        assert drawn[:4] == ["author: reflection", "", "start", "  ↓"]
        assert drawn[4].startswith("draft ◀")
        assert "end" in drawn
        assert "team:" not in drawn

    def test_the_team_is_below_it(self, team: Place) -> None:
        drawn = lines(team.corral("agents", "graph", "lead"))
        assert drawn[-2:] == [
            "  lead (react, local)",
            "  └── reviewer (react, local)  Looks for mistakes in a change.",
        ]

    def test_as_mermaid(self, place: Place) -> None:
        done = place.corral("agents", "graph", "--mermaid")
        assert "graph TD;" in done.out
        assert "__start__ --> model;" in done.out


def test_patterns_are_listed_with_their_options(place: Place) -> None:
    done = place.corral("agents", "patterns")
    assert "react: The model acts through tools until it answers." in done.out
    assert "    rounds = 3  Critiques at most." in done.out
    told = {line["name"]: line for line in place.corral("agents", "patterns", "--json").lines}
    assert told["reflection"]["options"]["properties"]["rounds"]["default"] == 3


def test_the_policy_of_an_agent_is_explained(team: Place) -> None:
    call = ("policy", "check", "files__write_file", "--policy", "trusted")
    assert team.corral(*call).out.startswith("allow")
    done = team.corral(*call, "--agent", "reviewer")
    assert done.out.startswith("deny: files__write_file")
    assert "agent: deny: rule 2 of read-only of the agent reviewer" in done.out


def test_the_policy_of_an_agent_is_explained_for_a_call_that_it_made(place: Place) -> None:
    agent(place, "writer", f"---\nmodel: {place.model('write')}\npolicy: read-only\n---\nWrite.\n")
    run = place.corral("run", "Write.", "--agent", "writer", "--policy", "trusted", "--json")
    assert run.code == 0, run.err
    name = str(run.lines[-1]["run"])
    seq = next(
        str(one["seq"])
        for one in place.corral("trace", name, "--json").lines
        if one["kind"] == "tool"
    )
    done = place.corral("policy", "check", "--run", name, "--at", seq)
    assert "by rule 2 of read-only of the agent writer" in done.out
    assert not (place.workspace / "notes.txt").exists()


def test_a_run_takes_an_agents_file(place: Place) -> None:
    (place.workspace / "greeter.md").write_text(f"---\nmodel: {place.model('hello')}\n---\nHi.\n")
    done = place.corral("run", "Hello.", "--agent", "./greeter.md")
    assert (done.code, done.out) == (0, "Hello there, friend.\n")


@pytest.mark.slow
def test_listing_and_checking_import_no_engine_and_no_model_library(team: Place) -> None:
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        "assert invoke(['agents', 'list']) == 0\n"
        "assert invoke(['agents', 'check']) == 0\n"
        f"sys.exit(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=team.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", [".corral/agents/new.md", "sub/.corral/agents/x.md"])
def test_no_policy_lets_a_tool_write_agents(place: Place, path: str) -> None:
    args = ("--args", f'{{"path": "{path}", "content": "x"}}', "--policy", "trusted")
    done = place.corral("policy", "check", "files__write_file", *args)
    assert done.out.startswith("deny: files__write_file")
    assert "An agent does not edit its own policy or configuration" in done.out
