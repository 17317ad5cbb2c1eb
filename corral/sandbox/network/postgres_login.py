"""Logging in at a PostgreSQL server: SCRAM-SHA-256 with channel binding, MD5, and in clear text.

Source: postgresql.org/docs, "Message Flow" and "SASL Authentication"; RFC 5802, RFC 5929.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import struct
from enum import IntEnum
from typing import Any

from corral.sandbox.network.postgres_messages import Messages, error_text, message
from corral.sandbox.network.postgres_url import PostgresUrl
from corral.sandbox.network.streams import Stream

_PLAIN, _BOUND = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
_REFUSED = "28000"  # invalid_authorization_specification
_MOST_STEPS = 20


class AuthKind(IntEnum):
    """What an Authentication message asks for."""

    OK = 0
    CLEAR = 3
    MD5 = 5
    SASL = 10
    SASL_GO_ON = 11
    SASL_END = 12


class LoginError(Exception):
    """The server does not let us in, or is not to be trusted; ``code`` is an SQLSTATE."""

    def __init__(self, text: str, code: str = _REFUSED) -> None:
        super().__init__(text)
        self.code = code


class Login:
    """One login. ``tls`` is the encryption of the connection, ``near`` whether it stays on this
    machine: without both no password is sent in clear text.
    """

    def __init__(self, url: PostgresUrl, tls: ssl.SSLObject | None, *, near: bool) -> None:
        self._url, self._tls, self._near = url, tls, near
        self._scram: Any = None
        self._proven = False

    async def run(self, server: Stream, messages: Messages) -> None:
        """Answer what the server asks until it lets us in. Raises ``LoginError``."""
        for _ in range(_MOST_STEPS):
            kind, body = await messages.next()
            if kind == b"E":
                code, text = error_text(body)
                raise LoginError(text, code)
            if kind == b"R":
                (wanted,) = struct.unpack("!i", body[:4])
                if wanted == AuthKind.OK:
                    return self._check_end()
                answer = await self._answer(wanted, body[4:])
                if answer is not None:
                    await server.write(message(b"p", answer))
            elif kind not in (b"N", b"v"):
                raise LoginError("The server answered a login with something else.")
        raise LoginError("The server asks for a login without end.")

    def _check_end(self) -> None:
        """A server that was sent a proof must have proven itself as well."""
        if self._scram is not None and not self._proven:
            raise LoginError("The server did not prove that it knows the password.")
        if self._url.binding == "require" and not self._proven:
            raise LoginError("The server did not ask for channel binding, which the URL requires.")

    async def _answer(self, wanted: int, data: bytes) -> bytes | None:
        match wanted:
            case AuthKind.CLEAR:
                return self._in_clear()
            case AuthKind.MD5:
                return self._digest(data[:4])
            case AuthKind.SASL:
                return self._first(data)
            case AuthKind.SASL_GO_ON:
                return await self._final(data)
            case AuthKind.SASL_END:
                self._verify(data)
                return None
        raise LoginError("The server asks for a way to log in that is not supported.")

    def _in_clear(self) -> bytes:
        self._check_unbound()
        if self._tls is None and not self._near:
            raise LoginError(
                "The server asks for the password without encryption. "
                "Put sslmode=require or verify-full into the URL."
            )
        return self._password() + b"\0"

    def _digest(self, salt: bytes) -> bytes:
        self._check_unbound()
        inner = _md5(self._password() + self._url.user.encode())
        return b"md5" + _md5(inner + salt) + b"\0"

    def _first(self, offered: bytes) -> bytes:
        from scramp import ScramClient

        names = offered.decode("ascii", "replace").split("\0")
        binding = None
        if self._tls is not None and _BOUND in names and self._url.binding != "disable":
            binding = ("tls-server-end-point", self._tls)
        elif self._url.binding == "require":
            raise LoginError("The server offers no channel binding, which the URL requires.")
        if _PLAIN not in names and binding is None:
            raise LoginError("The server offers no way to log in that is supported.")
        mechanism = _PLAIN if binding is None else _BOUND
        password = self._password().decode()
        self._scram = _guarded(ScramClient, [mechanism], "corral", password, binding)
        first = self._scram.get_client_first().encode()
        return mechanism.encode() + b"\0" + struct.pack("!i", len(first)) + bytes(first)

    async def _final(self, data: bytes) -> bytes:
        self._check_begun()
        _guarded(self._scram.set_server_first, data.decode("utf-8", "replace"))
        # In a thread: the server says how often the password is hashed.
        final = await asyncio.to_thread(_guarded, self._scram.get_client_final)
        return bytes(final.encode())

    def _verify(self, data: bytes) -> None:
        self._check_begun()
        _guarded(self._scram.set_server_final, data.decode("utf-8", "replace"))
        self._proven = True

    def _check_begun(self) -> None:
        if self._scram is None:
            raise LoginError("The server mixed up the order of a login.")

    def _check_unbound(self) -> None:
        if self._url.binding == "require":
            raise LoginError("The server asks for the password past channel binding.")

    def _password(self) -> bytes:
        if not self._url.password:
            raise LoginError("The server asks for a password, and the URL has none.", "28P01")
        return self._url.password.encode()


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _guarded(step: Any, *arguments: Any) -> Any:
    """One step of the library's; what the server made it fail at is a login that failed."""
    from scramp import ScramException

    try:
        return step(*arguments)
    except (ScramException, ValueError) as error:
        raise LoginError(f"The login failed: {error}", "28P01") from error
