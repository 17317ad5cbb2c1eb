"""Front matter: what plain words mean, and what is refused with its line."""

from __future__ import annotations

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from corral.agents.files import front_matter
from corral.agents.files.front_matter import NotFrontMatterError, parse, split
from corral.jsontypes import Json

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def read(front: str) -> Json:
    return parse(front, lambda _path: False).data


class TestPlainWords:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("no", "no"),
            ("on", "on"),
            ("y", "y"),
            ("2026-11-22", "2026-11-22"),
            ("12:30:45", "12:30:45"),
            ("007", "007"),
            ("0x1f", "0x1f"),
            ("1_000", "1_000"),
            (".inf", ".inf"),
            ("=", "="),
            ("<<", "<<"),
            ("true", True),
            ("null", None),
            ("~", None),
            ("", None),
            ("12", 12),
            ("-1.50", -1.5),
            ("1e3", 1000.0),
            ("'12'", "12"),
            ('"true"', "true"),
        ],
    )
    def test_mean_what_they_say(self, written: str, meant: Json) -> None:
        assert read(f"a: {written}") == {"a": meant}
        assert read(f"a: [{written}]") == ({"a": [meant]} if written else {"a": []})

    def test_are_texts_where_a_text_is_wanted(self) -> None:
        front = "name: 1.10\nmodels: [4.1, no]\nempty:\nsize: 1.10\n"
        read = parse(front, lambda path: path[0] != "size")
        assert read.data == {"name": "1.10", "models": ["4.1", "no"], "empty": None, "size": 1.1}


class TestLines:
    def test_every_key_and_item_has_its_line(self) -> None:
        front = parse("a: 1\nb:\n  c: [x, y]\n  d:\n    - e\n", lambda _path: False)
        assert [front.line_of(path) for path in (("a",), ("b", "c"), ("b", "d", 0))] == [2, 4, 6]
        assert front.line_of(("b", "c", 7, "z")) == 4
        assert front.line_of(("nowhere",)) is None


class TestRefused:
    @pytest.mark.parametrize(
        ("front", "line", "said"),
        [
            ("a: 1\nb: 2\na: 3", 4, "the key 'a' is there twice, first in line 2"),
            ("a: {b: 1, b: 2}", 2, "the key 'b' is there twice"),
            ("a: &x 1\nb: *x", 2, "anchors (&) and aliases (*) are not read"),
            ("a: *x", 2, "anchors (&) and aliases (*) are not read"),
            ("a: !!python/object:os.system x", 2, "the tag"),
            ("a: !x 1", 2, "the tag !x is not read"),
            ("? [a]\n: 1", 2, "a key is not a text"),
            ("- a\n- b", 2, "its front matter has no keys"),
            ("text", 2, "its front matter has no keys"),
            ("a: 1\n--- {b: 2}", 3, "several documents"),
            ("a: b: c", 2, "not valid YAML"),
            ("a:\n\t- b", 3, "not valid YAML"),
            ('a: "x', 2, "not valid YAML"),
            ("a: 1\nb: \x07", 3, "a character that YAML does not allow"),
            (f"a: {'[' * 15_000}", 2, "nested too deeply"),
            ("a: " + "{a: " * 4000, 2, "nested too deeply"),
            ("? " * 8_000, 2, "a key is not a text"),
            ("a: " + "x" * 40_000, 1, "longer than 16384 characters"),
        ],
    )
    def test_with_its_line(self, front: str, line: int, said: str) -> None:
        with pytest.raises(NotFrontMatterError) as refused:
            read(front)
        assert said in refused.value.message
        assert refused.value.line == line
        assert refused.value.hint

    def test_billion_laughs_are_never_expanded(self) -> None:
        laughs = "a: &a [x, x]\n" + "".join(
            f"{one}: &{one} [*{before}, *{before}]\n"
            for before, one in zip("abcdefgh", "bcdefghi", strict=True)
        )
        with pytest.raises(NotFrontMatterError, match="anchors"):
            read(laughs)


class TestSplit:
    def test_what_follows_is_the_body(self) -> None:
        parts = split("---\nname: a\n---\n\nDo it.\n\n---\n\nThen stop.\n")
        assert (parts.front, parts.body) == ("name: a", "Do it.\n\n---\n\nThen stop.")
        assert split("---\r\nname: a\r\n---\r\nDo it.\r\n").body == "Do it."

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "the file is empty"),
            (" \n\n", "the file is empty"),
            ("Do it.", "does not begin with front matter"),
            ("\n---\nname: a\n---\n", "does not begin with front matter"),
            ("---\nname: a\n", "has no end"),
        ],
    )
    def test_what_is_no_agent_is_refused(self, text: str, said: str) -> None:
        with pytest.raises(NotFrontMatterError, match=said):
            split(text)


@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_what_json_says_is_read_as_json(data: dict[str, Json]) -> None:
    """JSON is YAML: whatever is quoted comes back as it was."""
    assert read(json.dumps(data, ensure_ascii=False)) == data


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(NotFrontMatterError):
        parts = split(f"---\n{text}\n---\n")
        json.dumps(parse(parts.front, lambda _path: False).data)


def test_the_pure_reader_of_yaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    front = "a: no\nb: [1, 'x']\nc: |\n  two\n  lines\nd: {e: null}\n"
    fast = read(front)
    monkeypatch.setattr(front_matter, "_LOADER", yaml.SafeLoader)
    assert read(front) == fast
