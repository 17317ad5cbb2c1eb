"""A question to a human in words: what will happen, who wants it, and why it is asked.

The one place that words it, for a terminal and for an MCP client. All of it may come from a model,
a server or a file that an agent wrote, so every line is cleaned.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from corral.jsontypes import Json, JsonObject
from corral.policies.budgets import in_words, shown
from corral.policies.prices import nano
from corral.runtime.approvals.form import (
    asks_a_secret,
    field_line,
    fields_of,
    needed,
)
from corral.runtime.views import Approval
from corral.tools.text import visible, visible_line

MAX_LINES = 60
"""Lines of one value or diff that are shown at first; the rest is counted."""

Tone = Literal["plain", "strong", "quiet", "caution", "warning", "alarm", "added", "removed"]

Lines = Iterator[tuple[str, Tone]]

_DIFFED = frozenset({"content", "contents", "file_text", "old", "new", "patch"})
"""Arguments of our own file tools that a diff shows in full."""

_OWN = ("files__write_file", "files__edit_file", "files__apply_patch")
_SHORT = 160
_WHOLE = 100_000


@dataclass(frozen=True)
class Page:
    """One question; ``shortened``: with what is long cut, and a count of what is left out."""

    approval: Approval
    shortened: bool = True

    @property
    def context(self) -> JsonObject:
        """What was known when it was asked."""
        return self.approval.context

    def lines(self) -> Lines:
        """All of it, as a terminal shows it below the title."""
        yield from self.asker()
        yield from self.call()
        yield from self.change()
        yield from self.reach()
        yield from self.background()

    def asker(self) -> Lines:
        """Which agent asks, with its task, and on whose behalf."""
        agents = self.context.get("agents", [])
        for depth, each in enumerate(agents):
            who = "asked by" if depth == len(agents) - 1 else "for"
            place = f" (depth {depth})" if depth else ""
            yield f"{who} {self._text(each['agent'])}{place}: {self._text(each['task'])}", "quiet"

    def call(self) -> Lines:
        """What is asked about: a call with its arguments and its change, a form or a limit."""
        match self.approval.kind:
            case "input":
                yield from self._form()
            case "budget":
                yield f"a yes raises the limit to: {new_limit(self.approval.args)}", "strong"
            case _:
                limit = MAX_LINES if self.shortened else None
                lines = shorten(list(argument_lines(self.arguments())), limit)
                for line in lines:
                    yield line, "plain"

    def arguments(self) -> JsonObject:
        """The arguments that ``change`` does not show."""
        if self._change is None or self.approval.tool not in _OWN:
            return self.approval.args
        return {name: value for name, value in self.approval.args.items() if name not in _DIFFED}

    def change(self) -> Lines:
        """What the call would change in a file, as a diff."""
        change = self._change
        if change is None or self.approval.kind in ("input", "budget"):
            return
        diff = [visible(line) for line in change["diff"]]
        limit = MAX_LINES if self.shortened else None
        for line in shorten(diff, limit):
            yield line, _tone(line)
        if change["cut"]:
            yield f"… {change['cut']:,} more lines of the change are not kept", "caution"
        if change["problem"]:
            yield f"! {self._text(change['path'])}: {visible(change['problem'])}", "caution"

    def reach(self) -> Lines:
        """Where a call really leads: through links, with which commands, to which hosts."""
        for path, target in self.context.get("facts", {}).get("links", {}).items():
            yield f"! {self._text(path)} leads to {self._text(target)}", "warning"
        yield from self._commands()

    def background(self) -> Lines:
        """What else a human should know: what was read and used before, and why it is asked."""
        yield from self._read()
        yield from self._cost()
        yield from self._why()

    def _text(self, words: object, width: int = _SHORT) -> str:
        """A text on one line; whole, unless it is to be cut."""
        return visible_line(str(words), width if self.shortened else _WHOLE)

    def _form(self) -> Lines:
        """What a server asks, in its own words, and where the answer goes."""
        about = self.context["input"]
        server, said = self._text(about["server"]), self._text(self.approval.reason, 600)
        yield f"{server} asks: {said}", "strong"
        if about["mode"] == "url":
            yield f"it wants you to open: {visible(about['url'])}", "strong"
            yield "what you do there, neither Corral nor the model sees", "quiet"
            return
        required = needed(self.approval)
        for name, field in fields_of(self.approval).items():
            yield field_line(name, field, is_needed=name in required), "plain"
        yield f"what you answer goes to {server}", "quiet"
        if (secret := asks_a_secret(self.approval)) is not None:
            yield f"! {self._text(secret)} looks like a secret: no form may ask for one", "alarm"

    @property
    def _change(self) -> JsonObject | None:
        change: JsonObject | None = self.context.get("file")
        return change

    def _commands(self) -> Lines:
        for command in self.context.get("commands", []):
            if command["opaque"]:
                yield "! runs what cannot be read in advance: it may be any command", "alarm"
                continue
            unknown = set(command["unknown"])
            words = [
                f"«{word}»" if at in unknown else shlex.quote(word)
                for at, word in enumerate(command["argv"])
            ]
            by = f"  (by {self._text(' '.join(command['via']))})" if command["via"] else ""
            yield f"runs: {self._text(' '.join(words))}{by}", "strong"
            if unknown:
                yield "! what is in « » is known only when it runs", "alarm"
        if hosts := self.context.get("hosts"):
            yield f"connects to: {self._text(', '.join(hosts))}", "strong"

    def _read(self) -> Lines:
        read = self.context.get("read", {})
        sources = ", ".join(self._text(source, 80) for source in read.get("sources", []))
        if sources:
            yield f"has read: {self._text(sources, 400)}", "quiet"
        if read.get("untrusted"):
            yield "! strangers may have written in what it has read", "caution"

    def _cost(self) -> Lines:
        spent = self.context.get("spent")
        if spent is None:
            return
        limits = self.context.get("limits", {})
        steps = f"{spent['steps']} of {limits['max_steps']}" if "max_steps" in limits else None
        tokens = f"{spent['input_tokens']}+{spent['output_tokens']} tokens"
        cost = f", ${spent['cost_usd']:.4f}" if spent["cost_usd"] else ""
        yield f"the run has used: {steps or spent['steps']} steps, {tokens}{cost}", "quiet"
        for budget in self.context.get("budgets", []):
            yield f"{self._text(budget['words'])}: {_used(budget)}", "quiet"

    def _why(self) -> Lines:
        approval = self.approval
        if approval.reason and approval.kind != "input":
            yield f"why asked: {self._text(approval.reason, 600)}", "quiet"
        for advice in self.context.get("advice", []):
            by, said = self._text(advice["by"]), self._text(advice["reason"])
            yield f"{by} passes it on: {said}", "quiet"
        if approval.asked_of:
            yield f"asked of: {self._text(approval.asked_of)}", "quiet"
        if approval.expires_at and approval.status == "pending":
            by = approval.expires_at[:16].replace("T", " ")
            yield f"denied if nobody answers by {by} UTC", "quiet"
        for warning in approval.warnings:
            yield f"! {self._text(warning)}", "warning"


def new_limit(args: JsonObject) -> str:
    """What a question about a budget would raise its limit to, in words."""
    measure, to = str(args["measure"]), args["raise_to"]
    return f"{shown(measure, nano(to) if measure == 'usd' else to)} ({in_words(measure)})"


def _used(budget: JsonObject) -> str:
    """How far a limit is used: ``4,000 of 6,000 (tokens)``."""
    measure = str(budget["measure"])
    amounts = (budget["used"], budget["limit"])
    used, limit = (shown(measure, nano(one) if measure == "usd" else one) for one in amounts)
    return f"{used} of {limit} ({in_words(measure)})"


def argument_lines(args: JsonObject) -> Iterator[str]:
    """The arguments, one ``name: value`` each; values of several lines are indented below."""
    for name, value in args.items():
        text = _shown(value)
        lines = text.split("\n")
        if len(lines) == 1:
            yield f"{visible(name)}: {lines[0]}"
            continue
        yield f"{visible(name)}:"
        yield from (f"  {line}" for line in lines)


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list) and value and all(map(_is_statement, value)):
        return "\n".join(map(_statement, value))
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def _is_statement(value: Json) -> bool:
    """Whether it has the form of a statement of the ``sql`` server."""
    return isinstance(value, dict) and isinstance(value.get("sql"), str)


def _statement(value: Json) -> str:
    """The statement as it is written, and below it whatever is given along with it."""
    assert isinstance(value, dict)
    others = {name: each for name, each in value.items() if name != "sql"}
    lines = [str(value["sql"])]
    lines += [f"  {name}: {json.dumps(each, ensure_ascii=False)}" for name, each in others.items()]
    return visible("\n".join(lines))


def shorten(lines: list[str], limit: int | None) -> list[str]:
    """At most ``limit`` lines: the first and the last, with a count of what is left out."""
    if limit is None or len(lines) <= limit:
        return lines
    head = limit * 2 // 3
    tail = limit - head
    return [*lines[:head], f"… {len(lines) - limit} more lines …", *lines[-tail:]]


def _tone(line: str) -> Tone:
    if line.startswith(("+++", "---", "@@")):
        return "quiet"
    tones: dict[str, Tone] = {"+": "added", "-": "removed"}
    return tones.get(line[:1], "plain")
