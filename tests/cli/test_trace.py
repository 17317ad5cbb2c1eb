"""`corral trace`: the tree, its filters, its figures, and following a run that goes on."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pexpect
import pytest

import corral
from tests.cli.place import Place
from tests.cli.runs import without_servers
from tests.runtime.agents import Turn, scripted, turn


def open_here(place: Place) -> corral.Settings:
    return corral.load_settings({"home": place.home, "workspace": place.workspace})


def line_with(text: str, shown: str) -> str:
    """The one line of an output that holds a text."""
    (line,) = [line for line in shown.splitlines() if text in line]
    return line


def both(*calls: tuple[str, dict[str, object]], text: str = "") -> Turn:
    return {"text": text, "tool_calls": [{"name": name, "args": args} for name, args in calls]}


@dataclass
class Team:
    """A lead that gives tasks to two sub-agents at once; one of them must ask a human."""

    paid: int = 0

    def agent(self) -> corral.Agent:
        @corral.tool(read_only=True)
        async def search(query: str) -> str:
            """Search."""
            if query == "nowhere":
                raise ValueError("there is no such place")
            await asyncio.sleep(0.03 if query == "slow" else 0)
            return f"found {query}\nin two lines {'x' * 300} END"

        def pay(amount: int) -> str:
            """Pay."""
            self.paid += amount
            return f"paid {amount}"

        look = both(
            ("functions__search", {"query": "quick"}),
            ("functions__search", {"query": "slow"}),
            ("functions__search", {"query": "nowhere"}),
            text="I look in three places.",
        )
        scout = scripted([look, turn("It is there.")], search, name="scout")
        buyer = scripted([turn("I pay.", pay={"amount": 3}), turn("Paid.")], pay, name="buyer")
        delegate = both(
            ("agents__scout", {"task": "Find it"}),
            ("agents__buyer", {"task": "Buy it"}),
            text="Two of us.",
        )
        return scripted([delegate, turn("All done.")], name="lead", agents=(scout, buyer))


@pytest.fixture(scope="module")
def team_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run of the team that was paused, approved and completed: made once."""
    base = tmp_path_factory.mktemp("team")
    (base / "work").mkdir()
    settings = corral.load_settings({"home": base / "home", "workspace": base / "work"})

    async def make() -> None:
        team = Team()
        async with corral.open(settings) as c:
            options = corral.RunOptions(agent=team.agent())
            paused = await c.run("Get it", options)
            assert paused.status == "paused"
            await c.approve(paused.approvals[0].id)
            done = await c.resume(paused.run, options)
            assert (done.status, team.paid) == ("completed", 3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRAL_HOME", str(base / "home"))
        asyncio.run(make())
    return base / "home"


@pytest.fixture
def team_run(place: Place, team_home: Path) -> str:
    """The run of the team, in this test's place."""
    shutil.copytree(team_home, place.home, dirs_exist_ok=True)
    (run,) = place.corral("runs", "--json").lines
    return str(run["run"])


def test_the_tree_shows_who_did_what(place: Place, team_run: str) -> None:
    shown = place.corral("trace", "last").out
    assert shown.startswith(f"run {team_run}  completed\n")
    assert "prompt  Get it" in shown
    assert "6 model calls" in shown
    branches = line_with("step 2  tools: 2 branches in parallel", shown)
    scout = line_with('branch 1  agent scout(task="Find it")', shown)
    buyer = line_with('branch 2  agent buyer(task="Buy it")', shown)
    inner = line_with("tools: 3 branches in parallel", shown)
    slow = line_with('branch 2  tool functions__search(query="slow")', shown)
    assert (
        branches.index("step") < scout.index("branch") < inner.index("step") < slow.index("branch")
    )
    assert scout.index("├─") == buyer.index("└─"), "siblings"
    order = [shown.index(line) for line in (branches, scout, inner, slow, buyer)]
    assert order == sorted(order), "what a sub-agent did hangs under it"
    assert re.search(r"approval functions__pay\(amount=3\)  approved", shown)
    assert "error" in line_with('branch 3  tool functions__search(query="nowhere")', shown)
    assert "ValueError: there is no such place" in shown
    assert "there is no such place" not in line_with("ValueError", shown).split("ValueError")[0]
    assert "found slow in two lines" in shown
    assert " END" not in shown, "a line each, unless --full"
    assert "output  All done." in shown
    assert "\x1b" not in shown


def test_figures_add_up(place: Place, team_run: str) -> None:
    shown = place.corral("trace", team_run).out
    entries = place.corral("trace", team_run, "--json").lines
    tokens = [sum(entry[f"{way}_tokens"] for entry in entries) for way in ("input", "output")]
    assert f"{tokens[0]}+{tokens[1]} tokens" in shown.splitlines()[1]
    (scout,) = [entry for entry in entries if entry["name"] == "scout" and entry["kind"] == "agent"]
    inside = [e for e in entries if e["path"].startswith(f"{scout['path']}/")]
    used = f"{sum(e['input_tokens'] for e in inside)}+{sum(e['output_tokens'] for e in inside)}"
    assert f"{used} tokens" in line_with("agent scout", shown)
    parts = line_with("waiting for a human", shown)
    assert sum(int(share) for share in re.findall(r"\((\d+)%\)", parts)) in range(97, 103)


def test_the_critical_path_is_marked(place: Place, team_run: str) -> None:
    """The buyer waited for a human while the scout was long done."""
    shown = place.corral("trace", team_run).out
    for on_it in ("agent buyer(", "approval functions__pay", "step 3  model"):
        assert any("◆" in line for line in shown.splitlines() if on_it in line), on_it
    for beside in ("agent scout(", 'tool functions__search(query="slow")'):
        assert "◆" not in line_with(beside, shown), beside
    assert "◆ on the critical path" in shown


def test_a_paused_run_says_what_can_be_done(place: Place) -> None:
    async def make() -> None:
        def pay(amount: int) -> str:
            """Pay."""
            return "paid"

        agent = scripted([turn("I pay.", pay={"amount": 3})], pay)
        async with corral.open(open_here(place)) as c:
            await c.run("Pay", corral.RunOptions(agent=agent))

    asyncio.run(make())
    (question,) = place.corral("approvals", "--json").lines
    result = place.corral("trace", "last")
    assert result.code == 0
    assert "waiting" in line_with("step 2  approval functions__pay(amount=3)", result.out)
    assert f"{question['id']} waits for an answer: functions__pay(amount=3)" in result.out
    assert f"corral approve {question['id']}" in result.out
    assert f"then go on: corral resume {question['run']}" in result.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--kind", "model"), {"model"}),
        (("--kind", "approval", "--kind", "agent"), {"approval", "agent"}),
        (("--tool", "*__pay"), {"tool", "approval"}),
        (("--tool", "functions__*", "--kind", "tool"), {"tool"}),
        (("--status", "failed"), {"tool"}),
        (("--status", "error", "--tool", "*search"), {"tool"}),
        (("--status", "finished", "--kind", "prepare"), {"prepare"}),
    ],
)
def test_filters(place: Place, team_run: str, options: tuple[str, ...], expected: set[str]) -> None:
    everything = place.corral("trace", team_run, "--json").lines
    found = place.corral("trace", team_run, "--json", *options).lines
    assert {entry["kind"] for entry in found} == expected
    assert 0 < len(found) < len(everything)
    shown = place.corral("trace", team_run, *options)
    assert f"{len(found)} of {len(everything)} effects shown" in shown.out
    if options[1] in ("failed", "error"):
        assert [entry["request"]["args"]["query"] for entry in found] == ["nowhere"]
        assert "agent scout" in shown.out, "where it belongs stays"
        assert "agent buyer" not in shown.out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--kind", "tol"), "--kind takes one of: prepare, model, tool"),
        (("--status", "ok"), "--status takes one of: finished, failed, error"),
        (("--tool", ""), "For example: --tool 'files__*'"),
        (("--kind", "model", "--tool", "x*"), "can match nothing"),
        (("--step",), "--step needs a terminal"),
        (("--step", "--json"), "stands alone"),
    ],
)
def test_a_bad_option_names_good_ones(place: Place, options: tuple[str, ...], told: str) -> None:
    result = place.corral("trace", "r-none", *options)
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_no_match_says_what_is_there(place: Place, team_run: str) -> None:
    result = place.corral("trace", team_run, "--tool", "files__*")
    assert (result.code, result.out) == (0, "")
    for told in ("No effect matches", "model (6)", "error (1)", "functions__search (3)"):
        assert told in result.err
    assert place.corral("trace", team_run, "--status", "waiting", "--json").out == ""


