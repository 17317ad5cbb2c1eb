"""Agents in folders: who wins, what a project's file may not do, and files that are no agents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import corral
from corral.agents.files.catalog import Catalog, find_agents, project_folder, user_folder
from corral.errors import ConfigError, NotFoundError
from corral.runtime.config import load_settings, user_file

AGENT = "---\ndescription: {}\n---\nDo it.\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def in_project(workspace: Path, name: str, text: str) -> Path:
    return write(project_folder(workspace) / name, text)


def found() -> Catalog:
    return find_agents(load_settings())


def problem_of(name: str) -> str:
    entry = found().find(name)
    assert entry is not None
    assert entry.config is None
    with pytest.raises(ConfigError) as raised:
        entry.require()
    assert raised.value.hint
    return str(raised.value)


def described(name: str) -> str:
    entry = found().find(name)
    assert entry is not None
    return entry.require().description


class TestWhichOne:
    def test_there_is_always_the_assistant(self, workspace: Path) -> None:
        assert found().names == ("assistant",)
        in_project(workspace, "assistant.md", AGENT.format("mine"))
        assert described("assistant") == "mine"

    def test_the_users_own_is_never_replaced_by_the_projects(self, workspace: Path) -> None:
        in_project(workspace, "critic.md", AGENT.format("the project's"))
        assert described("critic") == "the project's"
        write(user_folder() / "critic.md", AGENT.format("my own"))
        assert described("critic") == "my own"
        (unused,) = found().unused
        assert "of your own" in unused.problems[0].message

    def test_nor_is_one_of_the_users_configuration(self, workspace: Path) -> None:
        in_project(workspace, "critic.md", AGENT.format("the project's"))
        write(user_file(), '[agents.critic]\ndescription = "configured"\n')
        assert described("critic") == "configured"

    @pytest.mark.parametrize("owner", ["user", "project"])
    def test_two_of_one_owner_are_an_error_of_that_agent_alone(
        self, workspace: Path, owner: str
    ) -> None:
        folder = user_folder() if owner == "user" else project_folder(workspace)
        toml = user_file() if owner == "user" else workspace / "corral.toml"
        write(folder / "critic.md", AGENT.format("one"))
        write(folder / "writer.md", AGENT.format("fine"))
        write(toml, '[agents.critic]\ndescription = "two"\n')
        said = problem_of("critic")
        assert str(folder / "critic.md") in said
        assert str(toml) in said
        assert described("writer") == "fine"

    def test_two_files_may_not_have_one_name(self, workspace: Path) -> None:
        in_project(workspace, "a.md", "---\nname: critic\n---\n")
        in_project(workspace, "b.md", "---\ndescription: x\nname: critic\n---\n")
        assert "b.md, line 3: name: there are 2 agents called 'critic'" in problem_of("critic")

    def test_other_files_are_left_alone(self, workspace: Path) -> None:
        for name in (".hidden.md", "notes.txt", "critic.md.bak", "sub/deep.md"):
            in_project(workspace, name, "no agent")
        assert found().names == ("assistant",)


class TestAProjectsFile:
    @pytest.mark.parametrize(
        ("front", "said"),
        [
            ("loops: {max_polls: 9}", "line 2: loops: a project's file may not say this"),
            ("policy: /tmp/loose.toml", "line 2: policy (other than rules, and read-only"),
            ("policy: {name: ../x.toml}", "a project's file may not say this"),
        ],
    )
    def test_may_say_what_its_corral_toml_may_say(
        self, workspace: Path, front: str, said: str
    ) -> None:
        in_project(workspace, "critic.md", f"---\n{front}\n---\n")
        assert said in problem_of("critic")

    def test_may_narrow_by_a_preset_or_by_rules(self, workspace: Path) -> None:
        in_project(workspace, "a.md", "---\npolicy: read-only\n---\n")
        in_project(workspace, "b.md", "---\npolicy: [{tool: x, action: deny}]\n---\n")
        assert all(entry.config is not None for entry in found().entries)

    def test_of_the_users_own_folder_may_name_a_policy_file_beside_it(
        self, workspace: Path
    ) -> None:
        write(user_folder() / "critic.md", "---\npolicy: strict.toml\n---\n")
        entry = found().find("critic")
        assert entry is not None
        policy = entry.require().policy
        assert policy is not None
        assert policy.name == str(user_folder() / "strict.toml")

    def test_is_not_read_through_a_link_out_of_the_project(
        self, workspace: Path, tmp_path: Path
    ) -> None:
        outside = write(tmp_path / "outside.md", AGENT.format("x"))
        in_project(workspace, "inside.md", AGENT.format("fine"))
        (project_folder(workspace) / "out.md").symlink_to(outside)
        (project_folder(workspace) / "near.md").symlink_to("inside.md")
        assert "leads out of" in problem_of("out")
        assert described("near") == "fine"

    def test_is_not_read_in_a_folder_that_is_such_a_link(
        self, workspace: Path, tmp_path: Path
    ) -> None:
        write(tmp_path / "elsewhere" / "out.md", AGENT.format("x"))
        (workspace / ".corral").mkdir()
        (workspace / ".corral" / "agents").symlink_to(tmp_path / "elsewhere")
        assert "leads out of" in problem_of("out")

    def test_of_the_users_own_may_be_a_link(self, workspace: Path, tmp_path: Path) -> None:
        user_folder().mkdir(parents=True)
        (user_folder() / "mine.md").symlink_to(write(tmp_path / "x.md", AGENT.format("linked")))
        assert described("mine") == "linked"


class TestAFileThatIsNoAgent:
    def test_is_an_error_of_its_own_and_of_no_other(self, workspace: Path) -> None:
        folder = project_folder(workspace)
        in_project(workspace, "good.md", AGENT.format("fine"))
        in_project(workspace, "empty.md", "")
        in_project(workspace, "huge.md", "x" * 300_000)
        (folder / "latin.md").write_bytes(b"---\ndescription: caf\xe9\n---\n")
        (folder / "folder.md").mkdir()
        os.mkfifo(folder / "pipe.md")
        (folder / "gone.md").symlink_to("nowhere")
        (folder / "round.md").symlink_to("round.md")
        said = {name: problem_of(name) for name in found().names if name not in _GOOD}
        assert "the file is empty" in said.pop("empty")
        assert "larger than 256 KiB" in said.pop("huge")
        assert "not a UTF-8 text file" in said.pop("latin")
        assert "not a file" in said.pop("pipe")
        assert "cannot be read" in said.pop("gone")
        assert sorted(said) == ["folder", "round"]
        assert described("good") == "fine"

    def test_of_very_many_only_some_are_read_and_it_is_told(self, workspace: Path) -> None:
        for number in range(105):
            in_project(workspace, f"a{number:03}.md", "---\n---\n")
        catalog = found()
        assert len(catalog.entries) == 101
        assert "of 105 files only the first 100 are read" in catalog.problems[0].message


_GOOD = ("assistant", "good")


class TestARun:
    async def test_uses_the_agent_and_its_team(self, workspace: Path) -> None:
        in_project(
            workspace,
            "lead.md",
            "---\nservers: []\nagents: reader\nfacts: 0\nmodel: scripted:lead.yaml\n---\nLead.\n",
        )
        in_project(
            workspace,
            "reader.md",
            "---\nservers: []\nfacts: 0\nmodel: scripted:reader.yaml\n---\nRead.\n",
        )
        call = '{name: agents__reader, args: {task: "Read."}}'
        write(workspace / "lead.yaml", f"- tool_calls: [{call}]\n- text: Done.\n")
        write(workspace / "reader.yaml", "- text: I have read it.\n")
        async with corral.open(load_settings()) as c:
            done = await c.run("Go.", corral.RunOptions(agent="lead"))
            assert done.output == "Done."
            trace = await c.records.trace(done.run)
            assert "I have read it." in str([view.result for view in trace])
            with pytest.raises(NotFoundError, match="no agent 'raeder'") as missing:
                await c.run("Go.", corral.RunOptions(agent="raeder"))
            assert "Did you mean 'reader'?" in missing.value.hint

    async def test_takes_a_file_that_the_user_names(self, workspace: Path) -> None:
        write(workspace / "hello.yaml", "- text: Hello.\n")
        file = write(
            workspace / "greeter.md",
            "---\nservers: []\nloops: {enabled: false}\nmodel: scripted:hello.yaml\n---\nGreet.\n",
        )
        async with corral.open(load_settings()) as c:
            done = await c.run("Hi.", corral.RunOptions(agent="./greeter.md"))
            assert done.output == "Hello."
        agent = corral.Agent.from_file(file)
        assert (agent.name, agent.instructions) == ("greeter", "Greet.")
        with pytest.raises(ConfigError, match="cannot be read"):
            corral.Agent.from_file(workspace / "nowhere.md")

    async def test_a_team_names_agents_and_no_files(self, workspace: Path) -> None:
        write(workspace / "evil.md", AGENT.format("x"))
        in_project(workspace, "lead.md", "---\nagents: [./evil.md]\n---\n")
        async with corral.open(load_settings()) as c:
            with pytest.raises(NotFoundError, match=r"no agent './evil\.md'"):
                await c.run("Go.", corral.RunOptions(agent="lead"))

    async def test_a_broken_file_is_in_nobody_elses_way(self, workspace: Path) -> None:
        write(workspace / "hello.yaml", "- text: Hello.\n")
        in_project(workspace, "broken.md", "---\ntols: x\n---\n")
        async with corral.open(load_settings({"model": "scripted:hello.yaml"})) as c:
            assert (await c.run("Hi.")).status == "completed"
            with pytest.raises(ConfigError, match=r"broken\.md, line 2: tols: there is no such"):
                await c.run("Hi.", corral.RunOptions(agent="broken"))

    async def test_keeps_its_agent_and_a_replay_says_that_the_file_has_changed(
        self, workspace: Path
    ) -> None:
        write(workspace / "hello.yaml", "- text: Hello.\n")
        file = in_project(workspace, "greeter.md", "---\nservers: []\n---\nGreet.\n")
        settings = load_settings({"model": "scripted:hello.yaml"})
        async with corral.open(settings) as c:
            done = await c.run("Hi.", corral.RunOptions(agent="greeter"))
            assert (await c.replay(done.run)).changed == ()
            file.write_text("---\nservers: []\n---\nGreet politely.\n")
            report = await c.replay(done.run)
            assert report.status == "identical"
            assert report.changed == (f"the agent's file {file}",)
            file.unlink()
            report = await c.replay(done.run)
            assert report.changed == (f"the agent's file {file} cannot be read any more",)
