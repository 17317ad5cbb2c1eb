"""``corral models compare`` and ``corral models cache``, as a user sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.errors import ConfigError, NotFoundError
from corral.evals.prompts import load_prompts
from tests.cli.place import Place

GOOD = '- {text: "It is 42.", usage: {input_tokens: 20, output_tokens: 5}}\n'
WORSE = '- {text: "It is 41, or <b>so</b>.", usage: {input_tokens: 20, output_tokens: 9}}\n'
PROMPTS = """
- {id: product, prompt: "What is 6 times 7?", expect: [{contains: "42"}, {not_contains: "41"}]}
- Say something.
"""


@pytest.fixture
def models(place: Place) -> list[str]:
    """The options that name three models: a good one, a worse one, and one that fails."""
    (place.scripts / "good.yaml").write_text(GOOD)
    (place.scripts / "worse.yaml").write_text(WORSE)
    (place.scripts / "down.yaml").write_text('- {error: "no electricity"}\n')
    return [part for name in ("good", "worse", "down") for part in ("--model", place.model(name))]


@pytest.fixture
def prompts(place: Place) -> str:
    path = place.scripts / "prompts.yaml"
    path.write_text(PROMPTS)
    return str(path)


def test_every_model_gets_every_prompt(place: Place, models: list[str], prompts: str) -> None:
    done = place.corral("models", "compare", prompts, *models, "--json")
    assert done.code == 1, "one of them never answered"
    [found] = done.lines
    good, worse, down = found["models"]
    assert (good["quality"], worse["quality"], down["quality"]) == (1.0, 0.0, 0.0)
    assert (good["input_tokens"], good["output_tokens"], good["errors"]) == (40, 10, 0)
    assert (down["answers"], down["errors"]) == (0, 2)
    assert [answer["prompt"] for answer in found["answers"]] == ["product", "2"] * 3
    assert "no electricity" in found["answers"][-1]["error"]
    assert found["answers"][2]["failed_checks"][0].startswith("contains")
    assert good["first_token_ms"] is not None
    assert f"[6/6] {place.model('down')}" in done.err


def test_a_table_and_plots(place: Place, models: list[str], prompts: str) -> None:
    done = place.corral("models", "compare", prompts, *models[:4])
    assert done.code == 0, done.err
    assert "first token" in done.out
    assert "quality, % of the checks" in done.out
    assert "█" in done.out
    assert "100%" in done.out
    assert "\x1b" not in done.out


def test_a_page_shows_answers_as_text(
    place: Place, models: list[str], prompts: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    place.corral("models", "compare", prompts, *models, "--html", str(page))
    text = page.read_text()
    assert "It is 41, or &lt;b&gt;so&lt;/b&gt;." in text
    assert "<b>" not in text
    assert "no electricity" in text


def test_nothing_is_left_with_the_users_own_threads(
    place: Place, models: list[str], prompts: str
) -> None:
    place.corral("models", "compare", prompts, *models[:2])
    assert place.corral("runs", "--json").out == ""


def test_one_model_that_cannot_be_opened_does_not_stop_the_others(
    place: Place, models: list[str], prompts: str
) -> None:
    done = place.corral(
        "models", "compare", prompts, "--model", "nonsense:x", *models[:2], "--json"
    )
    first, second = done.lines[0]["models"]
    assert (first["errors"], second["answers"]) == (2, 2)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.yaml", "prompt: x", "expected a list"),
        ("p.yaml", "[]", "holds no prompts"),
        ("p.yaml", "- {prompt: x, expct: []}", "prompt 1: expct"),
        ("p.yaml", "- {prompt: x, expect: {contains: y}}", "expect: Input should be a list"),
        ("p.yaml", "- {id: a, prompt: x}\n- {id: a, prompt: y}", "more than one prompt"),
        ("p.yaml", "- {prompt: x, expect: [{contans: y}]}", "expected a mapping with one of"),
        ("p.jsonl", '{"prompt": "x"}\n{broken\n', "line 2 is no JSON"),
        ("p.jsonl", '{"prompt": ""}', "line 1: prompt"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_prompts(path)
    assert "examples/evals" not in caught.value.hint, "a set of cases is no list of prompts"


def test_json_lines_are_prompts_too(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a", "system": "b"}\n\n{"prompt": "c", "id": "third"}\n')
    assert [(one.id, one.prompt, one.system) for one in load_prompts(path)] == [
        ("1", "a", "b"),
        ("third", "c", None),
    ]
    with pytest.raises(NotFoundError):
        load_prompts(tmp_path / "nothing.yaml")


def test_the_cache_is_shown_and_cleared(place: Place) -> None:
    assert place.corral("models", "cache", "--json").lines == [
        {"answers": 0, "hits": 0, "expired": 0, "by_kind": {}}
    ]
    (place.workspace / "corral.toml").write_text(
        "servers = []\n[sampling]\ntemperature = 0\nmax_tokens = 400\n"
    )
    for _ in range(2):
        asked = place.corral("run", "--model", "local", "Say hello.", "--json")
        assert asked.code == 0, asked.out
    shown = place.corral("models", "cache").out
    assert "answers  1" in shown
    assert "given again  1\n" in shown
    assert place.corral("models", "cache", "--clear").err == "Kept no more: 1 answer.\n"
    assert "answers  0" in place.corral("models", "cache").out