def test_the_whole_text_on_demand(place: Place, team_run: str) -> None:
    shown = place.corral("trace", team_run, "--full").out
    for whole in (
        f"in two lines {'x' * 300} END",
        "user: Find it",
        "→ agents__scout(",
        "tool agents__scout: It is there.",
        "query: nowhere",
        '"tool": "search"',
    ):
        assert whole in shown


def test_what_a_model_says_cannot_steer_the_terminal(place: Place) -> None:
    evil = "\x1b[2J\x1b]0;gotcha\x07 [bold]x[/bold] \u202egnp.exe"

    async def make() -> str:
        def look(where: str) -> str:
            """Look."""
            return evil

        agent = scripted([turn(evil, look={"where": evil}), turn(evil)], look, name="e\x1b[31m")
        rules = [{"tool": "*", "action": "allow"}]
        base = {"home": place.home, "workspace": place.workspace, "rules": rules}
        async with corral.open(corral.load_settings(base)) as c:
            return (await c.run(evil, corral.RunOptions(agent=agent))).run

    run = asyncio.run(make())
    for options in ((), ("--full",), ("--follow",), ("--kind", "tool")):
        shown = place.corral("trace", run, *options)
        assert shown.code == 0
        assert not {"\x1b", "\x07", "\u202e"} & set(shown.out + shown.err)
        assert "[bold]x[/bold]" in shown.out


