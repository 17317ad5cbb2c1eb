"""``corral export`` and ``corral import``: runs that leave this machine and come in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.place import SCRIPTS, Place, Result


@dataclass(frozen=True)
class Made:
    """A home with runs: one that writes a file, and two of one thread."""

    home: Path
    write: str
    hello: str
    again: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    scripts = folder / "scripts"
    scripts.mkdir()
    for name, text in SCRIPTS.items():
        (scripts / f"{name}.yaml").write_text(text)
    place = Place(folder / "home", folder, scripts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CORRAL_HOME", str(place.home))
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        patch.chdir(folder)
        write = _run(place, "write", "--policy", "workspace")
        hello = _run(place, "hello")
        thread = place.corral("runs", "--json", "--limit", "1").lines[0]["thread"]
        again = _run(place, "again", "--thread", str(thread))
    return Made(place.home, write, hello, again)


def _run(place: Place, script: str, *options: str) -> str:
    done = place.corral("run", "Write it down", "--model", place.model(script), *options)
    assert done.code == 0, done.err
    return str(place.corral("runs", "--json", "--limit", "1").lines[0]["run"])


@pytest.fixture
def stocked(place: Place, made: Made) -> Place:
    """A place with those runs."""
    shutil.copytree(made.home, place.home, dirs_exist_ok=True)
    return place


def elsewhere(place: Place, *args: str) -> Result:
    """A command on another machine: its database and its workspace are others."""
    folder = place.home.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    home = place.home.parent / "other-home"
    return place.corral("--home", str(home), "--workspace", str(folder), *args)


def test_a_format_must_be_named(place: Place) -> None:
    done = place.corral("export", "r-0")
    assert done.code == 2
    for name in ("--html", "--jsonl", "--otlp", "--test", "--eval-case"):
        assert name in done.err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--test", "--scrub"], "--test needs the content"),
        (["--eval-case", "--scrub"], "--eval-case needs the content"),
        (["--jsonl", "--endpoint", "http://127.0.0.1:9"], "Add --otlp"),
        (["--jsonl", "--html", "-o", "-"], "one format"),
        (["--test", "-o", "-"], "one format"),
        (["--jsonl"], "There is no run 'r-0'"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Place, args: list[str], said: str) -> None:
    done = place.corral("export", "r-0", *args)
    assert done.code == 2
    assert said in done.err
    assert list(place.workspace.iterdir()) == [place.workspace / "orders.csv"]


def test_a_run_goes_to_another_machine(stocked: Place, made: Made) -> None:
    run = made.write
    name = f"run-{run.removeprefix('r-')}.jsonl"
    done = stocked.corral("export", run, "--jsonl")
    assert (done.code, done.err) == (0, f"wrote {name} (5 effects)\n")
    again = stocked.corral("export", run, "--jsonl")
    assert again.code == 2
    assert f"{name} is there already" in again.err
    assert "--force" in again.err
    assert stocked.corral("export", run, "--jsonl", "--force").code == 0

    taken = elsewhere(stocked, "import", name, "--json")
    assert taken.code == 0, taken.err
    (found,) = taken.lines
    assert (found["run"], found["new"], found["effects"]) == (run, True, 5)
    assert "imported before" in elsewhere(stocked, "import", name).err
    assert (
        elsewhere(stocked, "trace", run, "--json").lines
        == stocked.corral("trace", run, "--json").lines
    )
    replayed = elsewhere(stocked, "replay", run, "--json")
    assert replayed.lines[0]["status"] == "identical"
    resumed = elsewhere(stocked, "resume", run)
    assert resumed.code == 2
    assert "corral fork" in resumed.err
    assert stocked.corral("import", name).code == 0, "also where it was made, under another id"
    assert len(stocked.corral("runs", "--json").lines) == 4


def test_a_thread_that_went_on_goes_with_its_past(stocked: Place, made: Made) -> None:
    assert stocked.corral("export", made.again, "--jsonl", "-o", "two.jsonl").code == 0
    assert "Hello there, friend." in Path("two.jsonl").read_text()
    assert elsewhere(stocked, "import", "two.jsonl").code == 0
    replayed = elsewhere(stocked, "replay", made.again, "--json")
    assert replayed.lines[0]["status"] == "identical"
    assert [line["run"] for line in elsewhere(stocked, "runs", "--json").lines] == [made.again]


@pytest.mark.slow
def test_a_pipe_carries_a_run(stocked: Place, made: Made) -> None:
    """And neither end imports a graph engine for a run that began its thread."""
    run = made.hello
    code = (
        "import sys; from corral.cli.main import invoke; code = invoke(sys.argv[1:]); "
        "print('langgraph.graph' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    start = [sys.executable, "-c", code]
    env = {**stocked.env, "CORRAL_HOME": str(stocked.home)}
    out = subprocess.run(
        [*start, "export", run, "--jsonl", "-o", "-"], env=env, capture_output=True, check=True
    )
    assert out.stderr == b"False\n"
    other = {**env, "CORRAL_HOME": str(stocked.home.parent / "piped")}
    taken = subprocess.run(
        [*start, "import", "-", "--json"],
        env=other,
        input=out.stdout,
        capture_output=True,
        check=True,
    )
    assert taken.stderr == b"False\n"
    assert json.loads(taken.stdout)["run"] == run


def test_a_file_that_is_none_is_refused(stocked: Place, made: Made) -> None:
    run = made.hello
    assert stocked.corral("export", run, "--jsonl", "-o", "run.jsonl").code == 0
    whole = Path("run.jsonl").read_bytes()
    for content, said in (
        (b"", "is empty"),
        (b"hello\n", "line 1: this is not a line of a Corral export"),
        (whole[:-20], "cut off in the middle of this line"),
        (whole[: whole.rindex(b'{"sum"')], "line 5: the file is cut off after this line"),
        (whole.replace(b"Hello", b"Hallo", 1), "was changed after the export"),
    ):
        Path("bad.jsonl").write_bytes(content)
        done = elsewhere(stocked, "import", "bad.jsonl")
        assert done.code == 2
        assert said in done.err, (said, done.err)
        assert done.err.startswith("error: bad.jsonl")
    assert "There is no file nope" in elsewhere(stocked, "import", "nope").err
    assert "cannot be read" in elsewhere(stocked, "import", str(stocked.workspace)).err
    assert elsewhere(stocked, "runs", "--json").lines == []
    # Line ends that git or a mail program has changed are no damage.
    Path("crlf.jsonl").write_bytes(whole.replace(b"\n", b"\r\n"))
    assert elsewhere(stocked, "import", "crlf.jsonl").code == 0


def test_several_formats_go_into_a_folder(stocked: Place, made: Made) -> None:
    run = made.write
    stem = run.removeprefix("r-")
    done = stocked.corral("export", run, "--html", "--jsonl", "--test", "--eval-case", "-o", "out")
    assert done.code == 0, done.err
    names = {path.name for path in Path("out").iterdir()}
    assert names == {
        f"run-{stem}.html",
        f"run-{stem}.jsonl",
        f"run_{stem}.jsonl",
        f"test_run_{stem}.py",
        "cases.yaml",
    }
    assert "All is written." in Path(f"out/run-{stem}.html").read_text()


def test_scrubbed_files_hold_no_content(stocked: Place, made: Made) -> None:
    run = made.write
    done = stocked.corral("export", run, "--html", "--jsonl", "--scrub", "-o", "out")
    assert done.code == 0, done.err
    for path in Path("out").iterdir():
        text = path.read_text()
        assert "files__write_file" in text
        for content in ("Write it down", "All is written", "notes.txt", "I will write"):
            assert content not in text, (path, content)
    (name,) = Path("out").glob("*.jsonl")
    taken = elsewhere(stocked, "import", str(name))
    assert "not replayed" in taken.err
    refused = elsewhere(stocked, "replay", run)
    assert refused.code == 2
    assert "--scrub" in refused.err


@pytest.mark.slow
def test_a_run_becomes_a_test(stocked: Place, made: Made, tmp_path: Path) -> None:
    """In a fresh project with pytest and Corral alone; and it fails when the agent has changed."""
    run = made.write
    assert stocked.corral("export", run, "--test", "-o", "kept").code == 0
    project = tmp_path / "project"
    shutil.copytree("kept", project)
    (test,) = project.glob("test_*.py")
    held = test.read_text().replace(
        "replay_file(RECORDED)", "replay_file(RECORDED, corral.RunOptions(agent='assistant'))"
    )
    (project / "test_held.py").write_text(held)
    (project / "corral.toml").write_text('[agents.assistant]\ninstructions = "Be rude."\n')
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | {
        "PYTHONPATH": stocked.env["PYTHONPATH"],
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(project)],
        env=env,
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_held.py" in done.stdout
    assert '+   "content": "Be rude.",' in done.stdout
    assert sorted(path.name for path in project.iterdir() if path.name != "__pycache__") == sorted(
        [test.name, "test_held.py", "corral.toml", f"run_{run.removeprefix('r-')}.jsonl"]
    ), "nothing is left behind"


SET = """\
# What the clerk must be able to do.
name: clerk
threshold: 0.5   # for now
cases:
    - id: first   # the first one
      prompt: "Say hello."
      model: {model}
      expect: [{{contains: "Hello"}}]

