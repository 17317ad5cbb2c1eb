"""The secret values that this process knows and that must never be stored."""

from __future__ import annotations

import os
import re

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from corral.policies.redaction import Redactor
from corral.runtime.config import Settings

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
_SHORTEST = 8


def redactor_of(settings: Settings) -> Redactor:
    """What takes out all that must not be stored, as the settings say."""
    sought = settings.redaction
    return Redactor(known_secrets(settings), sought.sought(), keyed=sought.entropy)


def known_secrets(settings: Settings) -> tuple[str, ...]:
    """Values of environment variables and settings that are named like secrets."""
    named = {name: value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    for server in settings.mcp.values():
        named |= {f"env.{name}": value for name, value in server.env.items()}
        named |= {f"header.{name}": value for name, value in server.headers.items()}
    found = {
        value
        for name, value in named.items()
        if _SECRET_NAME.search(name) or name.lower() == "header.authorization"
    }
    for server in settings.mcp.values():
        found |= server.injected(os.environ)
    try:
        password = make_url(settings.database).password
    except ArgumentError:
        password = None
    found |= {str(password)} if password else set()
    return tuple(sorted(value for value in found if len(value) >= _SHORTEST and "${" not in value))