def test_a_fork_says_where_it_parted(place: Place, team_home: Path, team_run: str) -> None:
    entries = place.corral("trace", team_run, "--json").lines
    last = entries[-1]["seq"]

    async def make() -> str:
        folders = {"home": place.home, "workspace": team_home.parent / "work"}
        async with corral.open(corral.load_settings(folders)) as c:
            fork = corral.Fork(at=last, result="Another end.")
            done = await c.fork(team_run, fork, corral.RunOptions(agent=Team().agent()))
            assert done.status == "completed"
            return done.run

    fork = asyncio.run(make())
    shown = place.corral("trace", fork).out
    assert f"fork of {team_run} at effect {last}; changed: result" in shown
    parted = line_with(f"── parted from {team_run} at effect {last}", shown)
    before, _, after = shown.partition(parted)
    assert "┊" in line_with("agent scout(", before)
    assert "◆" in line_with("step 3  model", after)
    assert "Another end." in after
    assert not re.search(r"\d ◆", before), "its own time began where it parted"


def test_what_is_damaged_is_marked_and_the_rest_shown(place: Place, team_run: str) -> None:
    with sqlite3.connect(place.home / "corral.db") as database:
        rows = database.execute(
            "select seq from effects where run_id = ? and name like '%search' order by seq",
            (team_run,),
        ).fetchall()
        torn, missing, odd = (seq for (seq,) in rows)
        change = "update effects set {} where run_id = ? and seq = ?"
        database.execute(change.format("""result = '{"text": "to'"""), (team_run, torn))
        database.execute(change.format(f"result_blob = '{'0' * 64}'"), (team_run, missing))
        database.execute(
            change.format("duration_ms = 'long', started_at = 'once', status = 'odd'"),
            (team_run, odd),
        )
    for options in ((), ("--full",), ("--follow",)):
        result = place.corral("trace", team_run, *options)
        assert result.code == 0, result.err
        assert result.out.count("damaged  ") + result.out.count("damaged\n") == 2
        assert f"content {'0' * 12} is missing" in result.out
        assert "odd" in result.out
        assert "All done." in result.out
    told = place.corral("trace", team_run, "--json").lines
    assert [set(e["result"]) for e in told if e["seq"] in (torn, missing)] == [{"damaged"}] * 2


