"""Entries ``[mcp.NAME]``: what they may hold, and what a mistake gets."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from corral.errors import ConfigError
from corral.tools.config import ServerConfig, check_server_name


def test_a_command_with_the_fields_that_mcp_users_know() -> None:
    entry = ServerConfig.model_validate(
        {"command": "uvx", "args": ["mcp-server-time"], "env": {"TZ": "UTC"}}
    )
    assert (entry.transport, entry.timeout, entry.startup_timeout) == ("stdio", 120.0, 30.0)
    assert entry.sandbox
    assert not entry.trust


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either command or url"),
        ({"command": "x", "url": "http://127.0.0.1"}, "either command or url"),
        ({"command": ""}, "at least 1 character"),
        ({"command": "x", "comand": "y"}, "Extra inputs"),
        ({"command": "x", "timeout": 0}, "greater than 0"),
        ({"command": "x", "timeout": float("inf")}, "finite"),
        ({"command": "x", "headers": {"a": "b"}}, "headers are for a url"),
        ({"url": "ftp://127.0.0.1"}, "http or https"),
        ({"url": "file:///etc/passwd"}, "http or https"),
        ({"url": "http://me:secret@127.0.0.1/mcp"}, "credentials in headers"),
        ({"url": "http://127.0.0.1/mcp", "args": ["x"]}, "for a command"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ServerConfig.model_validate(fields)


def test_it_cannot_be_changed() -> None:
    entry = ServerConfig(command="x")
    with pytest.raises(ValidationError):
        entry.trust = True  # type: ignore[misc]  # that is what is tested


def test_variables_are_filled_in_from_what_is_given() -> None:
    entry = ServerConfig(
        command="x", args=("${TOKEN}",), env={"A": "${TOKEN}", "B": "x-${NO:-d}-${EMPTY:-e}-$HOME"}
    )
    filled = entry.expanded({"TOKEN": "t${NO}", "EMPTY": ""})
    assert filled.env == {"A": "t${NO}", "B": "x-d-e-$HOME"}
    assert filled.args == ("${TOKEN}",), "arguments are visible to every user of the machine"
    assert ServerConfig(url="http://h/", headers={"A": "Bearer ${T}"}).expanded(
        {"T": "1"}
    ).headers == {"A": "Bearer 1"}


def test_a_missing_variable_is_named() -> None:
    entry = ServerConfig(url="http://127.0.0.1", headers={"Authorization": "Bearer ${TOKEN}"})
    with pytest.raises(ConfigError, match=r"headers.Authorization needs .* TOKEN") as caught:
        entry.expanded({})
    assert "TOKEN" in caught.value.hint


def test_a_header_cannot_be_split() -> None:
    entry = ServerConfig(url="http://127.0.0.1", headers={"Authorization": "${TOKEN}"})
    with pytest.raises(ConfigError, match="line break") as caught:
        entry.expanded({"TOKEN": "secret\r\nX-Admin: 1"})
    assert "secret" not in str(caught.value)


def test_secrets_are_not_in_its_repr() -> None:
    entry = ServerConfig(command="x", env={"KEY": "hunter2"})
    assert "hunter2" not in repr(entry)


@pytest.mark.parametrize("name", ["files", "my-server", "a_b", "X1"])
def test_good_names(name: str) -> None:
    check_server_name(name)


@pytest.mark.parametrize("name", ["", "a__b", "a_", "_a", "a b", "a.b", "é", "x" * 33])
def test_names_that_would_confuse(name: str) -> None:
    with pytest.raises(ConfigError):
        check_server_name(name)
