"""``corral policy``: decisions explained, tables of cases run, rules looked through and shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral.agents.memory_tools import MemoryTools
from corral.cli.policy.known import Tools
from corral.memory.store import MemoryStore
from corral.runtime.config import load_settings
from corral.runtime.migrate import open_database
from tests.cli.place import Place

RULES = """\
[[rules]]
tool = "files__write_file"
args = {path = "reports/**"}
action = "allow"
reason = "reports are free"

[[rules]]
tool = "files__edit_file"
action = "deny"
"""


@pytest.fixture
def ruled(place: Place) -> Place:
    """A place with a project's rules."""
    (place.workspace / "corral.toml").write_text(RULES)
    return place


def path_args(path: str) -> tuple[str, str]:
    return "--args", f'{{"path": "{path}", "content": "x"}}'


class TestCheck:
    def test_it_says_which_rule_in_which_line_and_what_would_change_it(self, ruled: Place) -> None:
        done = ruled.corral("policy", "check", "files__write_file", *path_args("a.md"))
        file = ruled.workspace / "corral.toml"
        assert done.code == 0
        assert done.out.startswith("ask: files__write_file")
        assert f"rule 1 of corral.toml ({file}, line 1)" in done.out
        assert "wants: path is reports/**; here: path is a.md; it would be: allow" in done.out
        assert "user (ask): no rule matches" in done.out
        allowed = ruled.corral("policy", "check", "files__write_file", *path_args("reports/a"))
        assert allowed.out.startswith("allow: files__write_file")
        assert "reports are free" in allowed.out

    def test_it_is_json_for_machines(self, ruled: Place) -> None:
        args = path_args("reports/a")
        (told,) = ruled.corral("policy", "check", "files__write_file", *args, "--json").lines
        assert told["decision"]["action"] == "allow"
        assert told["decision"]["source"].endswith("corral.toml, line 1")

    @pytest.mark.parametrize(
        ("options", "action"),
        [
            ((), "ask"),
            (("--policy", "read-only"), "deny"),
            (("--policy", "trusted"), "allow"),
            (("--policy", "trusted", "--untrusted"), "ask"),
            (("--policy", "trusted", "--rule", '{tool = "mail__*", action = "deny"}'), "deny"),
            (("--rule", '{agent = "clerk", action = "deny"}', "--agent", "clerk"), "deny"),
            (("--rule", '{depth = {min = 1}, action = "deny"}', "--depth", "2"), "deny"),
            (("--rule", '{depth = {min = 1}, action = "deny"}'), "ask"),
            (("--rule", '{private = true, action = "deny"}', "--private"), "deny"),
            (
                ("--rule", '{after = "18:00", action = "deny"}', "--at", "2027-01-31T19:00"),
                "deny",
            ),
            (
                ("--rule", '{from_user = ["to"], action = "allow"}', "--said", "Mail a@b.c."),
                "allow",
            ),
            (("--read-only", "--no-open-world"), "allow"),
        ],
    )
    def test_the_facts_count(self, place: Place, options: tuple[str, ...], action: str) -> None:
        done = place.corral("policy", "check", "mail__send", "--args", '{"to": "a@b.c"}', *options)
        assert done.out.startswith(f"{action}: mail__send"), done.err

    def test_links_are_followed_as_a_run_follows_them(self, ruled: Place) -> None:
        (ruled.workspace / "reports").mkdir()
        (ruled.workspace / "reports" / "out").symlink_to("/etc")
        done = ruled.corral("policy", "check", "files__write_file", *path_args("reports/out/x"))
        assert done.out.startswith("ask: ")

    def test_a_call_of_a_run_is_explained_as_it_was_made(self, place: Place) -> None:
        run = place.corral("run", "Write.", "--model", place.model("write"), "--json")
        assert run.code == 3
        name = str(run.lines[-1]["run"])
        calls = [e for e in place.corral("trace", name, "--json").lines if e["kind"] == "approval"]
        seq = str(calls[0]["seq"])
        done = place.corral("policy", "check", "--run", name, "--at", seq, "--policy", "workspace")
        assert done.out.startswith('allow: files__write_file {"content":"one\\ntwo\\n"')
        missing = place.corral("policy", "check", "--run", name, "--at", "999")
        assert (missing.code, "has no tool call at 999" in missing.err) == (2, True)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "There is no call to check"),
            (("x__y", "--args", "{"), "--args is not JSON"),
            (("x__y", "--args", "[]"), "not a JSON object"),
            (("x__y", "--at", "noon"), "'noon' is no time"),
            (("x__y", "--rule", "{tool = 5}"), "--rule: rule 1 has no action"),
            (("x__y", "--policy", "asks"), "There is no policy 'asks'"),
            (("--run", "r"), "--run needs --at N"),
        ],
    )
    def test_mistakes_say_what_to_write(
        self, place: Place, options: tuple[str, ...], said: str
    ) -> None:
        done = place.corral("policy", "check", *options)
        assert done.code == 2
        assert said in done.err
        assert "\n  " in done.err


