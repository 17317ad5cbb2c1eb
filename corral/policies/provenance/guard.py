"""The guard: what a model may still do by itself once it has read what others have written.

A model may do what any text says that it reads. So what comes from outside taints the context, and
from then on a call that can send data out, change what cannot be brought back or use a secret is
made only if a human says so, or if nothing in it can have come from that text:

- every value of it stands in the user's own request; or
- it only reads, and nothing private is in the context: it names no destination, or one that the
  user has named, or it follows a link exactly as a public page gives it; or
- it only reads, and hands a tool's own reference (an id, a path) back to where that came from; or
- it only reads, and goes to those who may have what is in the context.

The idea of labels that decide is that of FIDES (arXiv:2505.23643) and CaMeL (arXiv:2503.18813).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from corral.jsontypes import Json
from corral.policies.facts import ToolCall
from corral.policies.patterns.names import last_word
from corral.policies.patterns.paths import is_path_name
from corral.policies.provenance.capabilities import (
    IN_WORDS,
    Capability,
    capabilities,
    destinations,
    is_reader,
    names_destination,
)
from corral.policies.provenance.verbatim import (
    leaves,
    link_stands_in,
    names_site,
    number_stands_in,
    text_stands_in,
)

OnUntrusted = Literal["ask", "deny", "off"]

SMALL = 1_000
"""Pages, counts and limits up to this may be any in a call that only reads."""

_RISKS: tuple[Capability, ...] = ("send", "irreversible", "secret")
_REFERENCES = frozenset(
    {"id", "ids", "uid", "uuid", "guid", "ref", "reference", "slug", "cursor", "number", "numbers"}
)
_AMOUNTS = frozenset(
    {"page", "pages", "limit", "limits", "offset", "count", "counts", "max", "min", "top", "size"}
    | {"n", "k", "num", "results", "result", "items", "lines", "line", "rows", "length", "depth"}
    | {"days", "day", "weeks", "months", "month", "hours", "hour", "minutes", "seconds", "timeout"}
    | {"start", "end", "skip", "first", "last", "index", "level", "radius", "width", "height"}
    | {
        "number",
        "numbers",
        "at",
        "position",
        "part",
        "chapter",
        "year",
        "nights",
        "guests",
        "adults",
        "children",
        "people",
        "persons",
        "seats",
        "chars",
        "tokens",
    }
)
"""What a number is called that says how many or how far, and not which."""
_REFERENCE = re.compile(r"[\w.:#-]{1,80}")
_PATH = re.compile(r"(?!.*://)[\w ./+-]{0,200}(?:/[\w .+-]{1,80}|\.[A-Za-z][A-Za-z0-9]{0,5})")
_DATE = re.compile(
    r"(?:19|20)\d\d-[01]\d(?:-[0-3]\d(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d)?(?:Z|[+-]\d\d:\d\d)?)?)?"
    r"|[0-2]\d:[0-5]\d"
)
_MONTH = len("2026-11")
_NEAR = timedelta(days=400)
"""Dates this far from now are days to ask about; others may be a birthday, or stand for a code."""
_SHOWN_SOURCES = 5


@dataclass(frozen=True)
class Objection:
    """Why a call is not made by itself, and whether a human can still allow it (``ask``)."""

    action: Literal["ask", "deny"]
    reason: str


def guard(call: ToolCall, on_untrusted: OnUntrusted = "ask") -> Objection | None:
    """What provenance has against a call; ``None`` if nothing.

    ``on_untrusted`` is what becomes of a call that the context's untrusted content may have asked
    for. Content whose readers the user has named goes to nobody else unasked, whatever it says.
    """
    able = capabilities(call)
    label = call.label
    risks: list[Capability] = [risk for risk in _RISKS if risk in able]
    if not risks or from_user(call):
        return None
    if label.confidential and "send" in able and not _reaches_readers(call):
        return Objection(on_untrusted if on_untrusted == "deny" else "ask", _why_confidential(call))
    if not label.untrusted or on_untrusted == "off":
        return None
    if risks == ["send"] and call.read_only and _tells_nothing(call):
        return None
    return Objection(on_untrusted, _why_untrusted(call, risks))


def from_user(call: ToolCall, names: Sequence[str] = ("*",)) -> bool:
    """Whether the arguments of these names are there and stand in what the user has written.

    ``*`` is all that are given. Of a call that only reads, counts up to ``SMALL``, dates near to
    now, booleans and the choices that its schema names may be any. A call that does more holds at
    least one value of the user's.
    """
    given = dict(_given(call))
    if "*" not in names:
        return all(name in call.args and _is_users(call, call.args[name]) for name in names)
    if not call.read_only and not given:
        return False
    return all(
        _is_users(call, value) or (call.read_only and _is_choice(call, name, value))
        for name, value in given.items()
    )


def _given(call: ToolCall) -> Iterator[tuple[str, Json]]:
    """The arguments that say something: not those that are empty, or as they would be anyway."""
    for name, value in call.args.items():
        declared = _declared(call, name)
        if value in (None, "", [], {}) and not isinstance(value, bool | int | float):
            continue
        if "default" not in declared or declared["default"] != value:
            yield name, value


def _declared(call: ToolCall, name: str) -> dict[str, Json]:
    found = call.schema.get("properties", {}).get(name)
    return found if isinstance(found, dict) else {}


def _is_users(call: ToolCall, value: Json) -> bool:
    return all(_is_users_leaf(call, leaf) for leaf in leaves(value))


def _is_users_leaf(call: ToolCall, leaf: Json) -> bool:
    match leaf:
        case None | "":
            return True
        case bool():
            return call.read_only
        case int() | float():
            return number_stands_in(leaf, call.user_texts)
        case str():
            return any(
                text_stands_in(form, call.user_texts) for form in _written(leaf, call.workspace)
            ) or (call.read_only and _is_near(leaf, call.at))
        case _:
            return False


def _written(text: str, workspace: str) -> Iterator[str]:
    """A value, and a path in the workspace as the user writes it."""
    yield text
    base = f"{workspace.rstrip('/')}/"
    if len(base) > 1 and text.startswith(base) and "/../" not in text:
        yield text[len(base) :]


def _is_small(number: float) -> bool:
    return abs(number) <= SMALL and float(number).is_integer()


def _is_near(text: str, now: datetime | None) -> bool:
    """Whether a text is a time of day, or a date that is not far from now."""
    if _DATE.fullmatch(text) is None:
        return False
    if now is None or ":" in text[:3]:
        return True
    try:
        day = date.fromisoformat(text[:10] if len(text) > _MONTH else f"{text}-01")
    except ValueError:
        return False
    return abs(day - now.date()) <= _NEAR


def _is_choice(call: ToolCall, name: str, value: Json) -> bool:
    """Whether a value is a mere count, or the tool's own definition names it among a few."""
    if isinstance(value, int | float) and last_word(name) in _AMOUNTS and _is_small(value):
        return True
    declared = _declared(call, name)
    choices = declared.get("enum")
    return isinstance(choices, list) and value in choices


