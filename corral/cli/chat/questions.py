"""Asks a person whether a call may be made, and passes the answer on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from corral.cli.approvals import parse_arguments, read_result
from corral.cli.chat.keyboard import Keyboard
from corral.cli.chat.standing import RuleDialog
from corral.cli.input_form import value_of
from corral.cli.output import clean, one_line
from corral.cli.preview import call_text
from corral.cli.question import question
from corral.cli.screen import Screen
from corral.cli.signature import signed
from corral.errors import ConflictError, UsageError
from corral.runtime.approvals.form import fields_of
from corral.runtime.approvals.replies import Approved, Denied, Given, Reply, Stopped
from corral.runtime.views import Approval

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.records import Records

DEFAULT_REASON = "The user said no."
POLL_SECONDS = 0.5
"""How often an open question looks for an answer from elsewhere."""


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
        for number, approval in enumerate(approvals, start=1):
            place = f"({number} of {len(approvals)}) " if len(approvals) > 1 else ""
            done = await self._answer(approval, place)
            if done is None:
                return True  # the run is stopped: nothing else needs an answer
            answered &= done
        return answered

    async def _answer(self, asked: Approval, place: str) -> bool | None:
        """Whether it is answered now; ``None``: by stopping the run."""
        approval = await self.records.approval(asked.id)
        if approval.status != "pending":
            return self._was_answered(approval)
        short = question(approval, self.workspace)
        full = question(approval, self.workspace, shortened=False)
        self.screen.idle()
        self.screen.line(f"\n? {place}", short, style="yellow")
        while True:
            said = await self._said(approval, _choices(approval, cut=full.plain != short.plain))
            if isinstance(said, Approval):
                return self._was_answered(said)
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

    async def _said(self, approval: Approval, choices: str) -> str | Approval | None:
        """What the person types, or the question as soon as it was answered without them."""
        typing = asyncio.create_task(self.keyboard.ask(choices))
        watching = asyncio.create_task(self._answered(approval.id))
        try:
            await asyncio.wait({typing, watching}, return_when=asyncio.FIRST_COMPLETED)
            return typing.result() if typing.done() else watching.result()
        finally:
            for task in (typing, watching):
                task.cancel()
            await asyncio.gather(typing, watching, return_exceptions=True)

    async def _answered(self, id_: str) -> Approval:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            approval = await self.records.approval(id_)
            if approval.status != "pending":
                return approval

    def _was_answered(self, approval: Approval) -> bool | None:
        """Say what others answered, or a rule did; ``None``: the run is stopped."""
        by = f" by {approval.answered_by}" if approval.answered_by else ""
        told = f": {approval.answer_reason}" if approval.answer_reason else ""
        call = call_text(approval.tool, approval.args, 60)
        words = f"{call}: {approval.status}{by}{told}"
        self.screen.idle()
        self.screen.line(Text(f"\n{one_line(words, 400)}"), style="yellow")
        return None if approval.status == "stopped" else True

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
                return await self._filled_in(approval)
            case "deny":
                return Denied(await self._reason(approval, rest))
            case "edit":
                args = await self._edited(approval)
                return None if args is None else Approved(args)
            case "always":
                always = await self._rules.ask(approval, "allow")
                return None if always is None else Approved(always=always)
            case "never":
                always = await self._rules.ask(approval, "deny")
                return (
                    None if always is None else Denied(await self._reason(approval, rest), always)
                )
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

    async def _reason(self, approval: Approval, reason: str) -> str:
        if approval.kind in ("budget", "input"):
            return reason.strip() or DEFAULT_REASON  # no model reads it
        said = reason.strip() or await self.keyboard.ask("why not? (the model reads it) ")
        return (said or "").strip() or DEFAULT_REASON

    async def _given(self, rest: str) -> Given | None:
        said = rest.strip() or await self.keyboard.ask("its result (@FILE reads a file): ")
        if said is None or not said.strip():
            return None
        return Given(read_result(said) if said.startswith("@") else said)

    async def _filled_in(self, approval: Approval) -> Approved | None:
        """A yes, with the values of a server's form where it asks for some."""
        values: JsonObject = {}
        for name, field in fields_of(approval).items():
            suggested = approval.args.get(name)
            default = "" if suggested is None else str(suggested)
            said = await self.keyboard.ask(f"{one_line(name, 60)}: ", default=default)
            if said is None:
                return None
            if said.strip():
                values[name] = value_of(name, field, said.strip())
        return Approved(values or None)

    async def _edited(self, approval: Approval) -> JsonObject | None:
        if approval.kind == "budget":
            return await self._new_limit(approval)
        text = json.dumps(approval.args, ensure_ascii=False)
        reply = await self.keyboard.ask("arguments: ", default=text)
        return parse_arguments(reply) if reply and reply.strip() else None

    async def _new_limit(self, approval: Approval) -> JsonObject | None:
        reply = await self.keyboard.ask("new limit: ", default=str(approval.args["raise_to"]))
        if not reply or not reply.strip():
            return None
        try:
            limit = json.loads(reply.strip().removeprefix("$").replace(",", ""))
        except json.JSONDecodeError as error:
            raise UsageError(f"{reply!r} is no number.", hint="Write it as in 0.5.") from error
        return {"raise_to": limit}


def _choices(approval: Approval, *, cut: bool) -> str:
    ask, first, second = _PROMPTS[approval.kind]
    if approval.kind == "tool" and approval.suggestions:
        second = f"[a]lways  [d] never: always deny  {second}"
    above = [ask, first, *(["[v]iew all of it"] if cut else [])]
    middle = f"\n  {second}" if second else ""
    return f"{'  '.join(above)}{middle}\n  [s]top the run  [q] leave it for later » "


_PROMPTS = {
    "tool": (
        "Allow it?",
        "[y]es  [n]o with a reason  [e]dit the arguments",
        "[g]ive the result",
    ),
    "in_doubt": ("Did it happen?", "[r]etry  [g]ive the result  [f]ail the call", ""),
    "budget": ("Raise it?", "[y]es  [e]dit the new limit  [n]o: end with what there is", ""),
    "loop": ("Let it go on?", "[y]es, for as many again  [n]o with a reason", ""),
    "input": ("Answer it?", "[y]es  [n]o", ""),
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
    "input": _ANSWERS,
}
