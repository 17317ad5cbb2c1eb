"""What the doctor says of the sandboxes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from corral.errors import SandboxError
from corral.sandbox.capabilities import Capabilities, Health, Limit
from corral.sandbox.contract import Profile
from corral.sandbox.registry import BACKENDS, STRONGEST, backends_here, probed, select_backend

_WHAT = {
    "gvisor": "a kernel of its own in user space",
    "bubblewrap": "namespaces and a system-call filter",
    "landlock": "Landlock and a system-call filter, weaker, without a network",
    "seatbelt": "macOS's own sandbox",
}


@dataclass(frozen=True)
class Verdict:
    """One line: whether all is well, what was found, and how to mend it."""

    ok: bool
    detail: str
    fix: str = ""


def chosen(name: str, require: Sequence[str]) -> Verdict:
    """The configured sandbox, really started. ``SandboxError`` is in the answer."""
    try:
        name = select_backend(name, require).name
    except SandboxError as error:
        return Verdict(False, error.message, _with_weaker(name, error.hint))
    health = probed(name)
    return Verdict(health.ok, _described(health), _with_weaker(name, health.hint))


def others(name: str, *, start: bool) -> Iterator[Verdict]:
    """The back ends that are not configured; each is really started only if ``start``."""
    for other in backends_here():
        if other == name:
            continue
        if start:
            health = probed(other)
            yield Verdict(health.ok, _described(health), health.hint)
        else:
            yield _looked_at(other)


def _looked_at(name: str) -> Verdict:
    try:
        BACKENDS[name]().launch(("/bin/true",), Profile())
    except SandboxError as error:
        return Verdict(False, f"{name} ({_WHAT[name]}): {error.message}", error.hint)
    return Verdict(True, f"{name} ({_WHAT[name]}) is here; corral doctor --sandboxes starts it")


def _described(health: Health) -> str:
    if health.capabilities is None:
        return f"{health.backend}: {health.detail}"
    return f"{health.backend}: {health.detail} {in_words(health.capabilities)}"


def in_words(found: Capabilities) -> str:
    """What a probe found enforced, and what not."""
    kept = [limit for limit in get_args(Limit) if limit in found.limits]
    missing = [limit for limit in get_args(Limit) if limit not in found.limits]
    words = [
        f"Isolation: {found.isolation}; network: {found.network}.",
        f"Limits tried and held: {', '.join(kept) or 'none'}.",
    ]
    if missing:
        words.append(f"Not held: {', '.join(missing)}.")
    words.append("Sessions keep state." if found.stateful else "Sessions keep no state.")
    words.append("" if found.pause == "none" else "It can be paused.")
    return " ".join(word for word in words if word)


def _with_weaker(name: str, hint: str) -> str:
    """Where the default cannot be had: name the weaker choice, if that works here."""
    if name not in ("bubblewrap", STRONGEST) or not hint or not _looked_at("landlock").ok:
        return hint
    return f'{hint}\nOr choose the weaker one, without a network: sandbox = "landlock".'
