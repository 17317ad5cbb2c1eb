"""The tool ``commit``."""

from __future__ import annotations

import re
import threading

from corral.mcp_servers.answer_shapes import FLAG, TEXT, array, record
from corral.mcp_servers.git.names import PATHS, checked_paths
from corral.mcp_servers.git.runner import Git, Job, Ran
from corral.mcp_servers.tool import Answer, Call, Effects, JsonObject, Tool, ToolFault

_AUTHOR = re.compile(r"\s*([^<>\n\0]{1,200}?)\s*<([^<>\s\0]{1,200})>\s*")
_MAX_MESSAGE = 20_000
_NOTHING = ("nothing to commit", "nothing added to commit", "no changes added to commit")


class Committing:
    """Makes commits as one author, one at a time."""

    def __init__(self, git: Git, author: str) -> None:
        self._git, self._author = git, author
        self._turn = threading.Lock()

    def tool(self) -> Tool:
        """The declaration."""
        return Tool(
            name="commit",
            title="Commit",
            description=(
                "Commit files: those that paths names, with all their changes; or with all, "
                "everything that git does not ignore; else what is staged. Hooks are not run."
            ),
            properties={
                "message": {
                    **TEXT,
                    "minLength": 1,
                    "maxLength": _MAX_MESSAGE,
                    "description": "The message: a short first line, an empty one, and the rest.",
                },
                "paths": PATHS,
                "all": {**FLAG, "default": False},
            },
            required=("message",),
            effects=Effects(read_only=False),
            run=self.commit,
            output=record(commit=TEXT, files=array(TEXT)),
        )

    def commit(self, call: Call) -> Answer:
        """Make one commit."""
        with self._turn:
            return self._commit(call)

    def _commit(self, call: Call) -> Answer:
        paths = checked_paths(call.texts("paths"))
        if paths and call.flag("all"):
            raise ToolFault("Either paths or all: the two together have no meaning.")
        if not call.text("message").strip():
            raise ToolFault("The message is empty.")
        identity = self._identity()
        self._refuse_filtered(call, paths)
        if paths or call.flag("all"):
            self._stage(call, paths)
        only = ("--only",) if paths else ()
        message = call.text("message").encode("utf-8", "replace")
        args = ("commit", "--quiet", "--no-verify", "--no-gpg-sign", "--no-edit")
        args += ("--cleanup=whitespace", "--file=-", *only, "--", *paths)
        self._changed(call, Job(args, identity, message))
        return self._made(call)

    def _stage(self, call: Call, paths: tuple[str, ...]) -> None:
        """What ``git add`` does, which would ask repositories inside, by their configuration."""
        changed = ("ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard")
        found = self._git.ask(call, *changed, "--", *paths)
        if found.cut:
            raise ToolFault("Too many files have changed for one commit: name some in paths.")
        # A name that ends in a slash is a repository inside that is not part of this one.
        names = (name for name in found.output.split(b"\0") if name and not name.endswith(b"/"))
        stdin = b"".join(name + b"\0" for name in names)
        options = ("-z", "--add", "--remove", "--replace", "--stdin")
        self._changed(call, Job(("update-index", *options), {}, stdin))

    def _identity(self) -> dict[str, str]:
        if not self._author:
            raise ToolFault(
                'Nobody is named as the author: the user sets author = "Name <mail>" under [git] '
                "in their own configuration file."
            )
        named = _AUTHOR.fullmatch(self._author)
        if named is None:
            raise ToolFault(f'The author {self._author!r} is not written as "Name <mail>".')
        return {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", named[1]), ("EMAIL", named[2]))
        }

    def _refuse_filtered(self, call: Call, paths: tuple[str, ...]) -> None:
        """Refuse what a filter would have changed on its way in, as no filter is run."""
        drivers = self._git.filters(call)
        if not drivers:
            return
        listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths)
        names = self._git.ask(call, *listing)
        if names.cut:
            raise ToolFault("The repository has filters and too many files to look at: name paths.")
        found = self._git.ask(call, "check-attr", "-z", "--stdin", "filter", stdin=names.output)
        fields = iter(found.fields)
        for path, _, driver in zip(fields, fields, fields, strict=False):
            if driver in drivers and self._is_changed(call, path):
                raise ToolFault(
                    f"{path} goes through the filter {driver!r}, a program that this server does "
                    "not run: commit it yourself, or name other paths."
                )

    def _is_changed(self, call: Call, path: str) -> bool:
        quiet = ("--porcelain", "-z", "--ignore-submodules=dirty")
        ran = self._git.ask(call, "status", *quiet, "--", path)
        return bool(ran.output)

    def _changed(self, call: Call, job: Job) -> Ran:
        ran = self._git.run(call, job)
        if ran.status:
            said = ran.error or ran.text.strip()
            nothing = not said or any(words in said for words in _NOTHING)
            raise ToolFault("There is nothing to commit." if nothing else f"git: {said[:1000]}")
        return ran

    def _made(self, call: Call) -> Answer:
        args = ("log", "--max-count=1", "--name-only", "--no-renames", "--no-show-signature", "-z")
        ran = self._git.ask(call, *args, "--no-ext-diff", "--format=tformat:%H")
        fields = [field.strip("\n") for field in ran.fields]
        files = [name for name in fields[1:] if name]
        data: JsonObject = {"commit": fields[0], "files": files}
        shown = "\n".join(files[:200])
        return Answer(f"Committed {fields[0][:12]}, {len(files)} files:\n{shown}", data)