class TestTest:
    def cases(self, place: Place, expect: str) -> Path:
        file = place.workspace / "cases.toml"
        file.write_text(
            'policy = "strict.toml"\n\n[[cases]]\nname = "a report"\ntool = "files__write_file"\n'
            f'args = {{path = "reports/a.md"}}\nexpect = "{expect}"\n'
        )
        (place.workspace / "strict.toml").write_text('preset = "read-only"\n')
        return file

    def test_all_as_expected(self, ruled: Place) -> None:
        done = ruled.corral("policy", "test", str(self.cases(ruled, "deny")))
        assert (done.code, done.out) == (0, "")
        assert "1 of 1 cases are as expected" in done.err

    def test_what_differs_is_shown_and_fails(self, ruled: Place) -> None:
        file = self.cases(ruled, "allow")
        done = ruled.corral("policy", "test", str(file))
        assert done.code == 1
        assert f"{file}, line 3: a report" in done.out
        assert "allow was expected, but it is deny" in done.out
        other = ruled.corral("policy", "test", str(file), "--policy", "ask", "--json")
        assert (other.code, other.lines[0]["ok"]) == (0, True)

    def test_a_missing_file_is_a_mistake(self, place: Place) -> None:
        done = place.corral("policy", "test", "none.toml")
        assert (done.code, "none.toml cannot be read" in done.err) == (2, True)


class TestLint:
    def test_what_holds_here_is_looked_through(self, ruled: Place) -> None:
        clean = ruled.corral("policy", "lint")
        assert (clean.code, clean.err) == (0, "No problems found.\n")
        file = ruled.workspace / "corral.toml"
        file.write_text(RULES + '\n[[rules]]\ntool = "files__edit_file"\naction = "deny"\n')
        done = ruled.corral("policy", "lint")
        assert done.code == 1
        assert f"{file}, line 11: rule 3 of corral.toml is the same as rule 2" in done.out
        assert "Remove one of them." in done.out

    def test_a_file_that_cannot_be_understood_is_a_problem(self, place: Place) -> None:
        file = place.workspace / "team.toml"
        file.write_text('[[rules]]\nacton = "deny"\n')
        (problem,) = place.corral("policy", "lint", "team.toml", "--json").lines
        assert problem["kind"] == "broken"
        assert f"{file}, line 2" in problem["message"]
        (place.workspace / "corral.toml").write_text("rules = 5\n")
        assert place.corral("policy", "lint").code == 1

    def test_names_that_are_not_here_are_problems_unless_they_are_known(self, place: Place) -> None:
        (place.workspace / "team.toml").write_text(
            '[[rules]]\nserver = "bank"\nagent = "clerk"\naction = "deny"\n'
        )
        done = place.corral("policy", "lint", "team.toml")
        assert done.code == 1
        assert '"bank" that is not here' in done.out
        known = ("--known", "bank", "--known", "clerk")
        assert place.corral("policy", "lint", "team.toml", *known).code == 0


class TestShow:
    def test_every_layer_with_its_rules(self, ruled: Place) -> None:
        rule = '{tool = "x__y", action = "ask"}'
        done = ruled.corral("policy", "show", "--policy", "read-only", "--rule", rule)
        assert done.code == 0
        order = ["built in", "organisation: nothing", "project:", "user:", "session:"]
        positions = [done.out.index(text) for text in order]
        assert positions == sorted(positions)
        assert "allow files__write_file where path is reports/** and it is sandboxed" in done.out
        assert "rule 1 of the session: ask x__y" in done.out
        assert "standing answers: none" in done.out

    def test_standing_answers_are_shown(self, place: Place) -> None:
        place.corral("run", "Write.", "--model", place.model("write"))
        assert place.corral("approve", "last", "--always").code == 0
        lines = place.corral("policy", "show", "--json").lines
        assert [line["layer"] for line in lines] == ["standing"]


def test_a_rule_of_the_session_holds_for_a_run(place: Place) -> None:
    rule = '{tool = "files__write_file", action = "deny", reason = "not now"}'
    done = place.corral("run", "Write.", "--model", place.model("write"), "--rule", rule)
    assert done.code == 0
    assert not (place.workspace / "notes.txt").exists()
    assert "not now" in place.corral("trace", "last", "--json").out


async def test_what_is_known_of_the_memory_s_tools_is_what_they_say(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'x.db'}")
    specs = await MemoryTools(MemoryStore(database), "a").list_tools()
    await database.aclose()
    tools = Tools(load_settings())
    for spec in specs:
        known = tools.find(spec.name)
        hints = ("read_only", "destructive", "idempotent", "open_world")
        assert all(getattr(known, hint) == getattr(spec, hint) for hint in hints)


@pytest.mark.slow
def test_no_graph_engine_is_loaded_to_look_at_policies(ruled: Place) -> None:
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        "invoke(['policy', 'check', 'files__read_file'])\n"
        "invoke(['policy', 'lint'])\n"
        "heavy = ('langgraph', 'langchain_core', 'mcp', 'openai', 'tree_sitter')\n"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ruled.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
