"""The service: where it is, the key to it, and its errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corral.errors import SandboxError

if TYPE_CHECKING:
    from e2b.connection_config import ApiParams

_SAID = 300
_NOT_FOUND = "The sandbox was not found"
_GONE = (
    "the sandbox is gone, or paused",
    "Resume it, or open a new one: one that nobody uses ends after `timeout` of [e2b] seconds.",
)
_UNREACHABLE = (
    "it cannot be reached",
    "Check the network, and `domain` of [e2b]. The sandbox may have ended.",
)


@dataclass(frozen=True)
class E2BOptions:
    """How E2B is reached. ``api_url`` and ``sandbox_url`` replace what follows from ``domain``.

    ``timeout``: seconds after which the service ends a sandbox that nobody uses. The key is sent
    to the service and is written nowhere.
    """

    api_key: str = field(repr=False)
    domain: str | None = None
    api_url: str | None = None
    sandbox_url: str | None = None
    template: str | None = None
    timeout: float = 300.0

    @property
    def params(self) -> ApiParams:
        """What every call of the SDK is given, so that it looks up nothing by itself."""
        plain = (self.sandbox_url or self.api_url or "").startswith("http://")
        return {
            "api_key": self.api_key,
            "domain": self.domain,
            "api_url": self.api_url,
            "sandbox_url": self.sandbox_url,
            "debug": False,
            "http_version": "1.1" if plain else None,
        }

    @contextmanager
    def asked_to(self, what: str) -> Iterator[None]:
        """Around calls of the SDK: raises ``SandboxError`` for whatever it raises."""
        try:
            yield
        except SandboxError:
            raise
        except Exception as error:  # noqa: BLE001  the SDK raises its own, httpx's and bare ones
            reason, hint = _explained(error)
            said = " ".join(str(error).replace(self.api_key, "[the key]").split())
            shown = "".join(c for c in said if c.isprintable())[:_SAID]
            told = f" It said: {shown}" if shown else ""
            raise SandboxError(f"E2B could not {what}: {reason}.{told}", hint=hint) from None


def _explained(error: Exception) -> tuple[str, str]:
    if _NOT_FOUND in str(error):  # the interpreter's client calls this a time-out
        return _GONE
    for kind, reason, hint in _kinds():
        if isinstance(error, kind):
            return reason, hint
    return _UNREACHABLE  # what is left are errors of its HTTP clients


def _kinds() -> tuple[tuple[Any, str, str], ...]:
    import e2b

    gone = (e2b.SandboxNotFoundException, e2b.SandboxNotRunningException)
    return (
        (
            e2b.AuthenticationException,
            "it refuses the key",
            "Check the key in the variable that `api_key_env` of [e2b] names.",
        ),
        (
            e2b.RateLimitException,
            "it is asked too often, or the account's limit is reached",
            "Wait and try again, stop sandboxes that nobody needs, or raise the account's limit.",
        ),
        (
            e2b.ServiceBusyException,
            "it is busy",
            "Nothing was changed. Wait a little and try again.",
        ),
        (gone, *_GONE),
        (e2b.FileNotFoundException, "there is no such file or folder", "See `listing`."),
        (e2b.NotFoundException, "there is no such thing", "Check the template's name."),
        (e2b.NotEnoughSpaceException, "its disk is full", "Remove files in it."),
        (e2b.InvalidArgumentException, "it refuses the request", "Correct what it names."),
        (e2b.SandboxUnreachableException, *_UNREACHABLE),
        (e2b.TimeoutException, "it did not answer in time", "Try again."),
        (e2b.SandboxException, "it reported an error", "See the account's limits, and its status."),
    )
