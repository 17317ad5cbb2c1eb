"""A value is the user's if it stands in their text as a whole, and not by chance as a part."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corral.policies.provenance.verbatim import Page, link_stands_in, names_site, stands_in

SAID = [
    (
        "Send report.txt to bob@example.com, please. Fetch https://x.org/a?b=1 or example.com. "
        "Pay $1,250.50 (or 5) to Alice's account in paris; 15 euros at -3 degrees. "
        "把报告发给carol@example.com吧 查北京天气. Say 'Hello there' twice."
    )
]


@pytest.mark.parametrize(
    "value",
    [
        *("report.txt", "./report.txt", "bob@example.com", "example.com", "https://example.com/"),
        *("https://x.org/a?b=1", "Alice", "Paris", "PARIS", "Hello there", "Send report.txt"),
        *(5, 15, 1250.5, -3, "5", "carol@example.com", "北京", None, "", [], ["Alice", 5]),
        "cafe\u0301".replace("cafe\u0301", "Fetch"),
    ],
)
def test_what_stands_in_a_text(value: object) -> None:
    assert stands_in(value, SAID)  # type: ignore[arg-type]  # JSON, of many kinds


@pytest.mark.parametrize(
    "value",
    [
        *("example", "ob@example.com", "bob@example.co", "https://x.org/a", "x.org/a?b=1&c=2"),
        *("pArIs", "hello  there", "Hello\nthere", "eport.txt", "org", 1, 250, 125050, 1.5, 0),
        *("250", "evil.example", "https://evil.example/?d=Alice", True, False, {"Alice": "x"}),
        *(["Alice", "Bob"], "x" * 5000, "bob@example.com.evil.example", float("inf")),
    ],
)
def test_what_does_not(value: object) -> None:
    assert not stands_in(value, SAID)  # type: ignore[arg-type]  # JSON, of many kinds


def test_forms_of_letters_make_no_difference() -> None:
    assert stands_in("caf\u00e9", ["The cafe\u0301 is open."])


@settings(deadline=None)
@given(st.text(string.ascii_letters + string.digits, min_size=1, max_size=12), st.data())
def test_no_part_of_a_word_stands_for_it(word: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(word) - 1))
    part = data.draw(st.sampled_from([word[:cut], word[cut + 1 :]]))
    assume(part and part.lower() != word.lower())
    assert stands_in(word, [f"Take {word} now"])
    assume(part.lower() not in ("take", "now"))
    assert not stands_in(part, [f"Take {word} now"])


def test_links_are_followed_as_they_stand() -> None:
    text = 'See <a href="/x/1?q=2&amp;r=3">one</a>, b.example/y, https://c.example/ and 12345/6'
    page = [Page("https://a.example", text)]
    assert link_stands_in("https://a.example/x/1?q=2&r=3", page)
    assert link_stands_in("https://b.example/y", page)
    assert not link_stands_in("https://evil.example/x/1?q=2&r=3", page)
    assert not link_stands_in("https://a.example@evil.example/x/1?q=2&r=3", page)
    assert not link_stands_in("https://a.example/x/1", page)


def test_no_link_is_put_together_from_what_several_pages_hold_or_echo() -> None:
    text = "See /x and https://c.example/"
    assert not link_stands_in("https://c.example/x", [Page("https://a.example", text)])
    pieces = [Page("https://a.example", "https://c.example/"), Page("", "No results for /x")]
    assert not link_stands_in("https://c.example/x", pieces)
    for odd in ("c\u3002example/x", "3221226219/x", "c/x", "c.example\\@d.example/x"):
        assert not link_stands_in(f"https://{odd}", [Page("", f"No results for {odd}")])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        *(("go to example.com/foo", True), ("https://example.com:443/x", False)),
        *(("https://example.com", True), ("at example.com.", True)),
        *(("https://example.com.evil.org/foo", False), ("mail bob@example.com", False)),
        *(("https://u:p@example.com/x", False), ("notexample.com", False)),
        *(("https://sub.example.com/", False), ("EXAMPLE.com", True)),
    ],
)
def test_a_site_is_named_as_a_whole(text: str, named: bool) -> None:
    assert names_site("https://example.com", [text]) is named


def test_a_hostile_text_takes_no_time() -> None:
    began = time.perf_counter()
    texts = ["a." * 50_000, "1," * 50_000, "<a " * 30_000, "https://" * 10_000]
    for value in ("a." * 1_000, "https://a.example/" + "a" * 2_000, 11, "a b " * 500):
        assert not stands_in(value, texts)
        link_stands_in(str(value), [Page("", text) for text in texts])
    assert time.perf_counter() - began < 5


def test_many_values_take_no_time() -> None:
    began = time.process_time()
    for number in range(300):
        assert stands_in(f"value-{number}", [f"Take value-{number} now"])
    assert time.process_time() - began < 1
