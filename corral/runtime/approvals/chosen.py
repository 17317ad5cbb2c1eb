"""The rule that a human chooses with "always": which calls it means, and when it ends.

Nothing here needs the database, so that the REPL can ask before it is open.
"""

from __future__ import annotations

from datetime import UTC, datetime

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.matching import matches
from corral.policies.rules import Action, Rule
from corral.runtime.approvals.replies import Always
from corral.runtime.approvals.rule_text import parse_rule, rule_of
from corral.runtime.approvals.settings import parse_span
from corral.runtime.call_facts import call_of
from corral.runtime.views import Approval


def chosen_rule(approval: Approval, always: Always, action: Action, workspace: str) -> Rule:
    """The rule that an answer adds. Raises ``UsageError`` when it does not fit its own call."""
    if approval.kind != "tool" or not approval.always:
        raise UsageError(
            f"A rule for such calls cannot answer a question of the kind {approval.kind!r}.",
            hint="Answer it as it is; nothing was answered.",
        )
    rule = rule_of(_table(approval, always.rule), action)
    require_fit(approval, rule, workspace)
    return rule


def require_fit(approval: Approval, rule: Rule, workspace: str) -> None:
    """Refuse a rule that would not answer this very question."""
    call = call_of(approval.tool, approval.args, approval.context.get("facts", {}), workspace)
    if not matches(rule, call):
        raise UsageError(
            f"The rule does not fit the call that it answers: {describe(rule)}.",
            hint="Change the rule, or answer without it; nothing was answered.",
        )
    _require_effect(approval, rule, call)


def _require_effect(approval: Approval, rule: Rule, call: ToolCall) -> None:
    asked_by = approval.context.get("rule") or {}
    if asked_by.get("every_time"):
        raise UsageError(
            f"{asked_by.get('label') or 'A rule'} asks such calls every time: nobody can answer "
            "ahead.",
            hint="Answer without a rule; nothing was answered.",
        )
    read = call.label
    needed = {"untrusted": read.untrusted, "private": read.confidential}
    missing = [name for name, it_is in needed.items() if it_is and not getattr(rule, name)]
    if asked_by.get("doubted") and rule.action == "allow" and missing:
        words = " and ".join(f"{name} = true" for name in missing)
        raise UsageError(
            "This is asked because of what the model had read, and the rule says nothing of that.",
            hint=f"Write {words} in the rule if that is what you mean; nothing was answered.",
        )


def _table(approval: Approval, chosen: int | str | JsonObject | None) -> JsonObject:
    if chosen is None:
        return approval.always
    if isinstance(chosen, str):
        return parse_rule(chosen)
    if not isinstance(chosen, int):
        return chosen
    offered = approval.suggestions or ({"rule": approval.always},)
    if not 1 <= chosen <= len(offered):
        raise UsageError(
            f"There is no suggestion {chosen}: the approval {approval.id} has {len(offered)}.",
            hint=f"`corral approvals show {approval.id}` lists them.",
        )
    table: JsonObject = offered[chosen - 1]["rule"]
    return table


def parse_end(text: str) -> str:
    """When something ends, in UTC: from a date, a date and time, or a span from now.

    What has no zone is local time. Raises ``UsageError``.
    """
    try:
        end = datetime.now(UTC) + parse_span(text)
    except UsageError:
        end = _moment(text)
    except OverflowError as error:
        raise UsageError(f"{text!r} is too far away.", hint="Leave the end out.") from error
    if end <= datetime.now(UTC):
        raise UsageError(f"{text!r} has passed already.", hint="Give a time that is to come.")
    return end.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    """A date stands for its end."""
    whole = f"{text}T23:59:59" if len(text) == len("2026-12-31") else text
    try:
        return datetime.fromisoformat(whole).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is no time.",
            hint="Write how long (90m, 24h, 7d), a date (2026-12-31) or a date and time.",
        ) from error
