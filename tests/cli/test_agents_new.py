"""``corral agents new``: from a template, and from agents of another product."""

from __future__ import annotations

from pathlib import Path

import pytest

import corral
from tests.cli.place import Place

CLAUDE = """\
---
name: code-reviewer
description: Use this agent when code is written. Examples:\\n\\nuser: "Review"\\nassistant: "Yes"
tools: Read, Grep, Bash, mcp__jira__search, Task, Bash(git diff:*)
model: sonnet
color: blue
permissionMode: plan
maxTurns: 7
---

You are an expert code reviewer.

1. Read the change.
"""


def path_of(place: Place, name: str) -> Path:
    return place.workspace / ".corral" / "agents" / f"{name}.md"


class TestFromATemplate:
    def test_it_passes_the_check_and_says_what_could_be_said(self, place: Place) -> None:
        done = place.corral("agents", "new", "critic")
        assert (done.code, done.out) == (0, f"{path_of(place, 'critic')}\n")
        assert "corral agents check critic" in done.err
        text = path_of(place, "critic").read_text()
        assert all(f"# {key}: " in text for key in ("model", "tools", "agents", "policy", "budget"))
        assert place.corral("agents", "check", "critic").code == 0
        assert [one.name for one in path_of(place, "critic").parent.iterdir()] == ["critic.md"]

    def test_what_is_commented_out_can_be_put_in(self, place: Place) -> None:
        place.corral("agents", "new", "critic", "--pattern", "reflection")
        path = path_of(place, "critic")
        lines = path.read_text().splitlines()
        said = [line.removeprefix("# ") for line in lines if not line.startswith("# What")]
        path.write_text("\n".join(line.replace("#   ", "  ", 1) for line in said))
        done = place.corral("agents", "check", "critic", "--json")
        assert done.lines == []

    def test_a_pattern_comes_with_its_options(self, place: Place) -> None:
        assert place.corral("agents", "new", "critic", "--pattern", "reflection").code == 0
        text = path_of(place, "critic").read_text()
        assert "pattern: reflection\n# options:\n#   rounds: 3" in text
        assert place.corral("agents", "check", "critic").code == 0

    @pytest.mark.slow
    def test_every_pattern_has_one_that_passes_the_check_and_can_be_drawn(
        self, place: Place
    ) -> None:
        names = [one["name"] for one in place.corral("agents", "patterns", "--json").lines]
        assert len(names) > 10
        for pattern in names:
            assert place.corral("agents", "new", f"my_{pattern}", "--pattern", pattern).code == 0
            drawn = place.corral("agents", "graph", f"my_{pattern}")
            assert (drawn.code, drawn.out.splitlines()[2]) == (0, "start"), drawn.err
        checked = place.corral("agents", "check")
        assert (checked.code, checked.out) == (0, "")

    def test_it_may_be_the_users_own(self, place: Place, tmp_path: Path) -> None:
        place.corral("agents", "new", "critic", "--user")
        assert (tmp_path / "config" / "corral" / "agents" / "critic.md").is_file()
        rows = {row["name"]: row for row in place.corral("agents", "list", "--json").lines}
        assert rows["critic"]["owner"] == "user"

    def test_nothing_is_written_over_unless_it_is_asked_for(self, place: Place) -> None:
        place.corral("agents", "new", "critic")
        path_of(place, "critic").write_text("mine")
        done = place.corral("agents", "new", "critic")
        assert (done.code, path_of(place, "critic").read_text()) == (2, "mine")
        assert "--force" in done.err
        assert place.corral("agents", "new", "critic", "--force").code == 0
        assert path_of(place, "critic").read_text() != "mine"

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ((), "The new agent has no name"),
            (("../x",), "'../x' cannot be the name of an agent"),
            (("a b",), "as in `name: a-b`"),
            (("x", "--pattern", "reflecton"), "Did you mean 'reflection'?"),
            (("x", "--from", "nowhere.md"), "cannot be read"),
            (("x", "--pattern", "react", "--from", "x.md"), "exclude each other"),
        ],
    )
    def test_mistakes_write_nothing(self, place: Place, args: tuple[str, ...], said: str) -> None:
        done = place.corral("agents", "new", *args)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert not (place.workspace / ".corral").exists()

    def test_a_name_that_is_taken_elsewhere_is_refused(self, place: Place) -> None:
        (place.workspace / "corral.toml").write_text("[agents.critic]\nfacts = 1\n")
        done = place.corral("agents", "new", "critic")
        assert (done.code, "already, in" in done.err) == (2, True)

    def test_it_is_not_written_through_a_link_out_of_the_project(
        self, place: Place, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (place.workspace / ".corral").symlink_to(outside)
        done = place.corral("agents", "new", "critic")
        assert (done.code, "leads out of" in done.err) == (2, True)
        assert list(outside.rglob("*.md")) == []


class TestFromAnotherProduct:
    def test_what_can_be_said_is_said_and_the_rest_is_told(self, place: Place) -> None:
        source = place.workspace / "theirs.md"
        source.write_text(CLAUDE)
        done = place.corral("agents", "new", "--from", str(source))
        assert done.code == 0, done.err
        path = path_of(place, "code-reviewer")
        made = corral.Agent.from_file(path)
        assert made.name == "code-reviewer"
        assert made.description.startswith("Use this agent when code is written. Examples:\n")
        assert made.tools == (
            "files__read_file",
            "files__search_files",
            "shell__run_command",
            "jira__search",
        )
        assert made.servers == ("files", "shell", "jira")
        assert made.policy is not None
        assert made.policy.name == "read-only"
        assert made.limits is not None
        assert made.limits.max_steps == 7
        assert str(made.instructions).endswith("1. Read the change.")
        for told in ("line by line", "tools: Task", "Bash(git diff:*)", "model: sonnet", "color"):
            assert told in done.err
        checked = place.corral("agents", "check", "code-reviewer")
        assert "there is no server 'jira'" in checked.out

    def test_it_may_get_another_name(self, place: Place) -> None:
        source = place.workspace / "theirs.md"
        source.write_text("---\nname: no\ntools: Read\nmodel: inherit\n---\nRead.\n")
        done = place.corral("agents", "new", "reader", "--from", str(source))
        assert (done.code, place.corral("agents", "check", "reader").code) == (0, 0)
        made = corral.Agent.from_file(path_of(place, "reader"))
        assert (made.name, made.tools, made.model) == ("reader", ("files__read_file",), None)

    def test_a_text_without_front_matter_becomes_the_instructions(self, place: Place) -> None:
        (place.workspace / "prompt.md").write_text("You write haiku.\n")
        assert place.corral("agents", "new", "--from", "prompt.md").code == 0
        made = corral.Agent.from_file(path_of(place, "prompt"))
        assert (made.name, made.instructions) == ("prompt", "You write haiku.")

    def test_tools_that_are_refused_become_rules(self, place: Place) -> None:
        (place.workspace / "x.md").write_text("---\ndisallowedTools: Write, Edit\n---\nx\n")
        assert place.corral("agents", "new", "--from", "x.md").code == 0
        policy = corral.Agent.from_file(path_of(place, "x")).policy
        assert policy is not None
        assert [(rule.tool, rule.action) for rule in policy.rules] == [
            ("files__write_file", "deny"),
            ("files__edit_file", "deny"),
        ]
