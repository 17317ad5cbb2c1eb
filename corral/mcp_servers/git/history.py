"""The tools ``log``, ``show`` and ``diff``."""

from __future__ import annotations

from typing import NamedTuple

from corral.mcp_servers.answer_shapes import FLAG, MAYBE_COUNT, TEXT, array, record
from corral.mcp_servers.git.names import (
    EMPTY_TREE,
    PATHS,
    REVISION,
    checked_paths,
    commit_of,
    has_commits,
)
from corral.mcp_servers.git.runner import Git
from corral.mcp_servers.paging import page_arguments
from corral.mcp_servers.tool import READS, Answer, Call, JsonObject, Tool, ToolFault

_PAGE, _MOST = 20, 200
_MAX_DIFF = 100_000
_MAX_FILE = 200_000
_FIELDS = "%H%x00%aI%x00%an <%ae>%x00%P%x00%s%x00%b"
_MAX_BODY = 2000
_PLAIN = (
    *("--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"),
    *("--ignore-submodules=dirty", "--submodule=short", "--no-relative", "--find-renames"),
)
_FILE = record(path=TEXT, added=MAYBE_COUNT, deleted=MAYBE_COUNT)
_COMMIT = record(commit=TEXT, date=TEXT, author=TEXT, parents=array(TEXT), subject=TEXT, body=TEXT)


class Commit(NamedTuple):
    """One commit, as ``log`` tells it."""

    hash: str
    date: str
    author: str
    parents: str
    subject: str
    body: str

    def as_json(self) -> JsonObject:
        """As the tools' results have it."""
        return {
            "commit": self.hash,
            "date": self.date,
            "author": self.author,
            "parents": self.parents.split(),
            "subject": self.subject,
            "body": self.body[:_MAX_BODY],
        }


def tools(git: Git) -> list[Tool]:
    """The three tools over one repository."""
    return [_log_tool(git), _show_tool(git), _diff_tool(git)]


def _log_tool(git: Git) -> Tool:
    return Tool(
        name="log",
        title="Show the history",
        description="List commits, the newest first: all, or those that change some paths.",
        properties={
            "revision": {**REVISION, "default": "HEAD"},
            "paths": PATHS,
            **page_arguments(_MOST, _PAGE),
        },
        required=(),
        effects=READS,
        run=lambda call: log(git, call),
        output=record(commits=array(_COMMIT), next_offset=MAYBE_COUNT),
    )


def _show_tool(git: Git) -> Tool:
    return Tool(
        name="show",
        title="Show a commit",
        description=(
            "Show one commit: who, when, why, and what it changed compared with its first "
            "parent. With file: that file as it was in the commit."
        ),
        properties={
            "revision": {**REVISION, "default": "HEAD"},
            "paths": PATHS,
            "file": {**PATHS["items"], "description": "A file's path: show its content there."},
        },
        required=(),
        effects=READS,
        run=lambda call: show(git, call),
        output=record(commit=_COMMIT, files=array(_FILE), diff=TEXT, content=TEXT, complete=FLAG),
    )


def _diff_tool(git: Git) -> Tool:
    return Tool(
        name="diff",
        title="Show differences",
        description=(
            "Show what has changed in the files and is not staged; with staged, what is staged; "
            "with base, what is different from that commit; with base and head, between the two."
        ),
        properties={
            "staged": {**FLAG, "default": False},
            "base": REVISION,
            "head": REVISION,
            "paths": PATHS,
            "context": {"type": "integer", "minimum": 0, "maximum": 50, "default": 3},
        },
        required=(),
        effects=READS,
        run=lambda call: diff(git, call),
        output=record(files=array(_FILE), diff=TEXT, complete=FLAG),
    )


def log(git: Git, call: Call) -> Answer:
    """Commits from a revision back."""
    offset, limit = int(call.number("offset", 0)), int(call.number("limit", _PAGE))
    revision = call.text("revision", "HEAD")
    if revision == "HEAD" and not has_commits(git, call):
        return Answer("There is no commit yet.", {"commits": [], "next_offset": None})
    start = commit_of(git, call, revision)
    found = _commits(
        git, call, f"--skip={offset}", f"--max-count={limit + 1}", start, "--", *_paths(call)
    )
    following = offset + limit if len(found) > limit else None
    lines = [_line(one) for one in found[:limit]] or ["No commits."]
    lines += [f"[there are more: go on with offset={following}]"] if following else []
    data: JsonObject = {
        "commits": [one.as_json() for one in found[:limit]],
        "next_offset": following,
    }
    return Answer("\n".join(lines), data)


