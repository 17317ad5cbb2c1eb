"""A PostgreSQL connection URL, as far as the gateway keeps to it.

Source: postgresql.org/docs, "Connection Strings" and "SSL Support".
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from corral.errors import ConfigError

_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
_BINDINGS = ("disable", "prefer", "require")
_FILES = ("sslrootcert", "sslcert", "sslkey")
_TO_SERVER = ("options", "application_name")
_KNOWN = frozenset({"sslmode", "channel_binding", "connect_timeout", *_FILES, *_TO_SERVER})


@dataclass(frozen=True)
class PostgresUrl:
    """Where a server is, and how to log in there.

    ``mode`` is libpq's sslmode, ``binding`` its channel_binding. ``files`` are those of
    certificates by libpq's names; without ``sslrootcert``, or with ``system``, the system's trusted
    ones count. ``settings`` go to the server as they are.
    """

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    mode: str = "prefer"
    binding: str = "prefer"
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, url: str, where: str) -> PostgresUrl:
        """Read a URL. Raises ``ConfigError`` that names ``where`` it is from and never shows it."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port or 5432
        except ValueError:
            raise _fault(where, "is not a URL") from None
        if parts.scheme not in _SCHEMES:
            raise _fault(where, "does not begin with postgresql://")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        _check(parts, options, where)
        user = unquote(parts.username or "")
        return cls(
            host=parts.hostname or "",
            port=port,
            user=user,
            database=unquote(parts.path[1:]) or user,
            password=unquote(parts.password or ""),
            mode=options.get("sslmode", "prefer"),
            binding=options.get("channel_binding", "prefer"),
            files={name: options[name] for name in _FILES if name in options},
            settings={name: options[name] for name in _TO_SERVER if name in options},
        )

    def tls(self) -> ssl.SSLContext:
        """How the connection is encrypted, with what the mode wants verified.

        As in libpq, ``require`` verifies only where a root certificate is named. Raises ``OSError``
        for files that cannot be read.
        """
        root = self.files.get("sslrootcert", "")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.mode == "verify-full" or root == "system"
        if self.mode.startswith("verify") or root:
            context.verify_mode = ssl.CERT_REQUIRED
        else:
            context.verify_mode = ssl.CERT_NONE
        if root and root != "system":
            context.load_verify_locations(root)
        elif context.verify_mode == ssl.CERT_REQUIRED:
            context.load_default_certs()
        if "sslcert" in self.files:
            context.load_cert_chain(self.files["sslcert"], self.files.get("sslkey"))
        return context


def _check(parts: SplitResult, options: Mapping[str, str], where: str) -> None:
    if not parts.hostname or not parts.username:
        raise _fault(where, "names no host or no user; a socket's folder cannot be the host")
    if "," in parts.netloc.rpartition("@")[2]:
        raise _fault(where, "names several hosts")
    unknown = sorted(options.keys() - _KNOWN)
    if unknown:
        names = ", ".join(sorted(_KNOWN))
        raise _fault(where, f"has the parameter {unknown[0]}, and known are {names}")
    for name, known in (("sslmode", _MODES), ("channel_binding", _BINDINGS)):
        if options.get(name, "prefer") not in known:
            raise _fault(where, f"has another {name} than {', '.join(known)}")
    texts = (unquote(part) for part in (parts.path, parts.username, *options.values()))
    if any("\0" in text for text in texts):
        raise _fault(where, "holds a NUL character")


def _fault(where: str, what: str) -> ConfigError:
    return ConfigError(
        f"The PostgreSQL URL in {where} {what}.",
        hint="Write postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full",
    )
