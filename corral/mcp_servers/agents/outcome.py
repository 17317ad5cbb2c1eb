"""How a run stands, as the result of a tool call: structured, and in words."""

from __future__ import annotations

import json
from collections.abc import Sequence

import mcp_types as types

from corral.agents.hosting.contract import ENDED, HostedStatus, Report
from corral.jsontypes import Json, JsonObject
from corral.mcp_servers.agents.naming import CANCEL, RESULT, SEND, STATUS
from corral.mcp_servers.serving.faults import ended_with
from corral.runtime.approvals.page import Page
from corral.runtime.views import Approval
from corral.tools.text import one_line

_FAILED: frozenset[HostedStatus] = frozenset({"failed", "stopped", "cancelled"})


def run_result(report: Report, notes: Sequence[str] = ()) -> types.CallToolResult:
    """A run as the result of a call. One that has failed, stopped or was cancelled is an error."""
    content = structured(report, notes)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=_in_words(report, content))],
        structured_content=content,
        is_error=report.status in _FAILED,
    )


def plain_result(content: JsonObject, text: str) -> types.CallToolResult:
    """A result that is not about one run."""
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=content
    )


def structured(report: Report, notes: Sequence[str] = ()) -> JsonObject:
    """The structured content: what ``definitions.run_schema`` says. What is empty is left out."""
    totals = report.totals
    found: JsonObject = {
        "run": report.run,
        "thread": report.thread,
        "agent": report.agent,
        "status": report.status,
        "answer": report.answer if report.status == "completed" else "",
        "error": ended_with(report.error, report.run),
        "happened": list(report.happened),
        "approvals": [waiting(approval) for approval in report.approvals],
        "notes": list(notes),
    }
    return {
        **{key: part for key, part in found.items() if part},
        **({} if report.value is None else {"value": report.value}),
        "steps": report.steps,
        "usage": {
            "input_tokens": totals.input_tokens,
            "output_tokens": totals.output_tokens,
            "cost_usd": totals.cost_usd,
        },
        "next": what_next(report),
    }


def waiting(approval: Approval) -> JsonObject:
    """A question to a human, as a model is told of it: it can show it, and cannot answer it."""
    return {
        "id": approval.id,
        "run": approval.run,
        "kind": approval.kind,
        "tool": approval.tool,
        "args": approval.args,
        "reason": approval.reason,
        "about": about(approval),
        "command": command_for(approval),
        "expires_at": approval.expires_at,
    }


def about(approval: Approval) -> list[str]:
    """What a human should know of a question besides the call, as a terminal shows it."""
    page = Page(approval)
    return [line for part in (page.reach(), page.asker(), page.background()) for line, _ in part]


def command_for(approval: Approval) -> str:
    """What a human types to allow it."""
    return f"corral approve {approval.id}"


def what_next(report: Report) -> str:
    """What a model should do with a run that stands so."""
    run = f'"{report.run}"'
    match report.status:
        case "completed":
            return f"Done. To say more in this conversation, call {SEND} with run {run}."
        case "queued":
            return (
                f"It begins when its conversation is free. Call {RESULT} with run {run} to wait "
                f"for it, {CANCEL} to drop it."
            )
        case "running":
            return (
                f"It is still working. Call {RESULT} with run {run} to wait for the answer, "
                f"{STATUS} to look, {CANCEL} to stop it. Do not start it again."
            )
        case "waiting":
            commands = ", ".join(f"`{command_for(one)}`" for one in report.approvals)
            return (
                f"A human must decide, and you cannot. Tell the user what waits, and that this "
                f"allows it in a terminal: {commands or '`corral approvals`'} (`corral deny` "
                f"refuses it). Then call {RESULT} with run {run}."
            )
        case "failed" | "stopped" | "cancelled":
            return f"It has ended. {SEND} with run {run} goes on in its conversation."


def _in_words(report: Report, content: JsonObject) -> str:
    parts = [_said(report), *content.get("notes", ())]
    if report.status not in ENDED and report.happened:
        parts.append("So far:\n" + "\n".join(f"- {step}" for step in report.happened))
    parts += [_asked(approval) for approval in report.approvals]
    parts.append(f"(run {report.run}, thread {report.thread}. {content['next']})")
    return "\n\n".join(part for part in parts if part)


def _said(report: Report) -> str:
    if report.status == "completed":
        return report.answer or _as_text(report.value)
    error = ended_with(report.error, report.run)
    why = f": {error}" if error else ""
    return f"The run is {report.status}{why}."


def _as_text(value: Json) -> str:
    return "(no answer)" if value is None else json.dumps(value, ensure_ascii=False)


def _asked(approval: Approval) -> str:
    args = one_line(json.dumps(approval.args, ensure_ascii=False), 600)
    return "\n".join([f"Waits for a human: {approval.tool} {args}", *about(approval)])
