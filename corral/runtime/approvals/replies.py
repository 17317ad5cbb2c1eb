"""What is answered to a question: by a human, or by who stands in for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from corral.jsontypes import JsonObject

RuleScope = Literal["run", "thread", "project", "user"]
"""Where a standing rule holds: in one run, one conversation, one workspace, or everywhere."""


@dataclass(frozen=True)
class Always:
    """That such calls are answered like this one from now on.

    ``rule`` says which calls: the number of one of the approval's ``suggestions`` (the first is 1),
    or a rule of one's own without an action, as a table or as TOML; ``None`` is what the approval
    shows as ``always``. It must fit the call that it answers. It holds in ``scope`` and ends at
    ``until``: a date, a date and time, or how long from now (``90m``, ``24h``, ``7d``).
    """

    rule: int | str | JsonObject | None = None
    scope: RuleScope = "project"
    until: str | None = None


@dataclass(frozen=True)
class Approved:
    """Yes: with other arguments, and for calls like it as well, if it says so."""

    args: JsonObject | None = None
    always: Always | bool = False


@dataclass(frozen=True)
class Denied:
    """No; the model is told ``reason``. With ``always`` calls like it are denied as well."""

    reason: str
    always: Always | bool = False


@dataclass(frozen=True)
class Given:
    """A result in the tool's place: the call is not made."""

    result: str


@dataclass(frozen=True)
class Stopped:
    """The run ends here."""

    reason: str = "stopped by the user"


STOPPED_AT = "The run was stopped at"
"""How the error of a run begins that ended with such an answer."""

Reply = Approved | Denied | Given | Stopped


def always_of(reply: Reply) -> Always | None:
    """What a reply says about later calls."""
    said = reply.always if isinstance(reply, Approved | Denied) else False
    if isinstance(said, bool):
        return Always() if said else None
    return said