def _commits(git: Git, call: Call, *args: str) -> list[Commit]:
    plain = ("--no-color", "--no-notes", "--no-show-signature", "--no-patch", "-z")
    ran = git.ask(call, "log", *plain, f"--format=tformat:{_FIELDS}", *args)
    fields = [_readable(field) for field in ran.fields]
    size = len(Commit._fields)
    return [Commit(*fields[at : at + size]) for at in range(0, len(fields) - size + 1, size)]


def _readable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _paths(call: Call) -> tuple[str, ...]:
    return checked_paths(call.texts("paths"))


def _line(one: Commit) -> str:
    return f"{one.hash[:12]}  {one.date[:10]}  {one.author.split(' <')[0]}  {one.subject}"


def show(git: Git, call: Call) -> Answer:
    """One commit with its changes, or a file as it was in it."""
    start = commit_of(git, call, call.text("revision", "HEAD"))
    (commit,) = _commits(git, call, "--max-count=1", start, "--")
    if call.text("file"):
        return _content(git, call, commit)
    base = commit.parents.split()[0] if commit.parents else EMPTY_TREE
    files, text, complete = _difference(git, call, (base, start))
    body = f"\n\n{commit.body.strip()[:_MAX_BODY]}" if commit.body.strip() else ""
    head = f"{commit.hash}\n{commit.author}  {commit.date}\n\n{commit.subject}{body}"
    data: JsonObject = {
        "commit": commit.as_json(),
        "files": files,
        "diff": text,
        "content": "",
        "complete": complete,
    }
    return Answer(f"{head}\n\n{text}{_note(complete)}", data)


def _content(git: Git, call: Call, commit: Commit) -> Answer:
    (path,) = checked_paths([call.text("file")])
    ran = git.ask(call, "cat-file", "blob", f"{commit.hash}:{path}", limit=_MAX_FILE)
    if b"\0" in ran.output[:8192]:
        raise ToolFault(f"{path} was a binary file in {commit.hash[:12]}.")
    data: JsonObject = {
        "commit": commit.as_json(),
        "files": [],
        "diff": "",
        "content": ran.text,
        "complete": not ran.cut,
    }
    return Answer(ran.text + ("\n[the file goes on]" if ran.cut else ""), data)


def diff(git: Git, call: Call) -> Answer:
    """Differences between the files, the index and commits."""
    sides = [call.text(name) for name in ("base", "head") if call.text(name)]
    if call.text("head") and not call.text("base"):
        raise ToolFault("head needs a base to be compared with.")
    if call.flag("staged") and len(sides) == 2:
        raise ToolFault("Two commits have nothing staged between them: leave staged out.")
    commits = tuple(commit_of(git, call, side) for side in sides)
    staged = ("--cached",) if call.flag("staged") else ()
    files, text, complete = _difference(git, call, (*staged, *commits))
    data: JsonObject = {"files": files, "diff": text, "complete": complete}
    return Answer((text or "No differences.") + _note(complete), data)


def _note(complete: bool) -> str:
    return "" if complete else "\n[the diff goes on: name some of the files in paths]"


def _difference(git: Git, call: Call, sides: tuple[str, ...]) -> tuple[list[JsonObject], str, bool]:
    """The files with their counts of lines, the diff, and whether that is all of it."""
    paths = _paths(call)
    around = f"--unified={int(call.number('context', 3))}"
    counted = git.ask(call, "diff", *_PLAIN, "--numstat", "-z", *sides, "--", *paths)
    ran = git.ask(call, "diff", *_PLAIN, around, *sides, "--", *paths, limit=_MAX_DIFF)
    return _files(counted.fields), ran.text.rstrip("\n"), not (ran.cut or counted.cut)


def _files(fields: list[str]) -> list[JsonObject]:
    found: list[JsonObject] = []
    waiting = iter(fields)
    for field in waiting:
        added, deleted, path = field.split("\t", 2)
        if not path:  # a rename: the old and the new name follow
            next(waiting, "")
            path = next(waiting, "")
        counts = (int(count) if count.isdigit() else None for count in (added, deleted))
        found.append({"path": path, **dict(zip(("added", "deleted"), counts, strict=True))})
    return found
