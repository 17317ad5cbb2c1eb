"""Headers on their way through the proxy: what belongs to one connection stays behind.

And credentials: added on the host, never let in, and masked where a service sends them back.
Source: RFC 9110, section 7.6.1, for what must not be forwarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import h11

from corral.sandbox.network.judge import Wanted
from corral.sandbox.network.rules import NetworkRule

Headers = list[tuple[bytes, bytes]]

_OF_ONE_CONNECTION = frozenset(
    {
        *(b"connection", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate"),
        *(b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),
    }
)
_SHORTEST_SECRET = 8


def to_service(request: h11.Request, wanted: Wanted, rule: NetworkRule) -> Headers:
    """A request's headers as they go to the service, with what is injected.

    Names that some servers take for the same (``X-Api-Key``, ``X_Api_Key``) count as the same.
    """
    own = {_alike(name.encode()) for name in rule.inject}
    dropped = _OF_ONE_CONNECTION | _named_in_connection(request.headers) | {b"host"}
    kept = [
        (name, value)
        for name, value in request.headers
        if name not in dropped and _alike(name) not in own
    ]
    is_chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    framing = [(b"transfer-encoding", b"chunked")] if is_chunked else []
    upgrade = [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    last = upgrade if wants_websocket(request) else [(b"connection", b"close")]
    if rule.inject:
        # What is masked in an answer must not be hidden in a compressed one.
        kept = [(name, value) for name, value in kept if name != b"accept-encoding"]
        kept.append((b"accept-encoding", b"identity"))
    injected = [(name.encode(), value.encode()) for name, value in rule.inject.items()]
    return [(b"host", wanted.authority.encode()), *kept, *injected, *framing, *last]


def to_sandbox(response: h11.Response | h11.InformationalResponse, mask: Mask) -> Headers:
    """A response's headers as they go into the sandbox."""
    dropped = _OF_ONE_CONNECTION | _named_in_connection(response.headers)
    return [(name, mask.text(value)) for name, value in response.headers if name not in dropped]


def wants_websocket(request: h11.Request) -> bool:
    """Whether a request asks to go on as a WebSocket."""
    return any(name == b"upgrade" and v.lower() == b"websocket" for name, v in request.headers)


class Mask:
    """Puts asterisks over credentials in what comes back, so that no length changes."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        whole = {value.encode() for value in values}
        parts = {part for value in whole for part in value.split()}
        self._secrets = sorted(
            (one for one in whole | parts if len(one) >= _SHORTEST_SECRET), key=len, reverse=True
        )
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._held = b""

    def text(self, value: bytes) -> bytes:
        """A value with every credential in it masked."""
        if not self._secrets:
            return value
        return self._pattern.sub(lambda found: b"*" * len(found[0]), value)

    def body(self, data: bytes) -> bytes:
        """The next part of a body; an end that may go on as a credential waits for what follows."""
        if not self._secrets:
            return data
        masked = self.text(self._held + data)
        keep = max(_overlap(masked, secret) for secret in self._secrets)
        self._held = masked[len(masked) - keep :]
        return masked[: len(masked) - keep]

    def rest(self) -> bytes:
        """What was still waiting when the body ended."""
        held, self._held = self._held, b""
        return held


def _overlap(data: bytes, secret: bytes) -> int:
    """How many bytes at the end of ``data`` are the beginning of ``secret``."""
    longest = min(len(secret) - 1, len(data))
    return next((size for size in range(longest, 0, -1) if data.endswith(secret[:size])), 0)


def _alike(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


def _named_in_connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    return {
        name.strip().lower()
        for header, value in headers
        if header == b"connection"
        for name in value.split(b",")
    } - {b"content-length", b"host"}
