"""The git server: what it tells and commits, and that no repository makes it run a program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.client import FOLDER, RawClient

AUTHOR = "Ann Author <ann@example.com>"


def git(folder: Path, *args: str) -> str:
    identity = ("-c", "user.name=Old", "-c", "user.email=old@example.com")
    command = ["git", *identity, "-c", "commit.gpgSign=false", *args]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=30
    )
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    (made / "a.txt").write_text("one\ntwo\n")
    git(made, "add", ".")
    git(made, "commit", "--quiet", "--message=First\n\nThe body.")
    return made


def server(folder: Path, author: str = AUTHOR) -> RawClient:
    options = ["--root", str(folder), "--config", f'{{"author": "{author}"}}']
    return RawClient([sys.executable, "-I", "-S", str(FOLDER), "git", *options])


@pytest.fixture
def client(folder: Path) -> Iterator[RawClient]:
    with server(folder) as made:
        yield made


def data(client: RawClient, tool: str, **arguments: Any) -> dict[str, Any]:
    result = client.call(tool, **arguments)
    assert not result.get("isError"), result["content"]
    structured: dict[str, Any] = result["structuredContent"]
    return structured


def test_the_declarations_tell_the_truth(client: RawClient) -> None:
    tools = {t["name"]: t for t in client.request("tools/list")["result"]["tools"]}
    reads = [name for name, tool in tools.items() if tool["annotations"]["readOnlyHint"]]
    assert reads == ["status", "log", "show", "diff"]
    assert list(tools) == [*reads, "commit"]
    assert not any(tool["annotations"]["openWorldHint"] for tool in tools.values())


def test_status(client: RawClient, folder: Path) -> None:
    assert client.text("status") == "On main\nNothing has changed."
    (folder / "a.txt").write_text("one\n2\n")
    (folder / "new file\n.txt").write_text("")
    (folder / "b").write_text("b")
    git(folder, "add", "b")
    found = data(client, "status")
    assert found["branch"] == "main"
    assert found["commit"] == git(folder, "rev-parse", "HEAD").strip()
    assert {e["path"]: (e["index"], e["worktree"]) for e in found["entries"]} == {
        "a.txt": ("unchanged", "modified"),
        "b": ("added", "unchanged"),
        "new file\n.txt": ("untracked", "untracked"),
    }
    page = data(client, "status", offset=1, limit=1)
    assert (len(page["entries"]), page["total"], page["next_offset"]) == (1, 3, 2)


def test_a_rename_has_both_names(client: RawClient, folder: Path) -> None:
    git(folder, "mv", "a.txt", "z.txt")
    (entry,) = data(client, "status")["entries"]
    assert (entry["path"], entry["renamed_from"], entry["index"]) == ("z.txt", "a.txt", "renamed")
    assert [file["path"] for file in data(client, "diff", staged=True)["files"]] == ["z.txt"]


def test_diff(client: RawClient, folder: Path) -> None:
    assert client.text("diff") == "No differences."
    (folder / "a.txt").write_text("one\n2\n")
    found = data(client, "diff")
    assert found["files"] == [{"path": "a.txt", "added": 1, "deleted": 1}]
    assert "-two\n+2" in found["diff"]
    assert found["complete"]
    assert client.text("diff", staged=True) == "No differences."
    git(folder, "commit", "--all", "--quiet", "--message=Second")
    assert "-two\n+2" in client.text("diff", base="HEAD~1", head="HEAD")
    assert "-2\n+two" in client.text("diff", base="HEAD", head="main~1")
    assert client.text("diff", base="HEAD~1", paths=["absent"]) == "No differences."
    (folder / "large").write_text("line\n" * 60_000)
    git(folder, "add", "large")
    assert not data(client, "diff", staged=True)["complete"]


def test_log_comes_in_pages(client: RawClient, folder: Path) -> None:
    for number in range(5):
        (folder / "n").write_text(str(number))
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", f"--message=Number {number}")
    first = data(client, "log", limit=4)
    assert [c["subject"] for c in first["commits"]][:2] == ["Number 4", "Number 3"]
    assert first["next_offset"] == 4
    rest = data(client, "log", limit=4, offset=4)
    assert [c["subject"] for c in rest["commits"]] == ["Number 0", "First"]
    assert rest["next_offset"] is None
    assert rest["commits"][1]["body"].strip() == "The body."
    assert rest["commits"][1]["author"] == "Old <old@example.com>"
    assert [c["subject"] for c in data(client, "log", paths=["a.txt"])["commits"]] == ["First"]


def test_show(client: RawClient, folder: Path) -> None:
    text = client.text("show")
    assert "First\n\nThe body." in text
    assert "+one\n+two" in text
    (folder / "a.txt").write_text("changed\n")
    assert client.text("show", file="a.txt") == "one\ntwo\n"
    assert "git cat-file" in client.fault("show", file="absent")


def test_commit(client: RawClient, folder: Path) -> None:
    (folder / "a.txt").write_text("three\n")
    (folder / "b.txt").write_text("b\n")
    (folder / "c.txt").write_text("c\n")
    made = data(client, "commit", message="Some\n\n# no comment", paths=["a.txt", "b.txt"])
    assert made["files"] == ["a.txt", "b.txt"]
    assert git(folder, "log", "-1", "--format=%an %ae %cn|%B").strip() == (
        "Ann Author ann@example.com Ann Author|Some\n\n# no comment"
    )
    assert client.fault("commit", message="x") == "There is nothing to commit."
    assert data(client, "commit", message="Rest", all=True)["files"] == ["c.txt"]
    (folder / "c.txt").unlink()
    assert data(client, "commit", message="Gone", paths=["c.txt"])["files"] == ["c.txt"]
    assert client.fault("commit", message="Nothing", all=True) == "There is nothing to commit."
    assert "empty" in client.fault("commit", message=" ")


@pytest.mark.parametrize("author", ["", "Ann", "<ann@example.com>", "A\\nB <a@b.c>"])
def test_a_commit_needs_an_author(folder: Path, author: str) -> None:
    (folder / "a.txt").write_text("changed")
    with server(folder, author) as client:
        assert "uthor" in client.fault("commit", message="x", all=True)
    assert git(folder, "log", "--format=%s").split() == ["First"]


def test_a_repository_without_commits(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    (tmp_path / "a").write_text("a")
    with server(tmp_path) as client:
        assert "without a commit yet" in client.text("status")
        assert client.text("log") == "There is no commit yet."
        assert "There is no commit 'HEAD'" in client.fault("show")
        assert data(client, "commit", message="First", all=True)["files"] == ["a"]
        assert "+a" in client.text("show")


def test_what_is_no_repository(tmp_path: Path) -> None:
    with server(tmp_path) as client:
        assert "no git repository" in client.fault("status")
        (tmp_path / ".git").write_text("gitdir: /elsewhere")
        assert "leads elsewhere" in client.fault("status")


@pytest.mark.parametrize(
    "revision", ["--output=stolen", "-p", "HEAD;id", "HEAD:a.txt", "a b", "@{u", "--", "HEAD\n"]
)
def test_a_revision_is_never_an_option(client: RawClient, folder: Path, revision: str) -> None:
    for tool, name in (("log", "revision"), ("show", "revision"), ("diff", "base")):
        assert "commit" in client.fault(tool, **{name: revision})
    assert not (folder / "stolen").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", ".git/config", "a/.GIT/hooks/x"])
def test_a_path_stays_in_the_repository(client: RawClient, path: str) -> None:
    for tool in ("log", "diff"):
        assert client.fault(tool, paths=[path])
    assert client.fault("commit", message="x", paths=[path])
    assert client.fault("show", file=path)


def test_paths_are_names_and_neither_patterns_nor_options(client: RawClient, folder: Path) -> None:
    (folder / "b.txt").write_text("b")
    for path in ("*.txt", ":(top)b.txt", "--all", "-A"):
        assert client.fault("commit", message="x", paths=[path])
    (folder / "--all").write_text("x")
    assert data(client, "commit", message="x", paths=["--all"])["files"] == ["--all"]


def test_nothing_in_a_repository_makes_git_run_a_program(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    run = tmp_path / "run"
    run.write_text(f"#!/bin/sh\necho $0 >> {mark}\ncat\n")
    run.chmod(0o755)
    hooks = folder / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("pre-commit", "commit-msg", "post-commit", "post-index-change", "fsmonitor"):
        (hooks / hook).write_bytes(run.read_bytes())
        (hooks / hook).chmod(0o755)
    for key in (
        *("core.fsmonitor", "core.pager", "core.editor", "diff.external", "gpg.program"),
        *("diff.evil.command", "diff.evil.textconv", "filter.evil.clean", "filter.evil.smudge"),
        *("filter.odd.na=me.clean", "filter.evil2.process", "core.sshCommand", "alias.status"),
        *("credential.helper", "core.askPass", "sequence.editor", "pager.log", "pager.diff"),
    ):
        value = f"!{run}" if key.startswith("alias") else str(run)
        subprocess.run(["git", "config", key, value], cwd=folder, check=True)
    for key in ("commit.gpgSign", "log.showSignature", "filter.evil.required"):
        subprocess.run(["git", "config", key, "true"], cwd=folder, check=True)
    (folder / ".gitattributes").write_text("*.txt diff=evil filter=evil\n*.md filter=evil2\n")
    (folder / "a.txt").write_text("changed\n")
    (folder / "m.md").write_text("changed\n")
    (folder / "free").write_text("new\n")
    with server(folder) as client:
        for tool in ("status", "diff", "log", "show"):
            client.text(tool)
        assert "filter 'evil'" in client.fault("commit", message="x", paths=["a.txt"])
        assert "filter 'evil2'" in client.fault("commit", message="x", paths=["m.md"])
        made = data(client, "commit", message="x", paths=["free", ".gitattributes"])
        assert made["files"] == [".gitattributes", "free"]
    assert not mark.exists(), mark.read_text()


def test_no_repository_inside_makes_git_run_a_program(folder: Path, tmp_path: Path) -> None:
    """git asks a repository in the repository what has changed, by the configuration there."""
    mark = tmp_path / "ran"
    run = tmp_path / "run"
    run.write_text(f"#!/bin/sh\necho $0 >> {mark}\ncat\n")
    run.chmod(0o755)
    inner = folder / "inner"
    inner.mkdir()
    git(inner, "init", "--quiet")
    (inner / "f").write_text("x")
    git(inner, "add", ".")
    git(inner, "commit", "--quiet", "--message=Inner")
    git(folder, "add", "inner")
    git(folder, "commit", "--quiet", "--message=Gitlink")
    git(inner, "config", "core.fsmonitor", str(run))
    git(inner, "config", "filter.evil.clean", str(run))
    (inner / ".gitattributes").write_text("* filter=evil\n")
    (inner / "f").write_text("y")
    (folder / "a.txt").write_text("changed")
    with server(folder) as client:
        for tool in ("status", "diff", "log", "show"):
            client.text(tool)
        client.text("diff", base="HEAD~1")
        client.call("commit", message="x", paths=["inner"])
        client.call("commit", message="x", paths=["a.txt", "inner"])
        (folder / "b.txt").write_text("new")
        assert data(client, "commit", message="x", all=True)["files"] == ["b.txt"]
    assert not mark.exists(), mark.read_text()


def test_a_missing_object_is_not_fetched(folder: Path, tmp_path: Path) -> None:
    """A partial clone gets what it lacks through a transport, which can be any program."""
    mark = tmp_path / "ran"
    for key, value in {
        "remote.origin.url": f"ext::sh -c touch% {mark}",
        "remote.origin.promisor": "true",
        "remote.origin.partialclonefilter": "blob:none",
        "extensions.partialClone": "origin",
        "core.repositoryFormatVersion": "1",
        "protocol.ext.allow": "always",
    }.items():
        subprocess.run(["git", "config", key, value], cwd=folder, check=True)
    blob = git(folder, "rev-parse", "HEAD:a.txt").strip()
    (folder / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with server(folder) as client:
        client.fault("show", file="a.txt")
        client.fault("show")
    assert not mark.exists()