description: of clerks
"""


def test_a_run_becomes_a_case(stocked: Place, made: Made) -> None:
    run = made.write
    case = f"run-{run.removeprefix('r-')}"
    assert f"case {case}" in stocked.corral("export", run, "--eval-case").err
    again = stocked.corral("export", run, "--eval-case")
    assert again.code == 2
    assert f"has the case {case} already" in again.err
    hello, write = (
        f"scripted:{made.home.parent}/scripts/{name}.yaml" for name in ("hello", "write")
    )
    Path("set.yaml").write_text(SET.format(model=hello))
    assert stocked.corral("export", run, "--eval-case", "-o", "set.yaml").code == 0
    text = Path("set.yaml").read_text()
    assert text.startswith(SET[: SET.index("      model:")])
    assert text.endswith("\ndescription: of clerks\n")
    done = stocked.corral("eval", "run", "set.yaml", "--json")
    assert done.code == 0, done.err
    assert [one["passed"] for one in done.lines[0]["cases"]] == [True, True]
    # The checks are those of the run: another one fails them.
    changed = text.replace(f"model: {write}", f"model: {hello}")
    Path("other.yaml").write_text(changed)
    failed = stocked.corral("eval", "run", "other.yaml", "--json")
    passed = {one["id"]: one["passed"] for one in failed.lines[0]["cases"]}
    assert passed == {"first": True, case: False}


def test_a_set_that_cannot_take_a_case_stays_as_it_is(stocked: Place, made: Made) -> None:
    run = made.hello
    for text, said in (
        ("name: x\ncases: [{id: a, prompt: b, expect: [{max_steps: 1}]}]\n", "in brackets"),
        ("name: x\n", "cases: is missing"),
        ("{", "not YAML"),
    ):
        Path("set.yaml").write_text(text)
        done = stocked.corral("export", run, "--eval-case", "-o", "set.yaml")
        assert done.code == 2
        assert said in done.err, done.err
        assert Path("set.yaml").read_text() == text


def test_a_collector_that_is_not_there(stocked: Place, made: Made) -> None:
    run = made.hello
    done = stocked.corral("export", run, "--otlp", "--endpoint", "http://127.0.0.1:9")
    assert done.code == 1
    assert "127.0.0.1:9" in done.err
