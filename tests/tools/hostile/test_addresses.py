"""Addresses that a server wants opened: a person who reads one must see where it leads."""

from __future__ import annotations

import mcp_types as types
import pytest

from corral.tools.inquiry import MAX_QUESTIONS
from corral.tools.sdk_host import URL_NEEDED, inquiry, to_open
from corral.tools.wire import Refusal


def asked(url: str) -> types.ElicitRequestURLParams:
    return types.ElicitRequestURLParams(message="Open it.", url=url, elicitation_id="e")


@pytest.mark.parametrize(
    "url",
    [
        "https://bank.example@evil.example/login",
        "https://ann:hunter2@evil.example/",
        "https://evil.example\\.bank.example/",
        "https://b\u0430nk.example/",
        "https://bank.example/\x1b[8m",
        "http://[",
        "file:///etc/passwd",
        "https:///nowhere",
    ],
)
def test_one_that_leads_elsewhere_than_it_seems_is_not_shown(url: str) -> None:
    assert inquiry(asked(url)) is None


@pytest.mark.parametrize("url", ["https://bank.example/a?b=c%20d", "http://127.0.0.1:8/x@y"])
def test_a_plain_one_is_shown_as_it_is(url: str) -> None:
    found = inquiry(asked(url))
    assert found is not None
    assert found.url == url


def test_a_refused_call_asks_no_more_than_any_other() -> None:
    many = [
        asked(f"https://bank.example/{number}").model_dump(by_alias=True) for number in range(99)
    ]
    found = to_open(Refusal(URL_NEEDED, "sign in", {"elicitations": many}))
    assert found is not None
    assert len(found.inquiries) == MAX_QUESTIONS
