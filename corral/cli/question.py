"""A question to a human as a person reads it: what will happen, who wants it, and why it is asked.

All of it may come from a model, a server or a file that an agent wrote, so every line is cleaned.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.input_form import asks_a_secret, field_line, fields_of, needed
from corral.cli.output import clean, one_line
from corral.cli.preview import MAX_LINES, argument_lines, shorten

if TYPE_CHECKING:
    from rich.text import Text

    from corral.jsontypes import JsonObject
    from corral.runtime.views import Approval

_DIFFED = frozenset({"content", "contents", "file_text", "old", "new", "patch"})
"""Arguments of our own file tools that a diff shows in full."""

_OWN = ("files__write_file", "files__edit_file", "files__apply_patch")
_SHORT = 160

_TITLES = {
    "tool": "",
    "in_doubt": "  was cut off: nobody knows whether it happened",
    "budget": "  a limit is reached",
    "loop": "  the agent seems to go round in circles",
    "input": "  its server asks you",
}

Lines = Iterator[tuple[str, str]]
"""Lines with their styles."""


@dataclass(frozen=True)
class _Page:
    """One question, in full or with what is long cut."""

    approval: Approval
    workspace: Path | None
    shortened: bool

    @property
    def context(self) -> JsonObject:
        return self.approval.context

    def text(self, words: object, width: int = _SHORT) -> str:
        """A text on one line; whole, unless it is to be cut."""
        return one_line(str(words), width if self.shortened else 100_000)

    def lines(self) -> Lines:
        """Everything below the title."""
        yield from self._asker()
        yield from self._call()
        yield from self._commands()
        yield from self._read()
        yield from self._cost()
        yield from self._why()

    def _asker(self) -> Lines:
        agents = self.context.get("agents", [])
        for depth, each in enumerate(agents):
            who = "asked by" if depth == len(agents) - 1 else "for"
            place = f" (depth {depth})" if depth else ""
            yield f"{who} {self.text(each['agent'])}{place}: {self.text(each['task'])}", "dim"

    def _form(self) -> Lines:
        """What a server asks, in its own words, and where the answer goes."""
        about = self.context["input"]
        yield f"{self.text(about['server'])} asks: {self.text(self.approval.reason, 600)}", "bold"
        if about["mode"] == "url":
            yield f"it wants you to open: {clean(about['url'])}", "bold"
            yield "what you do there, neither Corral nor the model sees", "dim"
            return
        required = needed(self.approval)
        for name, field in fields_of(self.approval).items():
            yield field_line(name, field, is_needed=name in required), ""
        yield f"what you answer goes to {self.text(about['server'])}", "dim"
        if (secret := asks_a_secret(self.approval)) is not None:
            yield f"! {self.text(secret)} looks like a secret: no form may ask for one", "bold red"

    def _call(self) -> Lines:
        if self.approval.kind == "input":
            yield from self._form()
            return
        if self.approval.kind == "budget":
            yield f"a yes raises the limit to: {new_limit(self.approval.args)}", "bold"
            return
        change = self._change()
        args = self.approval.args
        if change is not None and self.approval.tool in _OWN:
            args = {name: value for name, value in args.items() if name not in _DIFFED}
        limit = MAX_LINES if self.shortened else None
        yield from ((line, "") for line in shorten(list(argument_lines(args)), limit))
        for path, target in self.context.get("facts", {}).get("links", {}).items():
            yield f"! {self.text(path)} leads to {self.text(target)}", "bold yellow"
        if change is None:
            return
        diff = [clean(line) for line in change["diff"]]
        yield from ((line, _diff_style(line)) for line in shorten(diff, limit))
        if change["cut"]:
            yield f"… {change['cut']:,} more lines of the change are not kept", "yellow"
        if change["problem"]:
            yield f"! {self.text(change['path'])}: {clean(change['problem'])}", "yellow"

    def _change(self) -> JsonObject | None:
        if self.context or self.workspace is None:
            change: JsonObject | None = self.context.get("file")
            return change
        # Asked by a Corral that kept no context: as the file is now.
        from corral.runtime.approvals.file_change import file_change  # not needed for --help

        return file_change(self.approval.tool, self.approval.args, str(self.workspace))

    def _commands(self) -> Lines:
        for command in self.context.get("commands", []):
            if command["opaque"]:
                yield "! runs what cannot be read in advance: it may be any command", "bold red"
                continue
            unknown = set(command["unknown"])
            words = [
                f"«{word}»" if at in unknown else shlex.quote(word)
                for at, word in enumerate(command["argv"])
            ]
            by = f"  (by {self.text(' '.join(command['via']))})" if command["via"] else ""
            yield f"runs: {self.text(' '.join(words))}{by}", "bold"
            if unknown:
                yield "! what is in « » is known only when it runs", "bold red"
        if hosts := self.context.get("hosts"):
            yield f"connects to: {self.text(', '.join(hosts))}", "bold"

    def _read(self) -> Lines:
        read = self.context.get("read", {})
        sources = ", ".join(self.text(source, 80) for source in read.get("sources", []))
        if sources:
            yield f"has read: {self.text(sources, 400)}", "dim"
        if read.get("untrusted"):
            yield "! strangers may have written in what it has read", "yellow"

    def _cost(self) -> Lines:
        spent = self.context.get("spent")
        if spent is None:
            return
        limits = self.context.get("limits", {})
        steps = f"{spent['steps']} of {limits['max_steps']}" if "max_steps" in limits else None
        tokens = f"{spent['input_tokens']}+{spent['output_tokens']} tokens"
        cost = f", ${spent['cost_usd']:.4f}" if spent["cost_usd"] else ""
        yield f"the run has used: {steps or spent['steps']} steps, {tokens}{cost}", "dim"
        for budget in self.context.get("budgets", []):
            yield f"{self.text(budget['words'])}: {_used(budget)}", "dim"

    def _why(self) -> Lines:
        approval = self.approval
        if approval.reason and approval.kind != "input":
            yield f"why asked: {self.text(approval.reason, 600)}", "dim"
        for advice in self.context.get("advice", []):
            yield f"{self.text(advice['by'])} passes it on: {self.text(advice['reason'])}", "dim"
        if approval.asked_of:
            yield f"asked of: {self.text(approval.asked_of)}", "dim"
        if approval.expires_at and approval.status == "pending":
            by = approval.expires_at[:16].replace("T", " ")
            yield f"denied if nobody answers by {by} UTC", "dim"
        for warning in approval.warnings:
            yield f"! {self.text(warning)}", "bold yellow"


def new_limit(args: JsonObject) -> str:
    """What a question about a budget would raise its limit to, in words."""
    from corral.policies.budgets import in_words, shown
    from corral.policies.prices import nano

    measure, to = str(args["measure"]), args["raise_to"]
    return f"{shown(measure, nano(to) if measure == 'usd' else to)} ({in_words(measure)})"


def _used(budget: JsonObject) -> str:
    """How far a limit is used: ``4,000 of 6,000 (tokens)``."""
    from corral.policies.budgets import in_words, shown
    from corral.policies.prices import nano

    measure = str(budget["measure"])
    amounts = (budget["used"], budget["limit"])
    used, limit = (shown(measure, nano(one) if measure == "usd" else one) for one in amounts)
    return f"{used} of {limit} ({in_words(measure)})"


def question(approval: Approval, workspace: Path | None = None, *, shortened: bool = True) -> Text:
    """Everything that a person needs to answer.

    What is long is ``shortened``, with a count of what is left out. ``workspace`` is where the
    files of a question are that an older Corral asked.
    """
    from rich.text import Text

    text = Text()
    text.append(clean(approval.tool), style="bold")
    text.append(_TITLES.get(approval.kind, ""), style="yellow")
    text.append("\n")
    for line, style in _Page(approval, workspace, shortened).lines():
        text.append(f"  {line}\n", style=style)
    return text


def _diff_style(line: str) -> str:
    if line.startswith(("+++", "---", "@@")):
        return "dim"
    return {"+": "green", "-": "red"}.get(line[:1], "")
