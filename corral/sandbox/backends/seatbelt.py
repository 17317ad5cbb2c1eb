"""macOS: ``sandbox-exec`` with a profile of our own. Corral's tests do not run it.

The profile denies everything but the system's programs and libraries, the grants and, with a
network, the proxy's socket. Limits are those that a shell's ``ulimit`` knows, for each process;
nothing ends a process that leaves its group, and there is no private ``/tmp``.

Source: the profiles in /System/Library/Sandbox/Profiles, and sandbox-exec(1).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import grants
from corral.sandbox.backends import environment
from corral.sandbox.backends.opening import open_local
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Limits, Profile, Sandbox, Snapshot
from corral.sandbox.launcher.order import Bind
from corral.sandbox.probe import probe

_PROGRAM = "/usr/bin/sandbox-exec"
_PROXY = "CORRAL_PROXY_SOCKET"
_BLOCK = 512  # what ulimit -f counts in
_SYSTEM = (
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
    "/System/Library",
    "/System/Volumes/Preboot/Cryptexes",
    "/Library/Developer/CommandLineTools",
    "/private/etc/ssl",
    "/private/var/db/timezone",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_BASE = """\
(version 1)
(deny default)
(allow process-exec)
(allow process-fork)
(allow signal (target same-sandbox))
(allow process-info* (target same-sandbox))
(allow sysctl-read)
(allow ipc-posix-sem)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow file-read-metadata (literal "/") (literal "/private") (literal "/var") (literal "/etc"))"""


@dataclass(frozen=True)
class SeatbeltBackend:
    """Isolation by macOS's own sandbox."""

    @property
    def name(self) -> str:
        """``seatbelt``."""
        return "seatbelt"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        """The command that runs ``argv`` under ``profile``. See ``LocalBackend``."""
        if sys.platform != "darwin":
            raise SandboxError(
                f"The seatbelt sandbox needs macOS; this is {sys.platform}.",
                hint='Set sandbox = "bubblewrap".',
            )
        grants.check_text(argv, profile)
        home = str(grants.inside(profile.workdir)) if profile.workdir else "/private/tmp"
        network = {_PROXY: str(profile.proxy)} if profile.network else {}
        script = f'{ulimits(profile.limits)}; cd {_quoted_for_shell(home)} && exec "$@"'
        command = (_PROGRAM, "-p", profile_text(profile), "/bin/sh", "-c", script, "sh", *argv)
        return Launch(command, environment.variables(profile, home, network))

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        """Start a sandbox. See ``SandboxBackend``."""
        return await open_local(self, profile, snapshot)

    def probe(self) -> Health:
        """Start one sandbox, run canary checks inside and say what holds."""
        return probe(self)


def profile_text(profile: Profile) -> str:
    """The sandbox profile, in the language of sandbox-exec. Later rules win over earlier ones.

    Raises ``SandboxError`` for a grant that cannot be had, and for a network without a proxy.
    """
    lines = [_BASE, _rule("allow", "file-read*", [_subpath(path) for path in _SYSTEM])]
    devices = [_literal(path) for path in _DEVICES]
    lines.append(_rule("allow", "file-read* file-write-data", devices))
    for bind in grants.binds(profile):
        lines += _grant(bind)
    if profile.network:
        if profile.proxy is None:
            raise SandboxError(
                "A sandbox with a network was asked for, and no proxy was started for it.",
                hint="Start corral.sandbox.network.proxy.Proxy first, and pass its socket.",
            )
        lines.append(_rule("allow", "network-outbound", [_literal(str(profile.proxy))]))
    return "\n".join(lines) + "\n"


def _grant(bind: Bind) -> list[str]:
    if not bind.source:
        place = _subpath(str(Path(bind.target).resolve()))
        return [_rule("deny", "file-read* file-write*", [place])]
    place = _literal(bind.source) if Path(bind.source).is_file() else _subpath(bind.source)
    above = [_literal(str(folder)) for folder in Path(bind.source).parents]
    return [
        _rule("allow", "file-read-metadata", above),
        _rule("allow", "file-read*", [place]),
        _rule("allow" if bind.writable else "deny", "file-write*", [place]),
        # A file that runs as its owner is never left behind.
        _rule("deny", "file-write-setugid", [place]),
    ]


def _rule(verdict: str, operation: str, places: Sequence[str]) -> str:
    return f"({verdict} {operation} {' '.join(places)})"


def _literal(path: str) -> str:
    return f"(literal {_quoted(path)})"


def _subpath(path: str) -> str:
    return f"(subpath {_quoted(path)})"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _quoted_for_shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def ulimits(limits: Limits) -> str:
    """The limits as commands of a shell."""
    wanted = {
        "c": 0,
        "f": limits.file_size // _BLOCK,
        "n": limits.open_files,
        "t": limits.cpu_seconds,
    }
    return "; ".join(f"ulimit -{option} {value}" for option, value in wanted.items())