@pytest.mark.slow
def test_a_narrow_terminal_and_a_wide_one(place: Place, team_run: str) -> None:
    def shown(columns: int, **env: str) -> str:
        argv = place.command("trace", team_run)
        child = pexpect.spawn(
            argv[0],
            argv[1:],
            env={**place.env, "TERM": "xterm-256color", "COLUMNS": str(columns), **env},
            encoding="utf-8",
            timeout=60,
            dimensions=(50, columns),
        )
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        return str(child.before)

    narrow = shown(60)
    plain = re.sub(r"\x1b\[[\d;]*m", "", narrow)
    lines = plain.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60
    assert any("approval functions__pay" in line for line in lines)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]m", narrow), "NO_COLOR is set here"
    wide = shown(140)
    assert re.search("█|▏", wide), "bars show when each effect ran"
    assert re.search("█|▏", plain) is None


@pytest.mark.slow
def test_a_long_run_begins_to_show_at_once(place: Place) -> None:
    """Thousands of effects: who reads the first lines does not wait for the last."""
    run = place.corral("run", "Look", "--json", "--model", place.model("read")).lines[-1]["run"]
    with sqlite3.connect(place.home / "corral.db") as database:
        columns = [row[1] for row in database.execute("pragma table_info(effects)")]
        kept = ", ".join(name for name in columns if name not in ("seq", "path"))
        database.execute(
            f"with recursive n(i) as (select 1 union all select i + 1 from n where i < 1500) "
            f"insert into effects (seq, path, {kept}) "
            f"select 100 + i, (3 + i) || '.model#0', {kept} from effects, n "
            "where run_id = ? and kind = 'model' and path like '1.%'",
            (run,),
        )
    began = time.process_time()
    whole = place.corral("trace", run)
    assert time.process_time() - began < 15, "milliseconds an effect, also on a slow machine"
    assert whole.out.count("model ") > 1500
    command = place.command("trace", run)
    with subprocess.Popen(command, env=place.env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"run {run}  completed\n"
        child.stdout.close()
        assert child.wait() == 1, "the reader has gone"


class Background:
    """A run in this process, beside the test. Its tool ends when ``gate`` is set."""

    def __init__(self, place: Place) -> None:
        self.gate = threading.Event()
        self.settings = open_here(place)
        self._thread: threading.Thread | None = None

    def agent(self) -> corral.Agent:
        @corral.tool(read_only=True)
        async def watch() -> str:
            """Watch."""
            await asyncio.to_thread(self.gate.wait, 60)
            return "seen"

        def pay() -> str:
            """Pay."""
            return "paid"

        turns = [turn("I watch.", watch={}), turn("I pay.", pay={}), turn("Well done.")]
        return scripted(turns, watch, pay)

    def start(self, resume: str = "") -> None:
        async def work() -> None:
            async with corral.open(self.settings) as c:
                options = corral.RunOptions(agent=self.agent())
                await (c.resume(resume, options) if resume else c.run("Watch", options))

        self._thread = threading.Thread(target=lambda: asyncio.run(work()))
        self._thread.start()

    def end(self) -> None:
        self.gate.set()
        if self._thread is not None:
            self._thread.join(60)


@pytest.fixture
def background(place: Place) -> Iterator[Background]:
    """A run that has begun, and waits for its tool."""
    run = Background(place)
    run.start()
    while "functions__watch" not in place.corral("trace", "last", "--kind", "tool").out:
        time.sleep(0.02)
    yield run
    run.end()


def following(place: Place, *options: str) -> subprocess.Popen[str]:
    argv = place.command("trace", "last", "--follow", *options)
    return subprocess.Popen(
        argv,
        env={**place.env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_to(child: subprocess.Popen[str], text: str) -> str:
    """Read lines until one holds a text."""
    assert child.stdout is not None
    read = ""
    for line in child.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} did not come: {read}")


@pytest.mark.slow
def test_ctrl_c_ends_only_the_following(place: Place, background: Background) -> None:
    with following(place) as child:
        read_to(child, "I watch.")
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "no longer following" in told
    going_on = place.corral("trace", "last").out
    assert "running" in going_on.splitlines()[0]
    assert "watch: corral trace r-" in going_on


def test_following_to_a_question_and_to_the_end(place: Place, background: Background) -> None:
    """First to the question, and after the answer to the end."""
    with following(place, "--kind", "tool", "--kind", "approval") as child:
        before = read_to(child, "prompt  Watch")
        background.gate.set()
        told, _ = child.communicate(timeout=60)
    assert child.returncode == 3
    assert "seen" not in before
    assert "seen" in told
    assert "waiting" in line_with("approval functions__pay", told)
    assert "I watch." not in told, "it is filtered"
    assert "then go on: corral resume r-" in told
    background.end()

    (question,) = place.corral("approvals", "--json").lines
    place.corral("approve", question["id"])
    background.start(question["run"])
    background.end()
    with following(place, "--json") as child:
        objects, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    entries = [json.loads(line) for line in objects.splitlines()]
    assert sorted(e["seq"] for e in entries) == list(range(1, len(entries) + 1))
    assert "critical path: effects" in place.corral("trace", "last", "--follow").out


def test_each_change_is_told_once(place: Place, background: Background) -> None:
    with following(place, "--json", "--kind", "tool") as child:
        first = json.loads(read_to(child, "functions__watch"))
        background.gate.set()
        rest, _ = child.communicate(timeout=60)
    told = [first, *map(json.loads, rest.splitlines())]
    assert [(entry["name"], entry["status"]) for entry in told] == [
        ("functions__watch", "started"),
        ("functions__watch", "finished"),
    ]
    assert child.returncode == 3


@pytest.mark.slow
def test_following_a_run_that_is_killed(place: Place) -> None:
    without_servers(place)
    argv = place.command("run", "Talk", "--json", "--model", place.model("slow"))
    with subprocess.Popen(argv, env=place.env, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if json.loads(line)["type"] == "text":
                break
        with following(place, "--json") as child:
            read_to(child, '"kind": "model"')
            running.kill()
            told, _ = child.communicate(timeout=60)
    assert (child.returncode, told) == (1, "")
    shown = place.corral("trace", "last", "--follow")
    assert shown.code == 1
    assert "cut off" in shown.out.splitlines()[0]
    assert "started" in line_with("step 1  model", shown.out)
    assert "nobody runs it; go on: corral resume r-" in shown.out


@pytest.mark.slow
def test_nothing_heavy_is_imported(place: Place) -> None:
    run = place.corral("run", "Hi", "--json", "--model", place.model("hello")).lines[-1]["run"]
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        f"codes = [invoke(['trace', '{run}', *more.split()]) for more in "
        "('--full', '--follow --kind model')]\n"
        "import corral.cli.trace.step\n"
        "heavy = ('langgraph', 'langchain', 'langchain_core', 'openai', 'anthropic', 'mcp')\n"
        "sys.exit(repr([name for name in heavy if name in sys.modules] + codes))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "[0, 0]"
