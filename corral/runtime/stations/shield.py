"""The shield: checks look at what goes in and comes out, and secrets reach only who may have them.

A tool gets the value that a placeholder stands for just before it is called, and only if it is one
that may: what is stored and shown has the placeholder. What comes back is redacted by the door.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count

from langgraph.errors import GraphBubbleUp

from corral.errors import CorralError
from corral.jsontypes import JsonObject, canonical
from corral.policies.checks import Finding, Where
from corral.policies.placeholders import revealed, tagged_in
from corral.policies.redaction import Redactor
from corral.runtime.checking import Examined, examine, refusal, tell
from corral.runtime.context import current_run
from corral.runtime.effects import Attempt, Bound, Effect, Guard, Outcome, Settled
from corral.runtime.events import TextDelta
from corral.runtime.vault import Vault
from corral.tools.contract import ToolSpec


@dataclass(frozen=True)
class ShieldTerms:
    """What is redacted in a thread, where that is kept, and which tools may have it back."""

    redactor: Redactor
    vault: Vault | None = None
    may_have: Callable[[ToolSpec], bool] = lambda _spec: False


class Shield:
    """Checks and secrets of one execution of a run."""

    def __init__(self, terms: ShieldTerms) -> None:
        self._terms = terms
        self._found: dict[str, Examined] = {}

    def holds_secret(self, guard: Guard) -> bool:
        """Whether a call is given a value that was redacted, if it is made."""
        return self._terms.may_have(guard.spec) and bool(self._kept(guard))

    async def before(self, effect: Effect, path: str) -> Effect | Settled:
        """The call as its checks let it through, or its refusal."""
        guard = effect.guard
        checks = _concerned(effect, "tool_call")
        if guard is None or not checks:
            return effect
        numbers = count(1)  # the same when the call is asked for again, so that a judge is not
        args = canonical(guard.args)
        found = await examine(checks, args, lambda: f"{path}/check/{next(numbers)}")
        self._found[path] = found
        tell(found.findings)
        if found.decisive is not None:
            return self._refused(guard, found.decisive, path)
        if found.text == args:
            return effect
        try:
            new = json.loads(found.text)
        except ValueError:
            new = None
        if not isinstance(new, dict):
            mended = next(finding for finding in found.findings if finding.text is not None)
            broken = replace(mended, did="block", reason="what it gave back are no arguments")
            return self._refused(guard, broken, path)
        return replace(guard.edit(new), checks=effect.checks)

    async def make(self, effect: Effect, attempt: Attempt) -> Outcome:
        """Let the effect happen, and its checks look at what it gives."""
        if effect.kind == "model":
            return await self._answered(effect, attempt)
        real = self._revealed(effect)
        if isinstance(real, Settled):
            return real.outcome
        outcome = await real.execute(attempt)
        if effect.guard is None:
            return outcome
        value = await self._looked_through(effect, effect.guard, outcome.value, attempt)
        called = self._found.pop(attempt.path, None)
        return Outcome(called.noted(value) if called else value, outcome.spend)

    async def _answered(self, effect: Effect, attempt: Attempt) -> Outcome:
        """The model's answer as its checks accept it. They may have it asked again."""
        checks = _concerned(effect, "output")
        if not checks:
            return await effect.execute(attempt)
        silent = any(one.check.must_come_before for one in checks)
        outcome = await effect.execute(replace(attempt, aloud=attempt.aloud and not silent))
        value = self._clean(outcome.value)
        found = await self._of_answer(checks, value, attempt)
        findings = list(found.findings)
        while (last := found.decisive) and effect.again and _asks_again(last, findings):
            again = effect.again(str(value["text"]), last.in_words)
            answer = await current_run.get().perform(again, attempt.place())
            value = {**answer.value, "id": value["id"]}
            found = await self._of_answer(checks, value, attempt)
            findings += found.findings
        tell(findings)
        if found.decisive is not None:
            refused = refusal("The model's answer", found.decisive)
            value = {**_with_text(value, ""), **refused}
        else:
            value = _with_text(value, found.text)
            if silent and attempt.aloud and found.text:
                current_run.get().emit(TextDelta(found.text, path=attempt.path))
        return Outcome(Examined("", tuple(findings)).noted(value), outcome.spend)

    async def _of_answer(
        self, checks: list[Bound], value: JsonObject, attempt: Attempt
    ) -> Examined:
        text = str(value["text"])
        if not text and value["message"].get("tool_calls"):
            return Examined(text)
        return await examine(checks, text, attempt.place)

    async def _looked_through(
        self, effect: Effect, guard: Guard, value: JsonObject, attempt: Attempt
    ) -> JsonObject:
        """A tool's result as its checks let it through. The call was made, whatever they say."""
        checks = _concerned(effect, "tool_result")
        if not checks:
            return value
        text = self._terms.redactor.text(str(value["text"]))
        found = await examine(checks, text, attempt.place, caught=(CorralError, GraphBubbleUp))
        tell(found.findings)
        if found.decisive is not None:
            told = f"The call was made, and its result withheld: {found.decisive.in_words}"
            return found.noted(guard.refuse(told).value)
        if found.text == text:
            return found.noted(value)
        # What a check has taken out of the text may be in the rest as well.
        rest = {name: one for name, one in value.items() if name != "images"}
        mended = {"structured": None} if "structured" in value else {}
        return found.noted({**rest, **mended, "text": found.text})

    def _refused(self, guard: Guard, finding: Finding, path: str) -> Settled:
        found = self._found.pop(path, Examined(""))
        told = f"Refused: {finding.in_words}. Change the call accordingly, or do without it."
        return Settled(Outcome(found.noted(guard.refuse(told).value)))

    def _revealed(self, effect: Effect) -> Effect | Settled:
        """The call with real values in it, if its tool may have them."""
        guard, vault = effect.guard, self._terms.vault
        if guard is None or vault is None or not self._terms.may_have(guard.spec):
            return effect
        wanted = tagged_in(guard.args)
        lost = sorted(wanted & vault.lost)
        if lost:
            return Settled(
                guard.refuse(
                    f"What {', '.join(lost)} stands for cannot be read any more: the key of the "
                    "vault that it was kept in is gone. Ask the user for the value."
                )
            )
        if not self._kept(guard):
            return effect
        return guard.edit(revealed(guard.args, self._value))

    def _kept(self, guard: Guard) -> bool:
        vault = self._terms.vault
        return vault is not None and any(map(vault.value, tagged_in(guard.args)))

    def _value(self, name: str) -> str | None:
        vault = self._terms.vault
        value = None if vault is None else vault.give_away(name)
        # A secret that has become this process's own since goes nowhere.
        return None if value is None or self._terms.redactor.knows(value) else value

    def _clean(self, value: JsonObject) -> JsonObject:
        clean = self._terms.redactor.json(value)
        assert isinstance(clean, dict)
        return clean


def _concerned(effect: Effect, on: Where) -> list[Bound]:
    tool = effect.name if effect.guard is not None else ""
    return [one for one in effect.checks if one.check.concerns(on, tool)]


def _asks_again(finding: Finding, findings: Iterable[Finding]) -> bool:
    """Whether the model may try once more; each check has so many tries."""
    tries = sum(one.check == finding.check and one.did == "reask" for one in findings)
    return finding.did == "reask" and tries <= finding.check.retries


def _with_text(value: JsonObject, text: str) -> JsonObject:
    """A model's answer with another text. One without any text calls no tools either."""
    if text == value["text"]:
        return value
    message = {**value["message"], "content": text}
    if not text:
        message.pop("tool_calls", None)
    return {**value, "text": text, "message": message}
