"""Asks a person whether a call may be made, and passes the answer on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.approvals import parse_arguments, read_result
from corral.cli.chat.keyboard import Keyboard
from corral.cli.output import clean
from corral.cli.render import question
from corral.cli.screen import Screen
from corral.errors import ConflictError, UsageError
from corral.runtime.views import Approval

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.records import Records

DEFAULT_REASON = "The user said no."


@dataclass(frozen=True)
class Questioner:
    """Puts questions on the screen and stores the answers.

    An answer is stored before anything follows from it, so that a killed REPL loses none.
    """

    records: Records
    keyboard: Keyboard
    screen: Screen
    workspace: Path

    async def answer_all(self, approvals: tuple[Approval, ...]) -> bool:
        """Ask each question in turn. Whether all of them are answered now."""
        answered = [await self._answer(approval) for approval in approvals]
        return all(answered)

    async def _answer(self, approval: Approval) -> bool:
        short = question(approval, self.workspace)
        full = question(approval, self.workspace, shortened=False)
        self.screen.idle()
        self.screen.line("\n? ", short, style="yellow")
        while True:
            reply = await self.keyboard.ask(_choices(approval, cut=full.plain != short.plain))
            if reply is not None and reply.strip().lower() in {"v", "view"}:
                self.screen.line(full)
                continue
            if reply is None:
                return False
            try:
                in_doubt = approval.kind == "in_doubt"
                apply = self._apply_in_doubt if in_doubt else self._apply
                done = await apply(approval, reply.strip())
            except ConflictError as error:
                self.screen.line(clean(error.message), style="yellow")
                return True  # answered elsewhere in the meantime: that answer stands
            except UsageError as error:
                self.screen.line(clean(str(error)), style="red")
                continue
            if done is not None:
                return done

    async def _apply(self, approval: Approval, reply: str) -> bool | None:
        """Store what ``reply`` says. ``None``: ask again; ``False``: left for later."""
        letter, _, rest = reply.partition(" ")
        match letter.lower():
            case "y" | "yes":
                await self.records.approve(approval.id)
            case "n" | "no":
                await self._deny(approval, rest, "why not? (the model reads it) ")
            case "e" | "edit":
                args = await self._edited(approval.args)
                if args is None:
                    return None
                await self.records.approve(approval.id, args=args)
            case "a" | "always":
                await self.records.approve(approval.id, always=approval.always)
            case _:
                return self._other(letter)
        return True

    async def _apply_in_doubt(self, approval: Approval, reply: str) -> bool | None:
        """As ``_apply``, for a call that was cut off."""
        letter, _, rest = reply.partition(" ")
        match letter.lower():
            case "r" | "retry":
                await self.records.approve(approval.id)
            case "g" | "give":
                said = rest.strip() or await self.keyboard.ask("its result (@FILE reads a file): ")
                if said is None or not said.strip():
                    return None
                result = read_result(said) if said.startswith("@") else said
                await self.records.give(approval.id, result)
            case "f" | "fail":
                await self._deny(approval, rest, "why? (the model reads it) ")
            case _:
                return self._other(letter)
        return True

    def _other(self, letter: str) -> bool | None:
        if letter.lower() in {"q", "later"}:
            return False
        self.screen.line("Please answer with one of the letters.", style="dim")
        return None

    async def _deny(self, approval: Approval, reason: str, prompt: str) -> None:
        said = reason.strip() or await self.keyboard.ask(prompt)
        await self.records.deny(approval.id, (said or "").strip() or DEFAULT_REASON)

    async def _edited(self, args: JsonObject) -> JsonObject | None:
        text = json.dumps(args, ensure_ascii=False)
        reply = await self.keyboard.ask("arguments: ", default=text)
        return parse_arguments(reply) if reply and reply.strip() else None


def _choices(approval: Approval, *, cut: bool) -> str:
    view = "  [v]iew all of it" if cut else ""
    if approval.kind == "in_doubt":
        return (
            f"Did it happen?{view}  [r]etry  [g]ive the result  [f]ail the call\n"
            "  [q] leave it for later » "
        )
    always = clean(always_words(approval.always))
    return (
        f"Allow it?{view}  [y]es  [n]o with a reason  [e]dit the arguments\n"
        f"  [a]lways for: {always}  [q] leave it for later » "
    )


def always_words(rule: JsonObject) -> str:
    """The calls that an "always" rule covers, in words."""
    patterns = rule.get("args") or {}
    conditions = " and ".join(f"{name} = {pattern}" for name, pattern in patterns.items())
    return f"{rule.get('tool', 'this tool')}" + (f" with {conditions}" if conditions else "")
