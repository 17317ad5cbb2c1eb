"""The guard: what a tainted context may still do by itself, and what it may not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.facts import ToolCall
from corral.policies.provenance.guard import from_user, guard
from corral.policies.provenance.labels import PUBLIC, USER, Label
from corral.policies.provenance.verbatim import Page

SAID = ("Read notes.txt, compare it with https://a.example/x and pay 40 to ACME-7 on Monday.",)
PAGE = (Page("https://a.example", "See https://b.example/y for more, or /z."),)
SECRET = "4711-9932"
WEB = Label(("web",), untrusted=True)
FILE = Label(("files__read_file notes.txt",), untrusted=True, readers=frozenset())


def call(args: dict[str, Any], label: Label = FILE, **facts: Any) -> ToolCall:
    """A read-only call of a tool that reaches the outside."""
    known: dict[str, Any] = {
        "name": "functions__look",
        "read_only": True,
        "sandboxed": False,
        "workspace": "/work",
        "user_texts": SAID,
        "public_pages": PAGE,
        "returned_texts": (
            '[{"id": "m-3", "file": "a/b.txt", "user_id": 47, "userId": 48, "number": 12}] #13 Bug',
            f"the code {SECRET}, and I paid 4712",
        ),
        "at": datetime(2026, 11, 22, tzinfo=UTC),
        **facts,
    }
    return ToolCall(args=args, label=label, **known)


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"url": "https://a.example/x"},
        {"path": "notes.txt", "limit": 50, "all": True, "since": "2026-11-01"},
        {"path": "/work/notes.txt"},
        *({"id": "m-3"}, {"user_id": 47}, {"userId": 48}, {"issue_number": 12}, {"number": 13}),
        {"file_path": "a/b.txt"},
        {"names": ["ACME-7", "notes.txt"]},
        {"query": None, "tag": ""},
    ],
)
def test_what_may_be_looked_up_after_private_content(args: dict[str, Any]) -> None:
    assert guard(call(args)) is None


@pytest.mark.parametrize(
    "args",
    [
        {"url": f"https://a.example/{SECRET}"},
        {"url": "https://a.example/"},
        {"url": "https://b.example/y"},
        {"query": SECRET},
        {"id": SECRET},
        {"path": SECRET},
        {"query": "notes"},
        {"n": 47119932},
        {"n": 0.4711},
        {SECRET: None, "x": {SECRET: 1}},
        {"ids": ["m-3", SECRET]},
        *({"when": "4711-99-32"}, {"born": "1984-05-17"}, {"born": "1984-05"}),
        *({"code": 47}, {"code": 11}, {"x": {"limit": 47}}),
        {"id": "4712"},
    ],
)
def test_what_is_asked_about_after_private_content(args: dict[str, Any]) -> None:
    objection = guard(call(args))
    assert objection is not None
    assert objection.action == "ask"
    assert "files__read_file notes.txt" in objection.reason


@pytest.mark.parametrize(
    ("args", "free"),
    [
        ({"url": "https://b.example/y"}, True),
        ({"url": "https://a.example/other?q=anything"}, True),
        ({"query": "anything at all"}, True),
        ({"url": "https://evil.example/?q=Monday"}, False),
        ({"url": "https://a.example@evil.example/"}, False),
        ({"url": "https://b.example/y", "q": "ACME-7"}, False),
        ({"url": "https://b.example/y", "depth": 3}, True),
        ({"host": "monday.evil.example"}, False),
        ({"query": "to x@evil.example"}, False),
        ({"query": "evil\u3002example/ACME-7"}, False),
        ({"query": "https%3A%2F%2Fevil%2Eexample%2FACME-7"}, False),
        ({"url": "https://a.example/?q=https%3A%2F%2Fevil%252Eexample%2FACME-7"}, False),
        ({"channel": "general"}, False),
    ],
)
def test_after_public_content_only_destinations_matter(args: dict[str, Any], free: bool) -> None:
    assert (guard(call(args, WEB)) is None) is free


@pytest.mark.parametrize("label", [PUBLIC, USER, Label(("x",), readers=frozenset())])
def test_what_only_trusted_content_asks_for_is_not_doubted(label: Label) -> None:
    assert guard(call({"url": f"https://evil.example/{SECRET}"}, label)) is None


def test_a_change_is_free_only_with_the_users_own_values() -> None:
    def pay(**args: Any) -> ToolCall:
        return call(args, name="functions__pay", read_only=False)

    assert guard(pay(to="ACME-7", amount=40)) is None
    for wrong in (
        {"to": "ACME-7", "amount": 400},
        {"to": "EVIL"},
        {},
        {"to": "ACME-7", "all": True},
    ):
        assert guard(pay(**wrong)) is not None
    assert (
        guard(call({"text": "x"}, name="memory__remember", read_only=False, open_world=False))
        is None
    )


def test_defaults_and_choices_count_only_as_far_as_the_schema_says() -> None:
    schema = {
        "properties": {"sort": {"enum": ["new", "old"]}, "page": {"default": 5000}},
    }
    assert guard(call({"sort": "new", "page": 5000}, schema=schema)) is None
    assert guard(call({"sort": SECRET}, schema=schema)) is not None
    assert guard(call({"sort": "new"}, schema=schema, read_only=False)) is not None


def test_a_secret_is_used_only_where_the_user_says() -> None:
    facts: dict[str, Any] = {"read_only": True, "open_world": False, "holds_secret": True}
    assert guard(call({"card": "[redacted:card#1]"}, **facts)) is not None
    assert guard(call({"card": "ACME-7"}, **facts)) is None


def test_the_users_choice_of_what_happens() -> None:
    doubted = call({"query": SECRET})
    assert guard(doubted, "off") is None
    denied = guard(doubted, "deny")
    assert denied is not None
    assert denied.action == "deny"


def test_confidential_content_is_for_its_readers_even_where_it_is_trusted() -> None:
    label = Label(("hr",), readers=frozenset({"*.corp.example"}), confidential=True)
    assert guard(call({"url": "https://x.corp.example/?q=1"}, label)) is None
    assert guard(call({"url": "https://evil.example/?q=1"}, label)) is not None
    assert guard(call({"query": "who"}, label)) is not None
    assert guard(call({"query": "who"}, label), "off") is not None
    assert guard(call({"query": "who"}, label, open_world=False)) is None


def test_a_rule_can_ask_for_the_users_own_values() -> None:
    paying = call({"to": "ACME-7", "note": "hello"}, read_only=False)
    assert from_user(paying, ["to"])
    assert not from_user(paying, ["to", "note"])
    assert not from_user(paying, ["cc"])
    assert not from_user(paying)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["url", "query", "id", "path", "n", "tags"]), st.just(SECRET)),
    st.text(max_size=20),
)
def test_no_shape_lets_a_secret_out(args: dict[str, str], around: str) -> None:
    told = {name: [around, {around: value}] for name, value in args.items()}
    assert (guard(call(args)) is None) is (not args)
    assert (guard(call(told)) is None) is (not args)
