"""``corral budget``, and limits on the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.cli.budget import parse_budget
from corral.errors import UsageError
from corral.policies.budgets import Budget
from corral.runtime.budgets.settings import tightened
from tests.cli.place import Place

DEAR = """
- text: "I am thinking."
  usage: {input_tokens: 1000, output_tokens: 500}
  tool_calls: [{name: files__list_directory, args: {path: .}}]
- {text: "All done.", usage: {input_tokens: 2000, output_tokens: 500}}
"""


@pytest.fixture
def dear(place: Place) -> Place:
    (place.scripts / "dear.yaml").write_text(DEAR)
    price = f'[prices."{place.model("dear")}"]\ninput = 1.0\noutput = 2.0\n'
    config = place.home / "own.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(price + "[budgets.day]\nusd = 0.02\n")
    return place


def spent(place: Place, *args: str) -> dict[str, dict[str, object]]:
    result = place.corral("--config", str(place.home / "own.toml"), "budget", "--json", *args)
    assert result.code == 0, result.err
    return {line["key"]: line for line in result.lines if "key" in line}


def run(place: Place, *args: str) -> int:
    config = str(place.home / "own.toml")
    model = place.model("dear")
    return place.corral("--config", config, "run", "--model", model, *args, "Think.").code


def test_who_spent_what(dear: Place) -> None:
    assert run(dear, "--tag", "nightly", "--tag", "eu") == 0
    assert run(dear) == 0
    everything = spent(dear)[""]
    assert everything["cost_usd"] == pytest.approx(2 * 0.005)
    assert (everything["model_calls"], everything["tool_calls"], everything["steps"]) == (4, 2, 4)
    assert spent(dear, "--by", "tag")["nightly"]["cost_usd"] == pytest.approx(0.005)
    assert set(spent(dear, "--by", "tag")) == {"nightly", "eu", "(none)"}
    assert spent(dear, "--by", "model")[dear.model("dear")]["input_tokens"] == 6000
    assert spent(dear, "--by", "tool")["files__list_directory"]["tool_calls"] == 2
    assert spent(dear, "--by", "agent")["assistant"]["output_tokens"] == 2000
    assert len(spent(dear, "--by", "thread")) == 2
    assert len(spent(dear, "--by", "day")) == 1
    assert spent(dear, "--run", "last")[""]["input_tokens"] == 3000
    assert spent(dear, "--since", "2999-01-01") == {}
    assert spent(dear, "--since", "1h")[""]["input_tokens"] == 6000


def test_how_far_a_budget_is_used(dear: Place) -> None:
    run(dear)
    result = dear.corral("--config", str(dear.home / "own.toml"), "budget")
    assert "0.005 of 0.02 usd (25%)" in result.out
    assert "assistant" in result.out


def test_nothing_spent_yet(place: Place) -> None:
    result = place.corral("budget")
    assert (result.code, result.out) == (0, "")
    assert "Nothing was spent" in result.err


def test_what_was_removed_is_still_counted_and_who_asked_is_forgotten(dear: Place) -> None:
    assert run(dear, "--tag", "secret-project") == 0
    thread = next(iter(spent(dear, "--by", "thread")))
    before = spent(dear, "--by", "model")
    assert dear.corral("delete", thread, "--yes").code == 0
    assert spent(dear, "--by", "model") == before
    assert set(spent(dear, "--by", "thread")) == {"(deleted)"}
    assert set(spent(dear, "--by", "tag")) == {"(none)"}
    assert spent(dear)[""]["cost_usd"] == pytest.approx(0.005)


def test_a_limit_on_the_command_line_stops_the_run(dear: Place) -> None:
    assert run(dear, "--budget", "model_calls=1", "--budget", "at_limit=answer") == 4
    config = ("--config", str(dear.home / "own.toml"))
    assert run(dear, "--budget", "model_calls=1") == 3
    assert "1 of 1 (model calls) are used" in dear.corral("approvals").out
    assert dear.corral(*config, "resume", "last", "--budget", "model_calls=2").code == 0
    assert dear.corral("approvals").out == ""  # nobody needs that answer any more


@pytest.mark.parametrize(
    ("texts", "budget"),
    [
        ([], None),
        (["usd=0.5", "tokens=20000"], Budget(usd=0.5, tokens=20_000)),
        (["tools.web__*=3"], Budget(tools={"web__*": 3})),
        (["steps=2", "at_limit=answer"], Budget(steps=2, at_limit="answer")),
    ],
)
def test_limits_as_they_are_written(texts: list[str], budget: Budget | None) -> None:
    assert parse_budget(texts) == budget


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tokens", "a limit is missing"),
        ("token=5", "nothing is measured as 'token'"),
        ("tokens=-5", "greater than or equal to 0"),
        ("tokens=many", "valid integer"),
        ("tools=3", "nothing is measured as 'tools'"),
        ("usd=nan", "finite"),
    ],
)
def test_limits_that_make_no_sense(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_budget([text])


def test_a_bad_limit_says_what_to_write(place: Place) -> None:
    result = place.corral("run", "--model", place.model("hello"), "--budget", "tokn=5", "Hi.")
    assert result.code == 2
    assert "Did you mean tokens?" in result.err


def test_money_needs_a_price_that_is_known(place: Place) -> None:
    place.env["OPENAI_API_KEY"] = "sk-test"
    model = "openai:unheard-of@https://models.example.com/v1"
    result = place.corral("run", "--model", model, "--budget", "usd=1", "Hi.")
    assert result.code == 2
    assert "the price of openai:unheard-of@https://models.example.com/v1 is not known" in result.err
    assert f'[prices."{model}"]' in result.err


@pytest.mark.slow
def test_looking_at_what_was_spent_imports_no_graph_and_no_model(place: Place) -> None:
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        "code = invoke(['budget', '--by', 'agent'])\n"
        "heavy = ('langgraph', 'langchain_core', 'openai', 'mcp', 'genai_prices')\n"
        "print(code, [name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0 []"


def test_a_negative_price_is_refused(place: Place) -> None:
    config = place.home / "own.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[prices."local"]\ninput = -1\noutput = 1\n')
    result = place.corral("--config", str(config), "budget")
    assert result.code == 2
    assert "prices.local.input" in result.err


def test_a_project_cannot_raise_its_users_budget_nor_set_a_price(place: Place) -> None:
    (place.workspace / "corral.toml").write_text('[prices."local"]\ninput = 0\noutput = 0\n')
    result = place.corral("budget")
    assert result.code == 2
    assert "may not set prices" in result.err


def test_of_two_limits_the_lower_one_counts() -> None:
    project = {"budgets": {"day": {"usd": 5.0, "tokens": 10}}, "limits": {"max_tokens": 9}}
    users = {"budgets": {"day": {"usd": 1.0, "at_limit": "answer"}}, "limits": {"max_tokens": 90}}
    assert tightened(project, users) == {
        "budgets": {"day": {"usd": 1.0, "tokens": 10}},
        "limits": {"max_tokens": 9},
    }
    agents = {"agents": {"a": {"budget": {"usd": 2.0, "at_limit": "ask"}, "facts": 9}}}
    theirs = {"agents": {"a": {"budget": {"usd": 1.0, "at_limit": "answer"}, "facts": 1}}}
    assert tightened(agents, theirs) == {
        "agents": {"a": {"budget": {"usd": 1.0, "at_limit": "answer"}, "facts": 9}}
    }
