"""What a tool's result says about how things go: fine, empty, pending, failed.

A guess from the text, made so that a wrong guess costs little: *pending* and *transient* only add
patience. It looks at the ends of a text and at small JSON, so it takes no longer for a large one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from corral.policies.loops.lexicon import lexicon

Nature = Literal["fine", "empty", "pending", "failed", "transient"]
"""``transient`` is a failure that may pass by itself."""

_ENDS = 200
"""Characters at each end of a text that are looked at."""

_SHORT = 100
"""Characters of a text in which one word says it all."""

_SMALL = 4000
"""Characters of a JSON text that is parsed."""

_STATUS_KEYS = {"status", "state", "phase", "stage", "job_status", "build_status", "conclusion"}
_DONE_KEYS = {"done", "ready", "finished", "complete", "completed", "is_ready", "is_done"}
_PROGRESS_KEYS = {"progress", "percent", "percentage", "percent_complete"}
_CODE_KEYS = {"status", "status_code", "code"}
_PENDING_WORDS = lexicon(
    """
    accepted active booting building creating deploying downloading executing importing indexing
    initializing installing loading pending preparing processing provisioning publishing pulling
    queued restarting running scheduled started starting submitted syncing transferring updating
    uploading validating waiting working
    """
) | {
    "in progress",
    "in queue",
    "not ready",
    "not started",
}

_PENDING = re.compile(
    r"\b(?:in[ _-]progress|in (?:the )?queue|queued|still (?:\w{2,20}ing|pending|open|busy)"
    r"|not (?:yet )?(?:ready|finished|completed?|done|available|started)|please wait"
    r"|(?:try|check|ask|come) (?:again|back) (?:later|soon|in )|202 accepted|no updates? yet"
    r"|(?:not|nothing|none)(?: \w{1,20}){0,2} yet)\b"
)
_PENDING_WORD = re.compile(
    r"\b(?:pending|running|processing|waiting|scheduled|building|deploying|starting|loading"
    r"|uploading|downloading|indexing|provisioning|eta|[1-9]?\d(?:\.\d{1,3})? ?%)(?!\w)"
)
_STATUS_LINE = re.compile(
    r"\b(?:status|state|phase|stage)\W{1,5}(?:" + "|".join(sorted(_PENDING_WORDS)) + r")\b"
)
_FAILED = re.compile(
    r"\A[\s\[(*#>!-]{0,10}(?:\w{0,40}error\b|\w{0,40}exception\b|fatal\b|failed\b|failure\b|cannot\b"
    r"|could not\b|unable to\b|invalid\b|denied\b|usage:)"
    r"|traceback \(most recent call last\)|\b[1-9]\d{0,6} (?:failed|failures?|errors?)\b"
    r"|\b(?:exit|return)(?:ed)?(?: with)? (?:code|status) [1-9]"
    r"|\b(?:no such file|command not found|permission denied|not permitted|access denied)\b"
    r"|\bhttp(?:/\d\.\d)? [45]\d\d\b|\b40[0134] (?:bad|unauthorized|forbidden|not)\b"
)
_FAILED_HINTS = lexicon(
    "error exception fatal fail cannot could unable invalid denied usage traceback code status "
    "such not http 40"
)
"""One of these is in whatever ``_FAILED`` finds, and is looked for much faster."""

_SHOUTED = re.compile(r"\bFAIL(?:ED)?\b")
_TRANSIENT = re.compile(
    r"\btim(?:ed|e) ?out\b|\btemporar|rate[ -]?limit|too many requests|\b(?:429|502|503|504)\b"
    r"|connection (?:was )?(?:reset|refused|aborted|closed|lost)|unavailable|overloaded"
    r"|try again|is locked|\bbusy\b|eagain|network is unreachable|deadlock"
)
_EMPTY = re.compile(
    r"\b(?:no|zero|0) (?:\w{1,20} ){0,2}?(?:results?|match(?:es)?|rows?|items?|entries|files?"
    r"|records?|hits?|messages?|mails?|documents?|issues?|events?|pages?|data|output)\b"
    r"|\bnothing (?:was )?(?:found|here|matched)\b|\bnot found\b|\bfound (?:0|no|nothing)\b"
    r"|\bempty\b"
)
_VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d|\d\d:\d\d(?::\d\d)?(?:[.,]\d{1,9})?|0x[0-9a-f]{1,16}\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|\b\d{1,9}(?:\.\d{1,9})? ?(?:ms|s|sec|seconds?|minutes?)\b|\bpid \d{1,9}",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"\"[^\"\n]{0,120}\"|'[^'\n]{0,120}'|`[^`\n]{0,120}`|\S{0,120}[/\\]\S{0,120}|\w{0,60}\d\w{0,60}"
    r"|\b\w{1,60}\.\w{1,10}\b"
)

_WORD = re.compile(r"[^\W\d_]{2,40}")


@dataclass(frozen=True)
class Result:
    """How a call went. ``digest`` tells results apart, and failures without what always changes.

    ``failure`` tells failures apart without what they are about; empty for what did not fail.
    """

    nature: Nature
    digest: int
    failure: str = ""
    size: int = 0


def read_result(text: str, *, is_error: bool = False) -> Result:
    """What a tool's result says; ``is_error`` is what the tool itself says of it."""
    stripped = text.strip()
    nature = _nature(stripped, is_error=is_error)
    if nature not in ("failed", "transient"):
        return Result(nature, hash(stripped), size=len(stripped))
    return Result(
        nature, hash(_VOLATILE.sub("~", stripped)), failure_of(stripped), size=len(stripped)
    )


