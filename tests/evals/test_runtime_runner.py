from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from corral.errors import ConflictError
from corral.evals.dataset import Dataset, load_dataset
from corral.evals.report import Trial
from corral.evals.runtime_runner import EvalOptions, evaluate
from corral.runtime.config import Settings, load_settings
from corral.runtime.records import open_records

EXAMPLE = Path(__file__).parents[2] / "examples" / "evals" / "arithmetic.yaml"


def script(folder: Path, text: str) -> str:
    path = folder / "script.yaml"
    path.write_text(text, encoding="utf-8")
    return f"scripted:{path}"


def dataset(model: str, *cases: Mapping[str, object]) -> Dataset:
    return Dataset.model_validate({"name": "set", "model": model, "cases": cases})


async def test_the_example_passes_with_sandboxed_tools(settings: Settings) -> None:
    report = await evaluate(load_dataset(EXAMPLE), settings)
    assert {trial.case: trial.why for trial in report.trials} == {
        "product": "",
        "sum-of-a-file": "",
        "no-tool-needed": "",
    }
    assert report.exit_code == 0


@pytest.mark.slow
async def test_the_example_fails_a_model_that_guesses(settings: Settings) -> None:
    guess = EXAMPLE.parent / "scripts" / "small.yaml"
    report = await evaluate(load_dataset(EXAMPLE).override(model=f"scripted:{guess}"), settings)
    assert [trial.passed for trial in report.trials] == [False, False, True]
    assert report.exit_code == 1
    assert "called 0 times" in report.trials[0].why
    assert "there is no file total.txt" in report.trials[1].why


REMEMBER = """
- tool_calls: [{name: memory__remember, args: {fact: The gate code is 4711.}}]
- {text: Noted.}
"""


async def test_a_case_runs_through_the_real_runtime(settings: Settings, tmp_path: Path) -> None:
    called = {"tool_called": {"name": "memory__remember", "ok": True, "times": 1}}
    cases = dataset(
        script(tmp_path, REMEMBER),
        {
            "id": "allowed",
            "prompt": "Keep this.",
            "policy": str(allow(tmp_path)),
            "expect": [{"equals": "Noted."}, called, {"max_steps": 2}],
        },
        {"id": "asks", "prompt": "Keep this.", "expect": [{"status": "paused"}, {"max_steps": 1}]},
        {"id": "forgotten", "prompt": "Keep this.", "expect": [{"equals": "Noted."}]},
        {
            "id": "limited",
            "prompt": "Keep this.",
            "policy": str(allow(tmp_path)),
            "limits": {"max_steps": 1},
            "expect": [{"status": "stopped"}],
        },
        {"id": "no-such", "prompt": "x", "model": "scripted:/nope", "expect": [{"equals": "x"}]},
    )
    report = await evaluate(cases, settings)
    why = {trial.case: trial.why for trial in report.trials}
    assert why["allowed"] == why["asks"] == why["limited"] == ""
    assert "the run is paused" in why["forgotten"]
    assert "memory__remember" in why["forgotten"]
    assert "/nope" in why["no-such"]
    assert report.pass_rate == 0.6
    assert [trial.steps for trial in report.trials] == [2, 1, 1, 1, 0]


def allow(folder: Path) -> Path:
    path = folder / "policy.toml"
    path.write_text('[[rules]]\ntool = "memory__*"\naction = "allow"\nreason = "test"\n')
    return path


async def test_runs_see_neither_the_user_nor_each_other(
    own_home: Path, workspace: Path, tmp_path: Path
) -> None:
    settings = load_settings({"home": own_home, "workspace": workspace})
    recall = script(
        tmp_path,
        """
        - tool_calls: [{name: memory__remember, args: {fact: The gate code is 4711.}}]
        - tool_calls: [{name: files__list_directory, args: {path: .}}]
        - {text: done}
        """,
    )
    case = {
        "id": "a",
        "prompt": "gate code",
        "policy": str(allow(tmp_path)),
        "expect": [{"equals": "done"}],
    }
    keep = tmp_path / "kept"
    report = await evaluate(dataset(recall, case), settings, EvalOptions(repeat=2, keep=keep))
    assert report.pass_rate == 1.0, report.trials
    assert not settings.home.exists()
    assert list(settings.workspace.iterdir()) == []
    homes = sorted(keep.iterdir())
    assert len(homes) == 2
    for home in homes:
        own = settings.model_copy(update={"home": home})
        async with open_records(own) as records:
            (run,) = await records.runs()
            effects = await records.trace(run.run)
        found = next(effect.result for effect in effects if effect.kind == "retrieval")
        assert isinstance(found, dict)
        assert found["facts"] == []
        assert run.run in {trial.run for trial in report.trials}


async def test_a_folder_to_keep_runs_in_must_be_empty(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "x").touch()
    cases = dataset("scripted:x", {"id": "a", "prompt": "p", "expect": [{"equals": "x"}]})
    for keep in (tmp_path / "old", tmp_path / "old" / "x"):
        with pytest.raises(ConflictError):
            await evaluate(cases, settings, EvalOptions(keep=keep))


async def test_ctrl_c_ends_it_and_keeps_what_is_done(settings: Settings, tmp_path: Path) -> None:
    slow = tmp_path / "slow.yaml"
    slow.write_text("- {text: never, delay: 600}\n")
    case = {"prompt": "p", "expect": [{"equals": "hi"}]}
    cases = dataset(
        script(tmp_path, "- {text: hi}\n"),
        {**case, "id": "quick"},
        {**case, "id": "slow", "model": f"scripted:{slow}"},
    )

    def interrupt(trial: Trial, done: int, planned: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    options = EvalOptions(concurrency=1, on_trial=interrupt)
    async with asyncio.timeout(60):
        report = await evaluate(cases, settings, options)
    assert [(trial.case, trial.passed) for trial in report.trials] == [("quick", True)]
    assert report.interrupted
    # The handler is gone: from here on Ctrl-C does what it always does.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
