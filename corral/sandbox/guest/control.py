"""The channel from the host into a sandbox: requests with descriptors, one Unix stream socket.

A request is a length (4 bytes, little-endian), then ``marshal`` of a dict; its descriptors travel
with the first byte. ``marshal`` is built in: ``json`` would double the time that the guest takes
to start. It is never used in the other direction, where the sender cannot be trusted: there, each
request has a status socket of its own among its descriptors, on which the guest writes lines of
words (see ``minder``).

A request holds ``op``:

``run``
    ``argv``, ``cwd`` (from the workspace), ``env`` (added to the sandbox's own). Descriptors:
    status, stdin, stdout, stderr. The program is started under a minder of its own.
``session``
    ``language``. Descriptor: the session's socket (``keeper``).
"""

from __future__ import annotations

import marshal
import os
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket  # the rest of socket takes 10 ms

MAX_DESCRIPTORS = 16
_LENGTH = 4
_INT = 4


def encode(request: dict[str, object]) -> bytes:
    """A request as it is sent."""
    body = marshal.dumps(request)
    return len(body).to_bytes(_LENGTH, "little") + body


def send(channel: socket, request: dict[str, object], descriptors: list[int]) -> None:
    """Send one request over a blocking socket. The descriptors stay open here."""
    data = encode(request)
    rights = b"".join(fd.to_bytes(_INT, "little") for fd in descriptors)
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, rights)] if descriptors else []
    sent = channel.sendmsg([data], ancillary)
    channel.sendall(data[sent:])


def receive(channel: socket) -> tuple[dict[str, object], list[int]] | None:
    """The next request and its descriptors, which do not survive an exec; ``None`` at the end."""
    head, descriptors = _first(channel)
    if len(head) < _LENGTH:
        return None
    body = _exactly(channel, int.from_bytes(head, "little"))
    if body is None:
        return None
    request: dict[str, object] = marshal.loads(body)  # noqa: S302 -- the host is trusted here
    return request, descriptors


def _first(channel: socket) -> tuple[bytes, list[int]]:
    room = CMSG_SPACE(MAX_DESCRIPTORS * _INT)
    head, ancillary, _, _ = channel.recvmsg(_LENGTH, room)
    descriptors = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            whole = len(data) - len(data) % _INT
            descriptors += [
                int.from_bytes(data[at : at + _INT], "little") for at in range(0, whole, _INT)
            ]
    for fd in descriptors:
        os.set_inheritable(fd, False)
    if head and len(head) < _LENGTH:
        head += _exactly(channel, _LENGTH - len(head)) or b""
    return head, descriptors


def _exactly(channel: socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = channel.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