def _tells_nothing(call: ToolCall) -> bool:
    """Whether a call that only reads tells nobody what they may not have."""
    if _reaches_readers(call):
        return True
    if not call.label.private:
        return _is_public_lookup(call)
    return all(
        _is_users(call, value) or _is_choice(call, name, value) or _is_reference(call, name, value)
        for name, value in _given(call)
    )


def _reaches_readers(call: ToolCall) -> bool:
    """Whether all to whom the call's data goes may have what is in the context."""
    readers = call.label.readers
    if not readers:
        return False
    going_to = destinations(call) or (f"server:{call.server.lower()}",)
    return all(any(is_reader(one, to) for one in readers) for to in going_to)


def _is_public_lookup(call: ToolCall) -> bool:
    """A look-up from a context without anything private: it could only tell the user's request.

    Nobody who wrote in that context learns it: a tool without a destination in its arguments
    always asks the same place, and a destination is one of the user's, or a link as it was found.
    """
    if not names_destination(call):
        return True
    named = destinations(call)
    if named and all(names_site(f"https://{to}", call.user_texts) for to in named):
        return True
    return all(
        _is_found(call, leaf) or _is_choice(call, name, value)
        for name, value in _given(call)
        for leaf in leaves(value)
    )


def _is_found(call: ToolCall, leaf: Json) -> bool:
    match leaf:
        case str():
            return link_stands_in(leaf, call.public_pages)
        case bool():
            return True
        case int() | float():
            return _is_small(leaf)
        case _:
            return leaf is None


def _is_reference(call: ToolCall, name: str, value: Json) -> bool:
    """Whether a value is a reference that the tool's own server has given as one.

    An id stands behind the word that it is called by, and a path looks like one: what stands
    anywhere in a text may be a secret.
    """
    word = last_word(name)
    if is_path_name(name):
        return all(
            isinstance(leaf, str)
            and _PATH.fullmatch(leaf) is not None
            and text_stands_in(leaf, call.returned_texts)
            for leaf in leaves(value)
        )
    if word not in _REFERENCES:
        return False
    return all(_is_named(call, word.removesuffix("s"), leaf) for leaf in leaves(value))


def _is_named(call: ToolCall, word: str, leaf: Json) -> bool:
    if isinstance(leaf, bool) or not isinstance(leaf, str | int):
        return leaf is None
    text = str(leaf)
    if not _REFERENCE.fullmatch(text):
        return False
    begins = rf"(?:(?<![^\W_])|(?<=[a-z])(?={word[0].upper()}))(?i:{word})s?"
    sign = "|(?<!\\w)#" if word == "number" else ""
    named = re.compile(rf"(?:{begins}[\"'\s:=#\[(]{{1,6}}{sign}){re.escape(text)}(?![\w-])")
    return any(named.search(returned) for returned in call.returned_texts)


def _why_untrusted(call: ToolCall, risks: Sequence[Capability]) -> str:
    does = " and ".join(IN_WORDS[risk] for risk in risks)
    return f"{call.name} can {does}, and the model has read {_read(call)}.{_not_asked_for(call)}"


def _why_confidential(call: ToolCall) -> str:
    to = ", ".join(destinations(call)) or f"the server {call.server}"
    return f"{call.name} can send data to {to}, who may not have what is in {_read(call)}."


def _read(call: ToolCall) -> str:
    sources = [source for source in call.label.sources if source != "the user"]
    more = f" and {len(sources) - _SHOWN_SOURCES} more" if len(sources) > _SHOWN_SOURCES else ""
    return f"{', '.join(sources[:_SHOWN_SOURCES])}{more}" or "content of unknown origin"


def _not_asked_for(call: ToolCall) -> str:
    """The arguments that the user has not written, by name."""
    names = [name for name, value in _given(call) if not _is_users(call, value)]
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:8])
    return f" Not in your own words: {shown}." if names else ""
