"""Asks which calls "always" means, where and until when, and shows what it would have matched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.padding import Padding
from rich.text import Text

from corral.cli.always import past_lines
from corral.cli.chat.keyboard import Keyboard
from corral.cli.output import clean
from corral.cli.render import when
from corral.cli.screen import Screen
from corral.errors import UsageError
from corral.runtime.approvals.chosen import chosen_rule, parse_end
from corral.runtime.approvals.replies import Always, RuleScope
from corral.runtime.approvals.rule_text import as_toml, table_of
from corral.runtime.views import Approval

if TYPE_CHECKING:
    from corral.runtime.records import Records

_SCOPES: dict[str, RuleScope] = {
    "": "project",
    "r": "run",
    "t": "thread",
    "p": "project",
    "u": "user",
}
_HOLDS: dict[RuleScope, str] = {
    "run": "in this run",
    "thread": "in this thread",
    "project": "in this folder",
    "user": "everywhere",
}
_CHOICE = re.compile(r"(e|edit)?\s*(\d{1,2})?", re.IGNORECASE)
_WHERE = (
    "Where? [r]un, [t]hread, [p]roject (this folder), [u]ser (everywhere)\n"
    "  and until when, if you like, as in p 7d [p] » "
)


@dataclass(frozen=True)
class RuleDialog:
    """Finds the rule for calls like one that is asked about."""

    records: Records
    keyboard: Keyboard
    screen: Screen
    workspace: Path

    async def ask(self, approval: Approval, action: Literal["allow", "deny"]) -> Always | None:
        """The rule that the person wants; ``None``: none after all. Raises ``UsageError``."""
        for number, suggestion in enumerate(approval.suggestions, start=1):
            words = clean(str(suggestion["words"]))
            self.screen.line(Padding(f"{number}  {action} {words}", (0, 0, 0, 2)))
        rule = await self._which(approval)
        if rule is None:
            return None
        said = await self.keyboard.ask(_WHERE)
        if said is None:
            return None
        always = _placed(rule, said)
        if not await self._agrees(approval, always, action):
            self.screen.line("No rule was stored.", style="dim")
            return None
        return always

    async def _which(self, approval: Approval) -> int | str | None:
        count = len(approval.suggestions)
        said = await self.keyboard.ask(f"Which calls? 1-{count}, or e N to edit rule N [1] » ")
        match = None if said is None else _CHOICE.fullmatch(said.strip())
        if match is None:
            return None
        number = int(match[2] or 1)
        if not match[1] or not 1 <= number <= count:
            return number
        text = as_toml(approval.suggestions[number - 1]["rule"])
        return await self.keyboard.ask("rule: ", default=text)

    async def _agrees(
        self, approval: Approval, always: Always, action: Literal["allow", "deny"]
    ) -> bool:
        """Show the rule and what it would have matched, before it is stored."""
        from corral.policies.conditions import describe

        rule = chosen_rule(approval, always, action, str(self.workspace))
        until = f" until {when(always.until)} UTC" if always.until else ""
        words = f"{describe(rule)}, {_HOLDS[always.scope]}{until}"
        self.screen.line(Text(clean(words)), style="bold")
        past = await self.records.preview(table_of(rule), str(self.workspace))
        for line in past_lines(past):
            self.screen.line(line, style="dim")
        said = await self.keyboard.ask("Store it? [y/n] » ")
        return (said or "").strip().lower() in {"y", "yes"}


def _placed(rule: int | str, said: str) -> Always:
    word, _, until = said.strip().partition(" ")
    scope = _SCOPES.get(word[:1].lower())
    if scope is None or (word and not scope.startswith(word.lower())):
        raise UsageError(f"{word!r} is no place for a rule.", hint="Answer with r, t, p or u.")
    return Always(rule, scope, parse_end(until.strip()) if until.strip() else None)
