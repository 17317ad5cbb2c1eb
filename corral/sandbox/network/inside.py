"""What a back end of this machine adds to a sandbox that may reach something.

The folder of the proxy's sockets is bound inside, a relay is started before the command, and the
usual variables name it. Nothing else of the network is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Profile
from corral.sandbox.network.rules import Network

PROXY_PORT = 3128
"""Where the HTTP proxy listens on the sandbox's loopback."""

PROXY_SOCKET = "proxy.sock"
CERTIFICATES = "certificates.pem"
"""In the proxy's folder: what to trust, the system's authorities and the proxy's own."""

_FOLDER = PurePosixPath("/run/corral/network")
_RELAY = PurePosixPath("/run/corral/relay.py")
_RELAY_SOURCE = Path(__file__).resolve().parent.parent / "guest" / "relay.py"
_OWN = ("localhost", "127.0.0.1", "::1")
_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_TRUST_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
)


@dataclass(frozen=True)
class Inside:
    """What is added: ``argv`` before the command's own, variables, and read-only binds.

    ``binds`` are folders and files of the host, each with its place inside.
    """

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[tuple[Path, PurePosixPath], ...] = ()


def inside(profile: Profile) -> Inside:
    """What a profile's network needs inside; nothing at all without one.

    Raises ``SandboxError`` for a network without a proxy.
    """
    network = profile.network
    if not network:
        return Inside()
    if profile.proxy is None:
        raise SandboxError(
            "A sandbox with a network was asked for, and no proxy was started for it.",
            hint="Start corral.sandbox.network.proxy.Proxy first, and pass its socket.",
        )
    ports = {PROXY_PORT: PROXY_SOCKET} if network.rules else {}
    ports |= {one.inside_port: forward_socket(one.inside_port) for one in network.forwards}
    relayed = (f"{port}={_FOLDER / name}" for port, name in ports.items())
    return Inside(
        argv=(str(host.interpreter()), "-I", "-S", str(_RELAY), *relayed, "--"),
        env=_environment(network),
        binds=((profile.proxy.parent, _FOLDER), (_RELAY_SOURCE, _RELAY)),
    )


def forward_socket(port: int) -> str:
    """The name of the socket for a forwarded port, in the proxy's folder."""
    return f"forward-{port}.sock"


def _environment(network: Network) -> dict[str, str]:
    found: dict[str, str] = {}
    if network.rules:
        named = {rule.host for rule in network.rules}
        found = dict.fromkeys(_PROXY_VARIABLES, f"http://127.0.0.1:{PROXY_PORT}")
        # The sandbox's own loopback, unless that of the host is what is allowed.
        found["NO_PROXY"] = ",".join(name for name in _OWN if name not in named)
        found |= {name.lower(): value for name, value in found.items()}
        found["NODE_USE_ENV_PROXY"] = "1"  # without it Node's own client knows of no proxy
    if network.inspects:
        found |= dict.fromkeys(_TRUST_VARIABLES, str(_FOLDER / CERTIFICATES))
    return found
