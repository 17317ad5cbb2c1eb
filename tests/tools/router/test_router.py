"""Which tools fit a request: the ranking, its bounds, and what is offered of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench._requests import Group, catalog, requests
from bench.routing import hits, offers, places, recall
from corral.jsontypes import JsonObject
from corral.ranking import Bm25, rank, terms
from corral.tools.contract import CallOptions, ToolSpec
from corral.tools.router.choice import ROOM, Router, Wanted
from corral.tools.router.definitions import (
    MAX_DESCRIPTION,
    MAX_PARAMETERS,
    definition_terms,
    definition_text,
    definitions_label,
    spaced,
)
from corral.tools.router.embeddings import static_embeddings
from corral.tools.router.finding import FIND, ToolFinder
from corral.tools.router.index import GAP, MOST, tool_index
from corral.tools.router.settings import ToolsSettings
from corral.tools.router.wording import widened

ROUTER = Router(ToolsSettings(always=("fs__*",)))


def spec(name: str, description: str = "", server: str = "server", **fields: object) -> ToolSpec:
    """A tool with no parameters."""
    return replace(ToolSpec(server, name, description, {"type": "object"}), **fields)  # type: ignore[arg-type]  # fields of ToolSpec


@pytest.mark.parametrize(
    ("plain", "hints", "counts"),
    [("held_out_plain", "held_out_hints", (157, 75)), ("fresh_plain", "fresh_hints", (144, 68))],
)
def test_the_right_tool_of_500_is_offered(
    plain: Group, hints: Group, counts: tuple[int, int]
) -> None:
    assert len(catalog()) == 500
    assert (len(requests(plain)), len(requests(hints))) == counts
    assert hits(offers(requests(plain))) >= 0.99
    assert hits(offers(requests(plain, hints))) >= 0.95


def test_an_offer_is_on_the_average_as_large_as_usual() -> None:
    made = offers(requests("tuned_plain", "tuned_hints", "fresh_plain", "fresh_hints"))
    assert sum(offer.tools for offer in made) / len(made) <= ToolsSettings().offered + 2


@pytest.mark.slow
def test_both_rankings_together_are_better_than_each() -> None:
    fused, *alone = (
        recall(places(ranking, requests()), 15) for ranking in ("fused", "keywords", "embeddings")
    )
    assert fused > max(alone)


def test_every_label_names_a_tool() -> None:
    names = {one.name for one in catalog()}
    assert all(request.tools and request.tools <= names for request in requests())


def test_the_offer_is_in_the_order_of_the_catalog_after_what_is_always_on() -> None:
    names = ROUTER.choose(catalog(), Wanted("Let the team know on Slack that lunch is ready."))
    always = [one.name for one in catalog() if one.server == "fs"]
    order = [one.name for one in catalog()]
    assert names[: len(always)] == always
    assert names[len(always) :] == sorted(names[len(always) :], key=order.index)
    assert len(always) + ToolsSettings().offered // 2 < len(names)
    assert len(names) <= len(always) + MOST * ToolsSettings().offered
    assert "slack__post_message" in names


@given(st.lists(st.sampled_from([request.text for request in requests()]), min_size=1, max_size=6))
def test_an_offer_grows_at_its_end_or_begins_anew(asked: list[str]) -> None:
    offered: tuple[str, ...] = ()
    always = [one.name for one in catalog() if one.server == "fs"]
    for request in asked:
        names = ROUTER.choose(catalog(), Wanted(request, offered))
        fresh = ROUTER.choose(catalog(), Wanted(request))
        assert names[: len(offered)] == list(offered) or names == fresh
        assert set(fresh) <= set(names)
        assert len(names) == len(set(names)) <= len(always) + ROOM * ToolsSettings().offered
        offered = tuple(names)


def test_what_was_called_stays_when_the_offer_begins_anew() -> None:
    names = [one.name for one in catalog()]
    wanted = Wanted("play some jazz", tuple(names[:100]), ("stripe__create_refund", "gone__tool"))
    offered = ROUTER.choose(catalog(), wanted)
    assert "stripe__create_refund" in offered
    assert "gone__tool" not in offered


@pytest.mark.parametrize("request_", ["", "   ", "¿?", "的", "x" * 100_000, "\x00\ud800"])
def test_any_request_gets_an_offer(request_: str) -> None:
    always = [one.name for one in catalog() if one.server == "fs"]
    names = ROUTER.choose(catalog(), Wanted(request_))
    assert names[: len(always)] == always
    assert len(names) > len(always)


@given(st.text(max_size=60), st.integers(1, 40))
def test_half_as_many_as_usual_fit_or_up_to_twice_as_many(request_: str, usual: int) -> None:
    index = tool_index(catalog())
    names = index.fitting(request_, usual)
    assert names == index.ranked(request_)[: len(names)]
    assert usual <= 2 * len(names) <= 2 * MOST * usual


def test_few_tools_fit_where_one_is_far_the_best_and_many_where_all_are_alike() -> None:
    index = tool_index(catalog())
    assert len(index.fitting("translate this paragraph into Polish", 15)) == 8
    assert len(index.fitting("", 15)) == 30
    scores = dict(index.scored("take a picture with the garden camera"))
    near = [name for name, score in scores.items() if score >= max(scores.values()) - GAP]
    assert index.fitting("take a picture with the garden camera", len(near)) == near


def test_stuffing_a_description_with_words_wins_nothing() -> None:
    asked = requests("held_out_plain")[::3]
    words = " ".join(dict.fromkeys(word for r in requests() for word in r.text.split()))
    greedy = spec("helper", f"{words} " * 50, "greedy")
    many = {f"{word}": {"type": "string"} for word in words.split()}
    wide = replace(greedy, tool="wide", input_schema={"type": "object", "properties": many})
    index = tool_index((*catalog(), greedy, wide))
    best = Counter(name for request in asked for name in index.ranked(request.text)[:15])
    assert best["greedy__helper"] < len(asked) / 5
    assert best["greedy__wide"] < len(asked) / 5


def test_no_more_of_a_definition_counts_than_its_bounds() -> None:
    long = spec("a" * 500, "mail " * 100_000)
    assert len(definition_text(long)) < MAX_DESCRIPTION + 200
    assert definition_terms(long)["mail"] == 2
    properties: JsonObject = {f"name{'x' * n}": {} for n in range(100)}
    wide = replace(long, input_schema={"type": "object", "properties": properties})
    assert len(definition_terms(wide)) <= MAX_PARAMETERS + 3
    assert definition_terms(replace(long, input_schema={"properties": ["no", "object"]}))


def test_names_are_read_as_words() -> None:
    assert spaced("createPull_request-v2") == "create Pull request v2"


def test_requests_are_widened_by_what_tools_say_and_by_shapes() -> None:
    found = widened("throw away report.pdf")
    assert found["throw"] == 1.0
    assert 0 < found[terms("delete")[0]] < 1
    assert "pdf" in found


def test_embeddings_are_of_length_one_and_near_in_meaning() -> None:
    vectors = static_embeddings().embed(["delete a file", "remove a document", "play a song", ""])
    lengths = (vectors**2).sum(axis=1).round(4).tolist()
    assert lengths == [1, 1, 1, 0]
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_the_package_of_the_vectors_is_not_imported() -> None:
    code = (
        "import json, sys\n"
        "from corral.tools.router.embeddings import static_embeddings\n"
        "before = 'numpy' in sys.modules or 'tokenizers' in sys.modules\n"
        "static_embeddings().embed(['hello'])\n"
        "print(json.dumps([before, 'wordllama' in sys.modules, 'requests' in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, False, False]


async def test_the_search_describes_what_it_finds_and_labels_whose_words_they_are() -> None:
    schema = {"type": "object", "properties": {"to": {}, "cc": {}}, "required": ["to"]}
    mail = replace(spec("send", "Send\na mail.", "post"), input_schema=schema)

    async def search(query: str, count: int) -> list[ToolSpec]:
        assert (query, count) == ("write a letter", 5)
        return [mail]

    found = await ToolFinder(search).call("find", {"query": "write a letter"}, CallOptions("key"))
    assert found.text == "These tools can be called now:\n- post__send(to, cc?): Send a mail."
    assert found.structured == {"tools": ["post__send"]}
    assert found.label is not None
    assert (found.label["untrusted"], found.label["sources"]) == (True, ["the tools of post"])
    assert not definitions_label([replace(mail, trusted=True)]).untrusted


def test_routing_is_needed_with_more_tools_than_are_offered() -> None:
    few = tuple(spec(f"tool{n}") for n in range(15))
    assert not Router(ToolsSettings()).is_needed((*few, spec("read", server="files"), FIND))
    assert Router(ToolsSettings()).is_needed((*few, spec("one more")))
    assert not Router(ToolsSettings(offered=0)).is_needed(catalog())


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("uvwxyz"), max_size=6)),
    st.lists(st.sampled_from("uvwxyz"), max_size=4),
)
def test_an_index_scores_as_a_ranking_does(texts: dict[str, list[str]], query: list[str]) -> None:
    documents = {key: Counter(words) for key, words in texts.items()}
    scores = Bm25(documents).scores(query)
    assert set(scores) == {key for key, words in texts.items() if set(words) & set(query)}
    ranked = rank(query, documents)
    assert [scores[key] for key in ranked] == sorted(scores.values(), reverse=True)
