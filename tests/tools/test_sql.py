"""What the sql server is started with: the folders of its files, and gateways for servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corral.errors import ConfigError
from corral.sandbox.network.postgres_url import PostgresUrl
from corral.tools.addition import Addition
from corral.tools.builtin import builtin_server
from corral.tools.settings import BuiltinSettings, SqlSettings
from corral.tools.sql import sql_addition

URL = "postgresql://ann:se%2Fcret@db.example.org:6000/shop?sslmode=require"


def added(workspace: Path, environ: dict[str, str] | None = None, **entries: Any) -> Addition:
    databases = {name: SqlSettings.model_validate(entry) for name, entry in entries.items()}
    return sql_addition(databases, workspace, environ or {"HOME": "/home/somebody"})


def granted(found: Addition) -> dict[str, bool]:
    packages = set(found.config["packages"])
    return {str(one.path): one.writable for one in found.grants if str(one.path) not in packages}


def test_the_folder_of_a_file_is_granted_and_nothing_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    found = added(tmp_path, one={"path": "data/a.db"}, two={"path": "data/b.db"})
    assert granted(found) == {str(tmp_path / "data"): False}
    assert not found.network
    assert found.config["databases"][0] == {
        "name": "one",
        "kind": "",
        "write": False,
        "max_rows": 1000,
        "timeout": 30.0,
        "path": str(tmp_path / "data" / "a.db"),
    }
    settings = BuiltinSettings(sql={"one": SqlSettings(path=Path("data/a.db"))})
    profile = builtin_server("sql", tmp_path, settings).profile
    assert profile.workdir is None
    assert tmp_path not in [grant.path for grant in profile.grants]
    assert not any(grant.writable for grant in profile.grants)


def test_write_makes_the_folder_writable_and_keeps_git_safe(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    entries: dict[str, Any] = {"one": {"path": "a.db", "write": True}, "two": {"path": "b.db"}}
    assert granted(added(tmp_path, **entries)) == {str(tmp_path): True}
    made = {name: SqlSettings.model_validate(entry) for name, entry in entries.items()}
    profile = builtin_server("sql", tmp_path, BuiltinSettings(sql=made)).profile
    grants = {grant.path: grant.writable for grant in profile.grants}
    assert (grants[tmp_path], grants[tmp_path / ".git"]) == (True, False)


def test_of_a_folder_with_everything_in_it_only_the_files_are_granted(tmp_path: Path) -> None:
    for name in ("a.db", "a.db-wal", "secret"):
        (tmp_path / name).write_text("x")
    environ = {"HOME": str(tmp_path)}
    found = added(tmp_path / "work", environ, one={"path": str(tmp_path / "a.db")})
    assert granted(found) == {str(tmp_path / "a.db"): False, str(tmp_path / "a.db-wal"): False}
    with pytest.raises(ConfigError, match="holds other things") as raised:
        added(tmp_path, environ, one={"path": str(tmp_path / "a.db"), "write": True})
    assert "folder of its own" in raised.value.hint


def test_links_do_not_lead_out_of_the_workspace(tmp_path: Path) -> None:
    workspace, outside = tmp_path / "work", tmp_path / "outside"
    workspace.mkdir()
    outside.mkdir()
    (outside / "a.db").write_text("")
    (workspace / "a.db").symlink_to(outside / "a.db")
    (workspace / "data").symlink_to(outside)
    for path in ("a.db", "data/a.db"):
        with pytest.raises(ConfigError, match="leads out"):
            added(workspace, one={"path": path})
    assert granted(added(workspace, one={"path": "../outside/a.db"})) == {str(outside): False}


def test_a_url_becomes_a_forward_and_never_an_argument(tmp_path: Path) -> None:
    settings = BuiltinSettings(sql={"pg": SqlSettings(url_env="TEST_URL")})
    found = added(tmp_path, {"TEST_URL": URL}, pg={"url_env": "TEST_URL"})
    (forward,) = found.network.forwards
    assert (forward.host, forward.port, forward.private) == ("db.example.org", 6000, True)
    assert found.config["databases"][0]["port"] == forward.inside_port
    assert set(found.handlers) == {forward.inside_port}
    assert "se/cret" not in f"{found!r}{settings!r}"
    assert "db.example.org" not in str(found.config)
    with pytest.raises(ConfigError, match=r"TEST_URL of \[sql\.pg\], which is not set"):
        added(tmp_path, pg={"url_env": "TEST_URL"})


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"path": "a.db", "url_env": "X"},
        {"path": "a.db", "kind": "postgres"},
        {"url_env": "X", "kind": "sqlite"},
        {"path": "a.db", "timeout": 0},
    ],
)
def test_an_entry_names_one_thing(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SqlSettings.model_validate(entry)


def test_a_url_is_read(tmp_path: Path) -> None:
    url = PostgresUrl.parse(URL, "X")
    assert (url.host, url.port, url.user, url.password) == (
        "db.example.org",
        6000,
        "ann",
        "se/cret",
    )
    assert (url.database, url.mode, url.binding) == ("shop", "require", "prefer")
    assert "se/cret" not in repr(url)
    plain = PostgresUrl.parse("postgres://ann@[::1]/", "X")
    assert (plain.host, plain.port, plain.database, plain.mode) == ("::1", 5432, "ann", "prefer")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://a:pass-word@b/c", "does not begin"),
        ("postgresql://a:pass-word@b:port/c", "not a URL"),
        ("postgresql:///c?host=/run", "no host"),
        ("postgresql://a:pass-word@b,c/d", "several hosts"),
        ("postgresql://a:pass-word@b/c?sslmode=never", "another sslmode"),
        ("postgresql://a:pass-word@b/c?service=x", "parameter service"),
        ("postgresql://a:pass-word@b/c%00d", "NUL"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_it(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        PostgresUrl.parse(url, "the variable X")
    assert "the variable X" in str(raised.value)
    assert "pass-word" not in f"{raised.value}{raised.value.hint}"
