"""Cells and pages: whatever a database gives becomes bounded JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.mcp_servers.sql.text import first_word
from corral.mcp_servers.sql.values import MAX_BYTES, Window, collect

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
)
KEYS = st.text() | st.integers() | st.binary() | st.dates()
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=30
)


def cell(value: Any) -> Any:
    return collect([[value]], Window(0, 1)).rows[0][0]


@pytest.mark.slow
@given(VALUES)
def test_every_value_is_json(value: Any) -> None:
    assert json.loads(json.dumps(cell(value), allow_nan=False)) == cell(value)


@given(st.lists(st.lists(PLAIN, min_size=1, max_size=5), max_size=20), st.integers(0, 25))
def test_pages_fit_together(table: list[list[Any]], size: int) -> None:
    seen: list[Any] = []
    while True:
        page = collect(table, Window(len(seen), size + 1))
        seen += page.rows
        if not page.more:
            break
    assert seen == collect(table, Window(0, 100)).rows


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**7,
        b"x" * 10**7,
        ["x" * 1000] * 100_000,
        {str(number): "x" * 1000 for number in range(100_000)},
        10**100_000,
        [[[[[[[["x" * 10_000] * 10]]]]]]],
    ],
    ids=["text", "binary", "list", "members", "integer", "depth"],
)
def test_large_values_are_cut_and_counted(value: Any) -> None:
    page = collect([[value] * 3], Window(0, 1))
    assert len(json.dumps(page.rows)) < 2 * MAX_BYTES
    assert page.cut >= 3


def test_wide_rows_are_bounded() -> None:
    page = collect([["x" * 5000] * 2000] * 3, Window(0, 3))
    assert len(page.rows) == 1
    assert page.more
    assert len(json.dumps(page.rows)) < 2 * MAX_BYTES


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(days=3, hours=4, minutes=5, seconds=6), "3 days 4:05:06"),
        (timedelta(hours=-1, microseconds=5), "-0:59:59.999995"),
        (timedelta.min, "-999999999 days 0:00:00"),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**53), -(2**53)),
    ],
)
def test_values_as_they_are_written(value: Any, text: Any) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT 1", "select"),
        ("  -- COMMIT\n ; /* BEGIN /* x */ */ Commit;", "commit"),
        ("/* never closed", ""),
        ("/*" * 100_000, ""),
        ("(((values (1))))", "values"),
        ("-- only", ""),
        ("", ""),
    ],
)
def test_the_first_word(sql: str, word: str) -> None:
    assert first_word(sql) == word
