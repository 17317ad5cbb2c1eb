"""What stands on the lines of an export, by their ``type``, and what may stand there.

    header     once, first: the format and who wrote it
    past       a fork's: the run that it parted from, with the effects that are marked ``past``
    run        once: the run itself
    state      what the thread held before the run, a value at a time
    message    the same, a chat message at a time
    effect     the journal, by ``seq``
    approval   the questions to humans
    end        once, last: how many effects and approvals there are

Whoever wrote a file may be a stranger, so nothing in it is taken for granted: unknown keys,
other types, sizes out of bounds and journals that contradict themselves are refused.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from corral.jsontypes import JsonObject
from corral.runtime.effects import EffectKind, Spend
from corral.runtime.entries import ENDED
from corral.runtime.export.question_forms import Context
from corral.runtime.views import ApprovalKind, ApprovalStatus, RunStatus
from corral.version import VERSION as RELEASE

CORRAL = RELEASE
"""The version of this Corral."""

FORMAT: Literal["corral-run"] = "corral-run"
VERSION: Literal[1] = 1
"""The version of the format that this Corral writes, and the newest that it reads."""

BASE_STEP = 0
"""The superstep at which an imported thread that has a state stands before its run."""

MAX_EFFECTS = 200_000
"""Most effects of one export."""

_MOST = 2**53  # what every JSON reader and every database can hold
_LEVEL = re.compile(
    r"\d{1,9}\.[^/#\[\]\x00-\x1f]{1,200}(\[\d{1,9}\])?#\d{1,9}|[a-z][a-z_]{0,39}|\d{1,9}"
)
_MAX_PATH = 1000
_SPEND = tuple(field.name for field in fields(Spend))


def _time(text: str) -> str:
    if len(text) > 40:
        raise ValueError("is not a time")
    datetime.fromisoformat(text)
    return text


def _path(text: str) -> str:
    if len(text) > _MAX_PATH or not all(_LEVEL.fullmatch(part) for part in text.split("/")):
        raise ValueError("is not a place in a graph")
    return text


RunId = Annotated[str, Field(pattern=r"^r-[0-9a-z]{1,40}$")]
ApprovalId = Annotated[str, Field(pattern=r"^a-[0-9a-z]{1,40}$")]
Time = Annotated[str, AfterValidator(_time)]
Path = Annotated[str, AfterValidator(_path)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Number = Annotated[int, Field(ge=1, le=_MOST)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=2000)]
Channel = Annotated[str, Field(pattern=r"^_?[^_:\x00-\x1f][^:\x00-\x1f]{0,199}$")]
"""A key of a graph's state; LangGraph's own ones begin with ``__`` or hold a colon."""


class Form(BaseModel):
    """One line. ``order`` says where in the file lines of this type stand."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    order: ClassVar[int]


class Header(Form):
    """The first line. ``scrubbed``: the content was taken out, so it is for reading only."""

    order: ClassVar[int] = 0

    type: Literal["header"] = "header"
    format: Literal["corral-run"] = FORMAT
    version: Literal[1] = VERSION
    corral: Annotated[str, Field(max_length=40)]
    scrubbed: bool


class Spec(Form):
    """A run's agent. What its machine had granted it, a policy and limits, is not in a file."""

    order: ClassVar[int] = -1

    agent: JsonObject = {}
    policy: None = None
    functions: list[Name] = []
    own_model: bool = False
    own_graph: bool = False


class Code(Form):
    """What a run was made by, see ``corral/agents/fingerprint.py``."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    order: ClassVar[int] = -1

    corral: Name | None = None
    graph: Name | None = None
    functions: dict[Name, Name] = {}
    own_graph: Name | None = None


class Origin(Form):
    """What both a run and the past of a fork are made of."""

    id: RunId
    agent: Name
    model: Name
    spec: Spec
    graph_version: Name
    prompt: str
    started_at: Time
    code: Code | None = None


class Past(Origin):
    """The run that a fork parted from, as far as the fork shares it."""

    order: ClassVar[int] = 1

    type: Literal["past"] = "past"


class Fork(Form):
    """Where a fork parted from its past, and what was changed there."""

    order: ClassVar[int] = -1

    at: Number
    changes: JsonObject


class Run(Origin):
    """The run that is exported; ``title`` is its thread's."""

    order: ClassVar[int] = 2

    type: Literal["run"] = "run"
    title: str
    status: RunStatus
    output: str
    error: str | None
    finished_at: Time | None
    fork: Fork | None = None
    tags: Annotated[list[Name], Field(max_length=1000)] = []


class State(Form):
    """A value that the thread held before the run."""

    order: ClassVar[int] = 3

    type: Literal["state"] = "state"
    channel: Channel
    value: Any


class Message(Form):
    """A chat message that the thread held before the run, with its id in the thread."""

    order: ClassVar[int] = 3

    type: Literal["message"] = "message"
    channel: Channel
    id: Name | None
    message: JsonObject


class Effect(Form):
    """An entry of the journal, see ``corral.runtime.entries.Entry``."""

    order: ClassVar[int] = 4

    type: Literal["effect"] = "effect"
    past: bool = False
    seq: Number
    path: Path
    kind: EffectKind
    name: Name
    status: Literal["started", "finished", "failed", "cancelled", "waiting"]
    digest: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    request: JsonObject
    result: JsonObject | None
    attempts: Number
    started_at: Time
    duration_ms: Amount | None
    ended: Number | None
    asked: Number | None
    seen: Count | None
    input_tokens: Count
    output_tokens: Count
    cost_usd: Amount
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0
    reasoning_tokens: Count = 0
    first_token_ms: Amount | None = None
    generation_ms: Amount | None = None
    answered_by: Name = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Effect:
        if (self.result is None) == (self.status in ENDED):
            raise ValueError(f"an effect that is {self.status} cannot have such a result")
        return self

    @property
    def spend(self) -> Spend:
        """What the effect used."""
        return Spend(**{name: getattr(self, name) for name in _SPEND})


class Approval(Form):
    """A question to a human about the effect at ``path`` (before its last part)."""

    order: ClassVar[int] = 5

    type: Literal["approval"] = "approval"
    id: ApprovalId
    path: Path
    kind: ApprovalKind
    tool: Name
    args: JsonObject
    input_schema: JsonObject
    reason: str
    always: JsonObject
    status: ApprovalStatus
    answer_args: JsonObject | None
    answer_reason: str | None
    answer_result: str | None
    created_at: Time
    answered_at: Time | None
    context: Context = Context()
    answered_by: Name | None = None


class End(Form):
    """The last line: without it the file is cut off."""

    order: ClassVar[int] = 6

    type: Literal["end"] = "end"
    effects: Count
    approvals: Count


Line = Header | Past | Run | State | Message | Effect | Approval | End

FORMS: dict[str, type[Line]] = {
    "header": Header,
    "past": Past,
    "run": Run,
    "state": State,
    "message": Message,
    "effect": Effect,
    "approval": Approval,
    "end": End,
}
