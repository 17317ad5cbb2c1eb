"""Asking a client's human for an approval, and what counts as an answer of theirs.

An answer that comes back sooner than a person can read was given by the client itself. It is
noticed, told, and never carried out: neither a refusal that nobody meant, nor a permission.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Final

from corral.jsontypes import JsonObject
from corral.mcp_servers.agents.outcome import about, command_for
from corral.mcp_servers.serving.contract import Caller, Elicited, Question
from corral.runtime.approvals.page import Page
from corral.runtime.approvals.replies import Approved, Denied, Reply
from corral.runtime.views import Approval, ApprovalKind
from corral.tools.inquiry import secret_field
from corral.tools.text import clean, one_line, visible

READING: Final = 1.0
"""Seconds within which no human reads a question and answers it."""

_AT_A_GLANCE = 1_000
"""Characters. For each so many of a question a yes takes as long again as any answer at least; this
is many times faster than anybody reads, so that who decides at a glance is not taken for a program.
"""

_PATIENCE = 2
"""After so many answers that came by themselves a client counts as one that cannot ask."""

_CALL = "call"
"""In whose name a client's own call of a tool is made (``corral.agents.direct``)."""

_SHOWN = 4_000
"""Characters of a call's arguments that a form shows."""


def question(approval: Approval) -> Question:
    """The form for one question: what a terminal shows of it as well (``page``).

    What a model has written cannot pass for a line of ours: arguments are JSON, and each line of a
    change begins with a bar. What no screen shows is written out.

    What a tool server asks for (kind ``input``) is that server's own form.
    """
    asked = approval.context.get("input", {}) if approval.kind == "input" else {}
    if asked.get("mode") == "form":
        lines = _of_a_server(approval)
        if (secret := secret_field(asked["schema"])) is not None:
            lines.append(f"{one_line(secret, 80)} looks like a secret: no form may ask for one.")
        return Question(_paragraphs(lines), asked["schema"])
    if asked:
        url = clean(str(asked.get("url", "")))
        return _yes_or_no([*_of_a_server(approval), url], "I open this address")
    asks, allows = _WORDS.get(approval.kind, _WORDS["tool"])
    page = Page(approval)
    args = json.dumps(page.arguments(), ensure_ascii=False, indent=2)
    change = "\n".join(f"| {line}" for line, _ in page.change())
    lines = [
        asks.format(agent=_asking(approval), tool=one_line(approval.tool, 120)),
        _cut(visible(args), approval),
        _cut(change, approval),
        "\n".join(about(approval)),
    ]
    return _yes_or_no(lines, allows)


def _asking(approval: Approval) -> str:
    agents = approval.context.get("agents", [])
    name = str(agents[-1]["agent"]) if agents else ""
    if name == _CALL:
        return "This client"
    return f"The agent {one_line(name, 120)}" if name else "An agent"


def _cut(text: str, approval: Approval) -> str:
    """What a model has written is bounded, so that it does not push away what is said of it."""
    if len(text) <= _SHOWN:
        return text
    more = f"({len(text) - _SHOWN:,} more characters are not shown. To see all of it: "
    return f"{text[:_SHOWN]}\n\n{more}corral approvals show {approval.id})"


def _of_a_server(approval: Approval) -> list[str]:
    """Who asks: it is not Corral, and may be anybody."""
    return [
        f"The tool server behind {one_line(approval.tool, 120)} asks. What you answer goes to it.",
        f"It says: {one_line(approval.reason, 1_000)}",
        "\n".join(about(approval)),
    ]


def _yes_or_no(lines: list[str], yes: str) -> Question:
    properties: JsonObject = {
        "allow": {"type": "boolean", "title": yes},
        "reason": {"type": "string", "title": "If not: why?", "maxLength": 500},
    }
    schema = {"type": "object", "properties": properties, "required": ["allow"]}
    return Question(_paragraphs(lines), schema)


def _paragraphs(parts: list[str]) -> str:
    return "\n\n".join(filter(None, parts))


_WORDS: dict[ApprovalKind, tuple[str, str]] = {
    "tool": ("{agent} wants to call {tool} with:", "Allow this call"),
    "in_doubt": (
        "{agent} was cut off in a call of {tool}, and nobody knows whether it happened. It was:",
        "Make the call again",
    ),
    "budget": ("{agent} has reached a limit of its budget, {tool}:", "Raise the limit"),
    "loop": ("{agent} seems to go round in circles with {tool}:", "Let it go on"),
}
"""What a question begins with, and what a yes means, by its kind."""


class Attention:
    """Which clients really ask a human. ``reading`` is how many seconds a human needs at least."""

    def __init__(self, reading: float = READING) -> None:
        self._reading = reading
        self._hasty: Counter[str] = Counter()

    def asks(self, caller: Caller) -> bool:
        """Whether this caller's human can be asked through it."""
        return caller.asks != "none" and self._hasty[caller.owner] < _PATIENCE

    def reply(self, caller: Caller, approval: Approval, answer: Elicited) -> Reply | None:
        """What a human has answered; ``None`` where it was no human, or no answer."""
        if answer.seconds < self._reading:
            self._hasty[caller.owner] += 1
            return None
        self._hasty[caller.owner] = 0
        if answer.seconds < self._least(approval, answer):
            return None
        reason = one_line(str(answer.content.get("reason") or ""), 500)
        is_form = approval.context.get("input", {}).get("mode") == "form"
        if is_form and answer.action == "accept":
            return Approved(args=answer.content)
        match answer.action, answer.content.get("allow"):
            case "accept", True:
                return Approved()
            case "accept", False:
                return Denied(reason or _refused(caller))
            case "decline", _:
                return Denied(_refused(caller))
            case _:
                return None

    def note(self, caller: Caller, approval: Approval, answer: Elicited) -> str:
        """What is said of an answer that is none."""
        told = f"In a terminal: `{command_for(approval)}`."
        if answer.seconds >= self._least(approval, answer):
            return f"The question was closed without an answer, so it still waits. {told}"
        did = {"accept": "accepted", "decline": "declined", "cancel": "closed it"}[answer.action]
        if answer.seconds >= self._reading:
            return (
                f"Your client {did} after {answer.seconds:.1f} s, in which nobody can have read "
                f"the question, so it does not count. {told}"
            )
        again = "" if self.asks(caller) else " It is not asked any more."
        return (
            f"Your client {did} without asking anybody: the answer came in "
            f"{answer.seconds:.1f} s, so it does not count.{again} {told}"
        )

    def _least(self, approval: Approval, answer: Elicited) -> float:
        """Seconds that a human needs at least: a no can be said before all is read, a yes not."""
        if answer.action != "accept" or answer.content.get("allow") is False:
            return self._reading
        length = min(len(question(approval).message), _SHOWN)
        return self._reading * (1 + length / _AT_A_GLANCE)


def answered_by(caller: Caller) -> str:
    """Who answers an approval through a client: as it is stored with the answer."""
    return f"elicitation:{one_line(caller.client, 60) or 'unnamed'}"


def _refused(caller: Caller) -> str:
    return f"declined by a human through {one_line(caller.client, 60) or 'an MCP client'}"
