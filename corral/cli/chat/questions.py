"""Asks a person whether a call may be made, and passes the answer on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.approvals import parse_arguments, read_result
from corral.cli.chat.keyboard import Keyboard
from corral.cli.chat.standing import RuleDialog
from corral.cli.output import clean
from corral.cli.question import question
from corral.cli.screen import Screen
from corral.cli.signature import signed
from corral.errors import ConflictError, UsageError
from corral.runtime.approvals.replies import Approved, Denied, Given, Reply, Stopped
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
        answered = True
        for approval in approvals:
            done = await self._answer(approval)
            if done is None:
                return True  # the run is stopped: nothing else needs an answer
            answered &= done
        return answered

    async def _answer(self, asked: Approval) -> bool | None:
        """Whether it is answered now; ``None``: by stopping the run."""
        approval = await self.records.approval(asked.id)
        short = question(approval, self.workspace)
        full = question(approval, self.workspace, shortened=False)
        self.screen.idle()
        self.screen.line("\n? ", short, style="yellow")
        while True:
            said = await self.keyboard.ask(_choices(approval, cut=full.plain != short.plain))
            if said is None or said.strip().lower() in {"q", "later"}:
                return False
            if said.strip().lower() in {"v", "view"}:
                self.screen.line(full)
                continue
            try:
                reply = await self._reply(approval, said.strip())
                now = await self.records.approval(approval.id)
                if reply is None or self._shows_news(now, approval):
                    approval = now
                    continue
                await self.records.answer(approval.id, reply, signed())
            except ConflictError as error:
                self.screen.line(clean(error.message), style="yellow")
                return True  # answered elsewhere in the meantime: that answer stands
            except UsageError as error:
                self.screen.line(clean(str(error)), style="red")
                continue
            return None if isinstance(reply, Stopped) else True

    def _shows_news(self, now: Approval, shown: Approval) -> bool:
        """Whether something was changed while the question stood there: then it is asked again."""
        new = [warning for warning in now.warnings if warning not in shown.warnings]
        for warning in new:
            self.screen.line(f"! {clean(warning)}", style="bold yellow")
        return bool(new)

    async def _reply(self, approval: Approval, said: str) -> Reply | None:
        """What the person says; ``None``: ask again."""
        word, _, rest = said.partition(" ")
        match _LETTERS[approval.kind].get(_WORDS.get(word.lower(), word.lower())):
            case "approve":
                return Approved()
            case "deny":
                return Denied(await self._reason(rest))
            case "edit":
                args = await self._edited(approval.args)
                return None if args is None else Approved(args)
            case "always":
                always = await self._rules.ask(approval, "allow")
                return None if always is None else Approved(always=always)
            case "never":
                always = await self._rules.ask(approval, "deny")
                return None if always is None else Denied(await self._reason(rest), always)
            case "give":
                return await self._given(rest)
            case "stop":
                return Stopped(rest.strip()) if rest.strip() else Stopped()
            case _:
                self.screen.line("Please answer with one of the letters.", style="dim")
                return None

    @property
    def _rules(self) -> RuleDialog:
        return RuleDialog(self.records, self.keyboard, self.screen, self.workspace)

    async def _reason(self, reason: str) -> str:
        said = reason.strip() or await self.keyboard.ask("why not? (the model reads it) ")
        return (said or "").strip() or DEFAULT_REASON

    async def _given(self, rest: str) -> Given | None:
        said = rest.strip() or await self.keyboard.ask("its result (@FILE reads a file): ")
        if said is None or not said.strip():
            return None
        return Given(read_result(said) if said.startswith("@") else said)

    async def _edited(self, args: JsonObject) -> JsonObject | None:
        text = json.dumps(args, ensure_ascii=False)
        reply = await self.keyboard.ask("arguments: ", default=text)
        return parse_arguments(reply) if reply and reply.strip() else None


def _choices(approval: Approval, *, cut: bool) -> str:
    ask, first, second = _PROMPTS[approval.kind]
    if approval.kind == "tool" and approval.suggestions:
        second = f"[a]lways  [d] never: always deny  {second}"
    above = [ask, *(["[v]iew all of it"] if cut else []), first]
    below = [*([second] if second else []), "[s]top the run", "[q] leave it for later » "]
    return f"{'  '.join(above)}\n  {'  '.join(below)}"


_PROMPTS = {
    "tool": (
        "Allow it?",
        "[y]es  [n]o with a reason  [e]dit the arguments",
        "[g]ive the result",
    ),
    "in_doubt": ("Did it happen?", "[r]etry  [g]ive the result  [f]ail the call", ""),
    "budget": ("Raise it?", "[y]es  [e]dit the new limit", "[n]o: end with what there is"),
    "loop": ("Let it go on?", "[y]es, for as many again", "[n]o with a reason"),
}
_WORDS = {
    "yes": "y",
    "no": "n",
    "edit": "e",
    "always": "a",
    "never": "d",
    "give": "g",
    "stop": "s",
    "retry": "r",
    "fail": "f",
}
_ANSWERS = {"y": "approve", "n": "deny", "s": "stop"}
_LETTERS = {
    "tool": {**_ANSWERS, "e": "edit", "a": "always", "d": "never", "g": "give"},
    "in_doubt": {"r": "approve", "g": "give", "f": "deny", "s": "stop"},
    "budget": {**_ANSWERS, "e": "edit"},
    "loop": _ANSWERS,
}
