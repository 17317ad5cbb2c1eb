"""Where a server is that is reached over HTTP, and what its requests carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from corral.tools.oauth.logins import Login


@dataclass(frozen=True)
class Address:
    """Where a server is: its ``url``, the ``headers`` of every request, and the login there.

    Only the scheme and the host of the url are ever shown: the rest may hold a secret.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    login: Login = field(default_factory=Login)

    @property
    def shown(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}"
