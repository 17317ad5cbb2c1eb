"""Agents in Markdown: what front matter may say, and mistakes with line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.agents.files.markdown import AgentFile, read_markdown

FILE = Path("reviewer.md")


def read(front: str, body: str = "Review it.") -> AgentFile:
    return read_markdown(f"---\n{front}\n---\n{body}\n", FILE)


def said(front: str) -> dict[str, object]:
    config = read(front).config
    assert config is not None
    return config.model_dump(exclude_defaults=True, exclude={"instructions"})


def only_problem(front: str) -> tuple[int | None, str, str, str]:
    (problem,) = read(front).problems
    return problem.line, problem.key, problem.message, problem.hint


class TestAnAgent:
    def test_is_what_the_front_matter_says_and_the_body_instructs_it(self) -> None:
        found = read("name: critic\ndescription: Looks for mistakes.\nbudget: {tokens: 500}")
        assert (found.name, found.problems) == ("critic", ())
        assert found.config is not None
        assert found.config.instructions == "Review it."
        assert found.config.description == "Looks for mistakes."
        assert found.config.budget is not None
        assert found.config.budget.tokens == 500

    def test_is_called_as_its_file_and_needs_nothing_else(self) -> None:
        assert read("").name == "reviewer"
        found = read("", body="")
        assert found.config is not None
        assert found.config.instructions is None

    @pytest.mark.parametrize(
        "written",
        [
            "tools: files__read_file, web__fetch",
            "tools: [files__read_file, web__fetch]",
            "tools:\n- files__read_file\n- web__fetch",
            "tools: Read, WebFetch",
            "tools: [Read, mcp__web__fetch]",
        ],
    )
    def test_names_tools_as_a_list_in_any_form(self, written: str) -> None:
        assert said(written) == {"tools": ("files__read_file", "web__fetch")}

    def test_has_all_tools_where_the_file_says_so(self) -> None:
        assert said('tools: "*"') == {}

    @pytest.mark.parametrize(
        ("written", "kept"),
        [
            ("model: inherit", {}),
            ("model: 4.1", {"model": "4.1"}),
            ("model: [openai:a, local]", {"model": "openai:a | local"}),
            ("description: no", {"description": "no"}),
            ("agents: [007, yes]", {"agents": ("007", "yes")}),
            ("agents: reader, writer", {"agents": ("reader", "writer")}),
            ("policy: read-only", {"policy": {"name": "read-only"}}),
            (
                "options: {deep: no, level: 2, tag: 2026-01-01}",
                {"options": {"deep": "no", "level": 2, "tag": "2026-01-01"}},
            ),
        ],
    )
    def test_says_texts_as_texts(self, written: str, kept: dict[str, object]) -> None:
        assert said(written) == kept

    def test_may_have_rules_for_a_policy(self) -> None:
        found = read("policy:\n- {tool: web__*, action: deny}")
        assert found.config is not None
        assert found.config.policy is not None
        assert [rule.to_json() for rule in found.config.policy.rules] == [
            {"tool": "web__*", "action": "deny"}
        ]


class TestAMistake:
    @pytest.mark.parametrize(
        ("front", "line", "key", "message", "hint"),
        [
            ("descripton: x", 2, "descripton", "no such key", "Did you mean 'description'?"),
            ("a: 1", 2, "a", "no such key", "The keys are: name, instructions"),
            ("color: red", 2, "color", "no such key", "take the line out"),
            ("maxTurns: 5", 2, "maxTurns", "no such key", "limits: {max_steps: N}"),
            ("temperature: 1", 2, "temperature", "no such key", "belongs under `sampling:`"),
            ("budget:", 2, "budget", "nothing is written there", "leave the line out"),
            ("name: my agent", 2, "name", "'my agent' cannot be", "as in `name: my-agent`"),
            ("name: ../x", 2, "name", "'../x' cannot be", "as in `name: x`"),
            ("tools: Task", 2, "tools", "'Task' is not a tool", "`agents:`"),
            ("tools: read", 2, "tools", "'read' is not a tool", "Write files__read_file"),
            ("tools: frobnicate", 2, "tools", "is not a tool", "SERVER__TOOL"),
            ("tools: Bash(git:*)", 2, "tools", "'Bash(git:*)' is not", "shell__run_command"),
            ("tools: mcp__jira", 2, "tools", "'mcp__jira' is not", "`servers:` (jira)"),
            ("tools: [[x]]", 2, "tools.0", "valid string", "what may stand there"),
            ("model: sonnet", 2, "model", "'sonnet' is not a model", "anthropic:NAME"),
            ("instructions: x", 2, "instructions", "below the front matter", "Keep one"),
            ("sampling:\n  temprature: 1", 3, "sampling.temprature", "no such key", "temperature"),
            ("sampling: {temperature: 9}", 2, "sampling.temperature", "less than or equal", ""),
            ("facts: many", 2, "facts", "valid integer", ""),
            ("policy:\n- tool: x", 3, "policy.0.action", "field required", ""),
            ("policy: [{tool: 5, action: ask}]", 2, "policy.0.tool", "string", "into quotes"),
        ],
    )
    def test_is_told_with_its_place_and_what_to_write(
        self, front: str, line: int, key: str, message: str, hint: str
    ) -> None:
        found = only_problem(front)
        assert (found[0], found[1]) == (line, key)
        assert message in found[2]
        assert hint in found[3]

    def test_is_told_with_all_others_in_their_order(self) -> None:
        found = read("colour: x\nmodel: opus\nfacts: -1\ntools: Read, Task, Skill")
        assert [problem.line for problem in found.problems] == [2, 3, 4, 5, 5]
        assert found.config is None
        error = found.problems[0].error(others=4)
        assert str(error).startswith("reviewer.md, line 2: colour: there is no such key. There are")

    def test_of_the_whole_file_has_its_line(self) -> None:
        found = read_markdown("---\ndescription: Use it when: asked\n---\n", FILE)
        assert (found.name, found.problems[0].line) == ("reviewer", 2)
        assert "stands in quotes" in found.problems[0].hint
