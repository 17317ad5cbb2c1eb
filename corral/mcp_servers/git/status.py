"""The tool ``status``. Source: git-status(1), "Porcelain Format Version 2"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from corral.mcp_servers.answer_shapes import COUNT, MAYBE_COUNT, TEXT, array, record
from corral.mcp_servers.git.runner import Git
from corral.mcp_servers.paging import page_arguments, page_of
from corral.mcp_servers.tool import READS, Answer, Call, JsonObject, Tool

_PAGE, _MOST = 200, 2000
_WORDS = {
    ".": "unchanged",
    "M": "modified",
    "T": "type changed",
    "A": "added",
    "D": "deleted",
    "R": "renamed",
    "C": "copied",
    "U": "unmerged",
    "?": "untracked",
}
_MAYBE_TEXT: JsonObject = {"type": ["string", "null"]}


class _Entry(NamedTuple):
    path: str
    staged: str
    unstaged: str
    old: str | None = None

    def as_json(self) -> JsonObject:
        index, worktree = (_WORDS.get(mark, mark) for mark in (self.staged, self.unstaged))
        return {"path": self.path, "index": index, "worktree": worktree, "renamed_from": self.old}

    def __str__(self) -> str:
        origin = f" (was {self.old})" if self.old else ""
        marks = f"{self.staged}{self.unstaged}".replace(".", " ")
        return f"{marks} {self.path}{origin}"


def tool(git: Git) -> Tool:
    """The tool over one repository."""
    entry = record(path=TEXT, index=TEXT, worktree=TEXT, renamed_from=_MAYBE_TEXT)
    return Tool(
        name="status",
        title="Show what has changed",
        description=(
            "Show the branch, and which files are changed, staged or untracked. Of submodules "
            "only their commit is looked at."
        ),
        properties=page_arguments(_MOST, _PAGE),
        required=(),
        effects=READS,
        run=lambda call: status(git, call),
        output=record(
            branch=_MAYBE_TEXT,
            commit=_MAYBE_TEXT,
            upstream=_MAYBE_TEXT,
            ahead=COUNT,
            behind=COUNT,
            entries=array(entry),
            total=COUNT,
            next_offset=MAYBE_COUNT,
        ),
    )


def status(git: Git, call: Call) -> Answer:
    """The branch, and the entries that are not as in the last commit."""
    ran = git.ask(
        call,
        *("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all"),
        *("--ignore-submodules=dirty", "--no-show-stash", "--renames"),
    )
    heads = {}
    rest: list[str] = []
    for field in ran.fields:
        if field.startswith("# "):
            key, _, value = field[2:].partition(" ")
            heads[key] = value
        else:
            rest.append(field)
    page = page_of(list(_entries(rest)), call, _PAGE)
    data = _heads(heads)
    data |= {
        "entries": [entry.as_json() for entry in page.items],
        "total": page.total,
        "next_offset": page.next,
    }
    lines = [_branch(data), *map(str, page.items)]
    lines += [] if page.total else ["Nothing has changed."]
    lines += [note] if (note := page.note("entries")) else []
    return Answer("\n".join(lines), data)


def _entries(fields: list[str]) -> Iterator[_Entry]:
    waiting = iter(fields)
    for field in waiting:
        kind, _, rest = field.partition(" ")
        match kind:
            case "1":
                yield _Entry(rest.split(" ", 7)[7], rest[0], rest[1])
            case "2":
                yield _Entry(rest.split(" ", 8)[8], rest[0], rest[1], next(waiting, None))
            case "u":
                yield _Entry(rest.split(" ", 9)[9], "U", "U")
            case "?":
                yield _Entry(rest, "?", "?")


def _heads(heads: dict[str, str]) -> JsonObject:
    branch, commit = heads.get("branch.head"), heads.get("branch.oid")
    ahead, _, behind = heads.get("branch.ab", "+0 -0").partition(" ")
    return {
        "branch": None if branch == "(detached)" else branch,
        "commit": None if commit == "(initial)" else commit,
        "upstream": heads.get("branch.upstream"),
        "ahead": abs(int(ahead)),
        "behind": abs(int(behind)),
    }


def _branch(data: JsonObject) -> str:
    where = data["branch"] or f"no branch, at {data['commit'][:12]}"
    if data["commit"] is None:
        return f"On {where}, without a commit yet"
    if data["upstream"] is None:
        return f"On {where}"
    return f"On {where}, {data['ahead']} ahead of and {data['behind']} behind {data['upstream']}"
