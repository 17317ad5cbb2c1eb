"""Every error that Corral raises on purpose.

    CorralError
    ├── UsageError            the caller's mistake: nothing was started
    │   ├── ConfigError       a file or setting that cannot be understood
    │   ├── NotFoundError     no such run, thread, approval, agent, model or server
    │   └── ConflictError     the thing exists but is not in a state that allows this
    ├── RunError              the run's failure: what happened before it is kept
    │   ├── ModelError        the model could not be loaded or did not answer
    │   │   └── InvalidAnswer it answered, but nothing of the type that was asked for
    │   ├── ToolServerError   a tool server could not be started or reached
    │   ├── SandboxError      no sandbox can be had, or it did not hold
    │   ├── StorageError      the database is locked, full or damaged
    │   └── DivergenceError   the graph asked for something else than the journal holds
    └── ControlFlow           not a failure: the run ends or pauses here on purpose
        ├── LimitReached      a step, token or repetition limit stopped the run
        │   ├── OutOfTime     a model call was broken off at the limit of a budget's time
        │   └── BudgetReached a budget is used up, and there is an answer as far as it went
        ├── CheckFailed       a check refused what went in or came out
        └── StoppedByUser     a human stopped the run at a question

A message says what happened and to what; ``hint`` says what to do next. The command line
prints both and no traceback.
"""

from __future__ import annotations

from typing import Literal


class CorralError(Exception):
    """Base of all errors of Corral.

    ``message`` says what happened, to what. ``hint`` says what to do next and may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(CorralError):
    """The caller's mistake: nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file, policy, script or setting cannot be understood."""


class NotFoundError(UsageError):
    """No such run, thread, approval, agent, model or server."""


class ConflictError(UsageError):
    """The thing exists, but is not in a state that allows what was asked."""


class RunError(CorralError):
    """A run failed. What it had done before is in the journal."""


ModelFailure = Literal[
    "failed", "unreachable", "rate_limited", "overloaded", "key", "too_long", "refused", "request"
]
"""Why a model gave no answer: its server is not there, has a limit or too much to do, does not
accept the key; the request is longer than it can read; it refuses; or the request itself is wrong,
whoever is asked. Everything else is ``failed``."""


class ModelError(RunError):
    """The model could not be loaded or did not give a usable answer.

    ``kind`` is for who decides whether another model is asked instead.
    """

    def __init__(self, message: str, *, hint: str = "", kind: ModelFailure = "failed") -> None:
        super().__init__(message, hint=hint)
        self.kind: ModelFailure = kind


class InvalidAnswer(ModelError):
    """The model answered, and was asked again, but gave no value of the type asked for."""


class ToolServerError(RunError):
    """A tool server could not be started or reached, or broke its protocol."""


class SandboxError(RunError):
    """No sandbox can be had here, or it did not hold what it promised."""


class StorageError(RunError):
    """The database is locked, full, damaged or of another version."""


class DivergenceError(RunError):
    """The graph asked for an effect that differs from what the journal holds."""

    exit_code = 5


class ControlFlow(CorralError):
    """Not a failure: the run ends or pauses here on purpose."""


class LimitReached(ControlFlow):
    """A step, token or repetition limit stopped the run; it can go on with a higher one.

    ``scope`` is the path, with ``/``, of the sub-agent's task that ends, where the limit is that
    agent's own; empty for the run. What it has found so far is its ``answer``.
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", scope: str = "", answer: str = "") -> None:
        super().__init__(message, hint=hint)
        self.scope = scope
        self.answer = answer


class OutOfTime(LimitReached):
    """A model call was broken off because the time that its budget allows was over."""


class BudgetReached(LimitReached):
    """A budget is used up, and who works on it ends with what there is."""


class CheckFailed(ControlFlow):
    """A check refused the prompt or the model's answer, or could not be made.

    ``ends_run``: the check is there to stop the run, at any depth. What any other refuses in a
    sub-agent is a failure of that task alone.
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", ends_run: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.ends_run = ends_run


class StoppedByUser(ControlFlow):
    """A human answered a question by stopping the run: it ends there, and its thread can go on."""

    exit_code = 4
