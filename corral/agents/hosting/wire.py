"""Orders, reports and events as the JSON in which they cross the host's socket, one a line.

Both ends are of this user and of Corral, of versions that may differ: what one end does not know is
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from corral import errors
from corral.agents.hosting.contract import Offer, Order, Report
from corral.errors import CorralError, RunError
from corral.jsontypes import JsonObject
from corral.runtime import events
from corral.runtime.approvals.replies import Always, Approved, Denied, Given, Reply, Stopped
from corral.runtime.events import Event, RunFinished
from corral.runtime.views import Approval, EffectView, RunResult, Totals
from corral.tools.contract import ToolSpec

LONGEST_LINE = 32 * 1024 * 1024
"""Bytes of one message."""

T = TypeVar("T")


def order_to_json(order: Order) -> JsonObject:
    """An order; ``order_of`` reads it back."""
    return asdict(order)


def order_of(data: JsonObject) -> Order:
    """Read what ``order_to_json`` wrote."""
    return _record(Order, data)


def offer_of(data: JsonObject) -> Offer:
    """Read an ``Offer``."""
    return _record(Offer, data)


def spec_of(data: JsonObject) -> ToolSpec:
    """Read a ``ToolSpec``."""
    return _record(ToolSpec, data)


def effect_of(data: JsonObject) -> EffectView:
    """Read an ``EffectView``."""
    return _record(EffectView, data)


def report_of(data: JsonObject) -> Report:
    """Read a ``Report``."""
    return _record(Report, data)


def reply_to_json(reply: Reply) -> JsonObject:
    """A human's answer; ``reply_of`` reads it back."""
    return {"kind": _KINDS[type(reply)], **asdict(reply)}


def reply_of(data: JsonObject) -> Reply:
    """Read what ``reply_to_json`` wrote."""
    kind, said = data["kind"], {k: v for k, v in data.items() if k != "kind"}
    always = said.get("always")
    if isinstance(always, dict):
        said["always"] = Always(**always)
    replies: dict[str, type[Reply]] = {name: reply for reply, name in _KINDS.items()}
    return _record(replies[kind], said)


_KINDS: Mapping[type[Reply], str] = {
    Approved: "approved",
    Denied: "denied",
    Given: "given",
    Stopped: "stopped",
}


def event_of(data: JsonObject) -> Event | None:
    """Read an event's ``to_json``; ``None``: of a kind that is not known here."""
    kind = _EVENTS.get(data.get("type", ""))
    if kind is None:
        return None
    if kind is RunFinished:
        return RunFinished(_record(RunResult, data))
    event: Event = _record(kind, data)
    return event


_EVENTS: Mapping[str, type[Any]] = {
    kind.type: kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, events.Typed) and hasattr(kind, "type")
}


def _record(kind: type[T], data: Mapping[str, Any]) -> T:
    """A record by the names of its fields; those that are records themselves are read, too."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # all are dataclasses
    return kind(**{name: _field(name, value) for name, value in data.items() if name in known})


def _field(name: str, value: Any) -> Any:
    if name in _NESTED and isinstance(value, Mapping):
        return _NESTED[name](value)
    if name == "approvals" and isinstance(value, list):
        return tuple(_record(Approval, one) for one in value)
    return tuple(value) if name in _TUPLES and isinstance(value, list) else value


_NESTED: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "totals": lambda data: _record(Totals, data),
    "usage": lambda data: _record(Totals, data),
    "approval": lambda data: _record(Approval, data),
}
_TUPLES = ("happened", "agents", "warnings", "alike")


def error_to_json(error: CorralError) -> JsonObject:
    """An error that is told; ``error_of`` makes one like it."""
    return {"kind": type(error).__name__, "message": error.message, "hint": error.hint}


def error_of(data: JsonObject) -> CorralError:
    """An error of the same kind, or a ``RunError`` where that is not known here."""
    named: Any = getattr(errors, data["kind"], None)
    is_known = isinstance(named, type) and issubclass(named, CorralError)
    kind: type[CorralError] = named if is_known else RunError
    return kind(data["message"], hint=data["hint"])
