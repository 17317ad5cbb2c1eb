"""Which images of a result are taken."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.tools.contract import ToolImage, ToolResult
from corral.tools.images import MAX_BYTES, MAX_IMAGES, Images

PNG = b"\x89PNG\r\n\x1a\n"


def encoded(data: bytes) -> str:
    return b64encode(data).decode()


@pytest.mark.parametrize(
    ("mime_type", "data"),
    [
        ("image/png", PNG),
        ("image/jpeg", b"\xff\xd8\xff\xe0"),
        ("image/gif", b"GIF89a..."),
        ("image/webp", b"RIFF\0\0\0\0WEBP"),
    ],
)
def test_an_image_is_taken_and_named(mime_type: str, data: bytes) -> None:
    images = Images()
    assert images.note(mime_type, encoded(data)).startswith(f"[image, {mime_type}, ")
    assert images.taken == (ToolImage(mime_type, encoded(data)),)


@pytest.mark.parametrize(
    ("mime_type", "content"),
    [
        ("image/png", encoded(b"<svg>")),
        ("image/svg+xml", encoded(b"<svg>")),
        ("image/webp", encoded(b"RIFF\0\0\0\0WAVE")),
        ("image/png", "not base64!"),
        ("image/png", "é" * 8),
        ("image/png", encoded(PNG + bytes(MAX_BYTES))),
    ],
)
def test_what_is_none_or_too_large_is_named_and_not_shown(mime_type: str, content: str) -> None:
    images = Images()
    assert images.note(mime_type, content).endswith("not shown]")
    assert images.taken == ()


def test_there_are_not_too_many_and_together_not_too_large() -> None:
    images = Images()
    notes = [images.note("image/png", encoded(PNG)) for _ in range(MAX_IMAGES + 2)]
    assert ["not shown" in note for note in notes] == [False] * MAX_IMAGES + [True] * 2
    halves, half = Images(), encoded(PNG + bytes(MAX_BYTES // 2))
    notes = [halves.note("image/png", half) for _ in range(2)]
    assert ["not shown" in note for note in notes] == [False, True]


@given(st.text(max_size=40), st.text(max_size=200))
def test_any_words_of_a_server_are_named_on_one_line(mime_type: str, content: str) -> None:
    note = Images().note(mime_type, content)
    assert len(note.splitlines()) == 1
    assert len(note) < 300


@given(st.lists(st.builds(ToolImage, st.text(max_size=9), st.text(max_size=9)), max_size=3))
def test_a_result_comes_back_and_says_nothing_of_images_without_any(
    images: list[ToolImage],
) -> None:
    result = ToolResult("text", {"a": 1}, images=tuple(images))
    assert ToolResult.from_json(result.to_json()) == result
    assert ("images" in result.to_json()) == bool(images)
