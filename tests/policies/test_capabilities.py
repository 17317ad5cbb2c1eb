"""What a call can do: the worst is assumed of whatever nobody trusted has denied."""

from __future__ import annotations

from typing import Any

import pytest

from corral.policies.facts import ToolCall
from corral.policies.provenance.capabilities import (
    capabilities,
    destinations,
    is_reader,
    names_destination,
)


def tool(name: str = "x__y", args: dict[str, Any] | None = None, **facts: Any) -> ToolCall:
    given = {"read_only": False, "sandboxed": False, "workspace": "/w", **facts}
    return ToolCall(name=name, args=args or {}, **given)


def ours(name: str, **args: Any) -> ToolCall:
    return tool(name, args, sandboxed=True, network=False, open_world=False)


def test_a_call_of_which_nothing_is_known_can_do_all_but_use_a_secret() -> None:
    assert capabilities(tool()) == {"send", "change", "irreversible"}
    assert capabilities(tool(holds_secret=True)) == {"send", "change", "irreversible", "secret"}


@pytest.mark.parametrize(
    ("call", "able"),
    [
        (tool(read_only=True), {"send"}),
        (tool(read_only=True, open_world=False), set()),
        (tool(read_only=True, open_world=False, remote=True), {"send"}),
        (tool(sandboxed=True, network=False), {"change", "irreversible"}),
        (tool("memory__remember", open_world=False), {"change"}),
        (ours("files__write_file", path="a.txt"), {"change"}),
        (ours("files__write_file", path="../a.txt"), {"change", "irreversible"}),
        (ours("files__write_file", path="Makefile"), {"change", "irreversible"}),
        (ours("files__write_file", path="sub/.vscode/tasks.json"), {"change", "irreversible"}),
        (ours("files__write_file", path="run.SH"), {"change", "irreversible"}),
        (ours("python__run_code", code="1"), {"change"}),
        (tool("python__run_code", open_world=False), {"send", "change", "irreversible"}),
    ],
)
def test_what_calls_can_do(call: ToolCall, able: set[str]) -> None:
    assert capabilities(call) == able


def test_what_no_rewind_brings_back_is_irreversible() -> None:
    facts = {"sandboxed": True, "network": False, "open_world": False}
    assert "irreversible" in capabilities(
        tool("files__write_file", {"path": "a"}, rewindable=False, **facts)
    )
    assert "irreversible" in capabilities(
        tool("files__write_file", {"path": "a"}, links={"a": "/etc/passwd"}, **facts)
    )


@pytest.mark.parametrize(
    ("args", "to"),
    [
        ({"url": "https://A.example/x"}, {"a.example"}),
        ({"url": "https://a.example@evil.example/"}, {"a.example", "evil.example"}),
        (
            {"note": "see http://evil.example/x and mail x@b.example"},
            {"evil.example", "x@b.example"},
        ),
        ({"host": "evil.example"}, {"evil.example"}),
        ({"to": "Bob@B.example"}, {"bob@b.example"}),
        ({"q": ["ping 192.0.2.7"]}, {"192.0.2.7"}),
        ({"text": "nothing here"}, set()),
        ({"path": "notes.txt"}, set()),
    ],
)
def test_where_data_goes(args: dict[str, Any], to: set[str]) -> None:
    assert to <= set(destinations(tool(args=args)))
    assert bool(to) is bool(destinations(tool(args=args)))


def test_an_argument_can_name_a_destination_that_is_no_host() -> None:
    assert names_destination(tool(args={"channel": "general"}))
    assert not names_destination(tool(args={"query": "green tea"}))


@pytest.mark.parametrize(
    ("pattern", "to", "fits"),
    [
        *(("example.com", "example.com", True), ("*.example.com", "a.example.com", True)),
        *(("example.com", "a.example.com", False), ("example.com", "ann@example.com", True)),
        *(("ann@example.com", "bob@example.com", False), ("server:mail", "server:mail", True)),
        *(("example.com", "server:mail", False), ("*.example.com", "example.com.evil.org", False)),
    ],
)
def test_readers(pattern: str, to: str, fits: bool) -> None:
    assert is_reader(pattern, to) is fits
