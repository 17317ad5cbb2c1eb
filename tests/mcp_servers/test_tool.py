"""What every server of ours shares: arguments, pages, blocks and progress."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.mcp_servers.paging import page_of
from corral.mcp_servers.schema import mismatch
from corral.mcp_servers.tool import MAX_BLOCKS, Answer, Call, Effects, Image, ResourceLink

SCHEMAS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 1, "maxLength": 3},
    {"type": "string", "enum": ["a", "bb"]},
    {"type": "integer", "minimum": 1, "maximum": 5},
    {"type": "number", "minimum": 0},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
    {"type": "object"},
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "array", "items": {"type": "number"}},
        },
        "required": ["a"],
        "additionalProperties": False,
    },
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text("ab", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=5,
)


@given(schema=st.sampled_from(SCHEMAS), value=VALUES)
def test_arguments_are_checked_as_json_schema_says(schema: dict[str, Any], value: Any) -> None:
    valid = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert (mismatch(value, schema) == "") == valid


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_is_finite(value: float) -> None:
    assert mismatch(value, {"type": "number"}) == "must be a finite number"


@given(total=st.integers(0, 50), offset=st.integers(0, 60), limit=st.integers(1, 20))
def test_pages_together_are_everything(total: int, offset: int, limit: int) -> None:
    items = list(range(total))
    found: list[int] = []
    at: int | None = offset
    while at is not None:
        page = page_of(items, Call({"offset": at, "limit": limit}), 10)
        found += page.items
        assert (page.next is None) or f"offset={page.next}" in page.note("things")
        at = page.next
    assert found == items[offset:]


def test_blocks_follow_the_text() -> None:
    link = ResourceLink("file:///a", "a", "text/plain", 3)
    answer = Answer("text", blocks=(Image(b"\0\1", "image/png"), link))
    text, image, resource = answer.to_json("2025-06-18")["content"]
    assert (text["text"], image["mimeType"]) == ("text", "image/png")
    assert base64.b64decode(image["data"]) == b"\0\1"
    assert resource["type"] == "resource_link"
    old = answer.to_json("2024-11-05")["content"]
    assert old[2] == {"type": "text", "text": "[a: file:///a]"}


def test_images_are_bounded_in_all() -> None:
    half = Image(bytes(MAX_BLOCKS // 2 + 1), "image/png")
    content = Answer("", blocks=(half, half)).to_json("2026-07-28")["content"]
    assert [block["type"] for block in content] == ["text", "image", "text"]
    assert "too large" in content[2]["text"]
    assert len(json.dumps(content)) < 2 * MAX_BLOCKS


def test_progress_only_goes_forward_and_not_too_often() -> None:
    told: list[dict[str, Any]] = []
    call = Call({}, told.append)
    for done in (1, 2, 1, 3):
        call.progress(done, 10, "working")
    assert told == [{"progress": 1, "message": "working", "total": 10}]
    call.cancelled.set()
    call.progress(9)
    assert len(told) == 1
    Call({}).progress(1)


def test_annotations_say_whether_the_world_is_reached() -> None:
    assert Effects(read_only=True, open_world=True).to_json()["openWorldHint"]
    assert not Effects(read_only=True).to_json()["openWorldHint"]
