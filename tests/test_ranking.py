from __future__ import annotations

import time
from collections import Counter

import pytest

from corral.ranking import rank, stem, terms


@pytest.mark.parametrize(
    "words",
    [
        ("report", "reports", "reported", "reporting"),
        ("run", "runs", "running"),
        ("city", "cities"),
        ("like", "likes", "liked", "liking"),
        ("class", "classes"),
    ],
)
def test_forms_of_a_word_meet(words: tuple[str, ...]) -> None:
    assert len({stem(word) for word in words}) == 1


@pytest.mark.parametrize("word", ["bus", "this", "thing", "red", "straße", "x2s"])
def test_words_that_only_look_inflected_stay_apart(word: str) -> None:
    assert stem(word).startswith(word[:3])


def test_terms_fold_case_and_width_and_drop_function_words() -> None:
    assert terms("What is the NAME of my cat?") == terms("name cat")
    assert terms("\uff21\uff22\uff23") == terms("abc")
    assert terms("STRASSE") == terms("Straße".upper())


def test_scripts_without_spaces_are_searchable() -> None:
    documents = {"a": Counter(terms("我喜欢绿茶")), "b": Counter(terms("今天下雨"))}
    assert rank(terms("绿茶"), documents) == ["a"]


def test_rare_terms_and_short_texts_rank_higher() -> None:
    documents = {
        key: Counter(terms(text))
        for key, text in {
            "long": "the cat sat on the wall with many other animals and some more things besides",
            "short": "the cat sleeps",
            "both": "the cat sleeps in Lisbon",
            "none": "it rains",
        }.items()
    }
    assert rank(terms("cat"), documents) == ["short", "both", "long"]
    assert rank(terms("cat Lisbon"), documents)[0] == "both"
    assert rank(terms("submarine"), documents) == []
    assert rank(terms("cat"), {}) == []


def test_a_few_thousand_facts_take_milliseconds() -> None:
    documents = {
        str(n): Counter(terms(f"fact {n} about subject {n % 97} in city {n % 13}"))
        for n in range(5000)
    }
    query = terms("subject 42 city 7")
    started = time.process_time()
    found = rank(query, documents)
    # About 15 ms where this was written; the bound only catches a change of order.
    assert time.process_time() - started < 0.5
    best = documents[found[0]]
    assert best["42"]
    assert best["7"]
