from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from corral.errors import ConfigError, NotFoundError
from corral.evals.dataset import Dataset, load_dataset
from corral.policies.limits import RunLimits

EXAMPLES = Path(__file__).parents[2] / "examples" / "evals"


def written(folder: Path, text: str) -> Path:
    path = folder / "set.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def load(folder: Path, text: str) -> Dataset:
    return load_dataset(written(folder, text))


def one_case(rest: str) -> str:
    return f"name: x\ncases:\n- {{id: a, prompt: p, {rest}}}\n"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_load(path: Path) -> None:
    dataset = load_dataset(path)
    for case in dataset.cases:
        kind, _, script = (case.model or "").partition(":")
        assert kind == "scripted"
        assert Path(script).is_file()


def test_a_set_fills_in_what_its_cases_leave_out(tmp_path: Path) -> None:
    dataset = load(
        tmp_path,
        """
        name: x
        model: local
        agent: helper
        policy: workspace
        limits: {max_steps: 3}
        timeout: 9
        cases:
          - {id: a, prompt: p, expect: [equals: 4]}
          - {id: b, prompt: p, model: "openai:m", limits: {max_steps: 5}, expect: [equals: "4"]}
        """,
    )
    first, second = map(dataset.effective, dataset.cases)
    assert dataset.threshold == 0.8
    assert (first.model, first.agent, first.policy, first.timeout) == (
        "local",
        "helper",
        "workspace",
        9,
    )
    assert (second.model, second.limits) == ("openai:m", RunLimits(max_steps=5))
    assert first.expect == second.expect
    replaced = dataset.override(model="anthropic:m", agent=None)
    assert {replaced.effective(case).model for case in replaced.cases} == {"anthropic:m"}
    assert {replaced.effective(case).agent for case in replaced.cases} == {"helper"}


def test_files_that_a_set_names_lie_beside_it(tmp_path: Path) -> None:
    dataset = load(
        tmp_path,
        """
        name: x
        model: scripted:turns.yaml
        policy: rules/strict.toml
        cases:
          - {id: a, prompt: p, model: tiny.gguf, policy: ask, expect: [equals: x]}
          - {id: b, prompt: p, model: "openai:gpt", policy: own.toml, expect: [equals: x]}
          - {id: c, prompt: p, model: "scripted:/abs.yaml", expect: [equals: x]}
        """,
    )
    assert dataset.model == f"scripted:{tmp_path}/turns.yaml"
    assert dataset.policy == f"{tmp_path}/rules/strict.toml"
    a, b, c = dataset.cases
    assert (a.model, a.policy) == (f"{tmp_path}/tiny.gguf", "ask")
    assert (b.model, b.policy) == ("openai:gpt", f"{tmp_path}/own.toml")
    assert c.model == "scripted:/abs.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x", "cases: is missing"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
        ("name: x\ncases: []", "cases: "),
        ("name: x\nthreshold: 80\ncases: []", "threshold: "),
        ("name: x\nname: y\ncases: []", "'name' stands twice"),
        ("name: [", ":1: not YAML"),
        ("name: x\ncases:\n- {prompt: p, expect: [equals: x]}", "case number 1: id: is missing"),
        ("name: x\ncases:\n- {id: ../a, prompt: p, expect: [equals: x]}", "case '../a': id: "),
        ("name: x\ncases:\n- 7", "case number 1: "),
        (one_case("expect: []"), "case 'a': expect: "),
        (one_case("expect: [equals: x], colour: red"), "case 'a': colour: unknown key"),
        (one_case("expect: [equal: x]"), "case 'a': expect[0]: expected a mapping with one of"),
        (one_case("expect: [{equals: x, regex: y}]"), "case 'a': expect[0]: expected"),
        (one_case("expect: [{equals: x, cases: y}]"), "case 'a': expect[0].equals.cases: unknown"),
        (one_case("expect: [equals: yes]"), 'expect[0].equals: must be text (put it in "quotes")'),
        (one_case("expect: [{numeric: {tolerance: 1}}]"), "expect[0].numeric.value: is missing"),
        (one_case("expect: [regex: '(']"), "expect[0].regex: not a regular expression"),
        (one_case("expect: [json_path: {path: 'a..b'}]"), "expect[0].json_path.path: 'a..b'"),
        (one_case("expect: [contains: {}]"), "expect[0].contains: give any or all"),
        (one_case("expect: [contains: []]"), "expect[0].contains.all: give at least one"),
        (one_case("expect: [contains: '']"), "expect[0].contains.all: give at least one"),
        (one_case("expect: [status: done]"), "expect[0].status: "),
        (one_case("expect: [equals: x], files: {/etc/x: a}"), "case 'a': files: '/etc/x' is not"),
        (one_case("expect: [equals: x], files: {a/../../b: a}"), "is not a relative path"),
        (one_case("expect: [equals: x], files: {a: x, a/b: y}"), "'a/b' lies inside another"),
        (one_case("expect: [equals: x], limits: {max_step: 1}"), "limits.max_step: unknown key"),
        (
            "name: x\ncases:\n" + "- {id: a, prompt: p, expect: [equals: x]}\n" * 2,
            "more than one case has the id 'a'",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "set.yaml") in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no evaluation set"):
        load_dataset(tmp_path / "nope.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_dataset(tmp_path / "binary.yaml")
    with pytest.raises(NotFoundError):
        load_dataset(tmp_path)