def failure_of(text: str) -> str:
    """A failure without its names, paths and numbers: the same failure about something else."""
    lines = [line.strip() for line in (text[:_ENDS], text[-_ENDS:]) if line.strip()]
    if not lines:
        return "(no message)"
    first, last = lines[0].splitlines()[0], lines[-1].splitlines()[-1]
    told = last if "Traceback" in first else first
    return " ".join(_WORD.findall(_VARIABLE.sub(" ", told[:240]).lower()))


def _nature(text: str, *, is_error: bool) -> Nature:
    shown = text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]}\n{text[-_ENDS:]}"
    ends = shown.lower()
    by_form = None if is_error else _nature_of_json(text)
    if by_form is not None:
        return by_form
    if _is_pending(ends, is_error=is_error):
        return "pending"
    if is_error or _says_failure(ends) or _SHOUTED.search(shown):
        return "transient" if _TRANSIENT.search(ends) else "failed"
    if len(ends) <= _SHORT and _PENDING_WORD.search(ends):
        return "pending"
    if len(ends) <= _SHORT and _EMPTY.search(ends):  # but no text at all is how commands succeed
        return "empty"
    return "fine"


def _says_failure(ends: str) -> bool:
    return any(hint in ends for hint in _FAILED_HINTS) and bool(_FAILED.search(ends))


def _is_pending(ends: str, *, is_error: bool) -> bool:
    if is_error and _TRANSIENT.search(ends):
        return False
    return bool((len(ends) <= 2 * _SHORT and _PENDING.search(ends)) or _STATUS_LINE.search(ends))


def _nature_of_json(text: str) -> Nature | None:
    """What small JSON says by its form; ``None`` where that says nothing."""
    if not text or text[0] not in "{[" or len(text) > _SMALL:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if value == []:
        return "empty"
    if not isinstance(value, dict):
        return None
    fields = list(_fields(value))
    if any(_says_pending(key, inner) for key, inner in fields):
        return "pending"
    if _says_failed(value):
        return "transient" if _TRANSIENT.search(text[:_ENDS].lower()) else "failed"
    lists = [inner for _, inner in fields if isinstance(inner, list)]
    return "empty" if lists and not any(lists) else None


def _fields(value: dict[str, Any], depth: int = 3) -> Iterator[tuple[str, Any]]:
    """The fields of an object and of the objects in it, but of no list with many members."""
    for key, inner in value.items():
        yield str(key).lower(), inner
        if depth and isinstance(inner, dict):
            yield from _fields(inner, depth - 1)
        elif depth and isinstance(inner, list) and len(inner) <= 3:
            for member in inner:
                if isinstance(member, dict):
                    yield from _fields(member, depth - 1)


def _says_failed(value: dict[str, Any]) -> bool:
    if value.get("error") or any(value.get(key) is False for key in ("ok", "success")):
        return True
    return any(value.get(key) not in (None, 0) for key in ("exit_code", "returncode"))


def _says_pending(key: str, value: Any) -> bool:
    if value is False:
        return key in _DONE_KEYS
    if isinstance(value, str):
        words = " ".join(re.split(r"[\s_-]+", value[:40].lower()))
        return key in _STATUS_KEYS and words in _PENDING_WORDS
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = 1 if isinstance(value, float) and value <= 1 else 100
        return (key in _CODE_KEYS and value == 202) or (
            key in _PROGRESS_KEYS and 0 <= value < whole
        )
    return False
