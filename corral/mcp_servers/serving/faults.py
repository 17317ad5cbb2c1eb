"""What a client is told when something goes wrong: what to do next, and nothing of our insides."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

import mcp_types as types
import structlog
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult
from pydantic import ValidationError

from corral.errors import ConfigError, CorralError, UsageError
from corral.mcp_servers.serving.callers import Context, Door, is_local
from corral.tools.text import one_line

_log = structlog.get_logger(__name__)

_LONGEST = 2_000
_PATH = re.compile(r"(?<![\w:/.])~?/[^\s/]")
"""Where the path of a file begins, and not what follows a scheme or stands between two words."""

_reader_is_local: ContextVar[bool] = ContextVar("_reader_is_local", default=False)
"""Whether who reads what is said of this request is the person at this machine."""


def said(error: CorralError) -> str:
    """An error of ours in the words of its message and its hint.

    What fails here, and where anything is on this machine, is no business of a client from
    elsewhere. It reads what was wrong with its own request, and of all else only the mark in the
    log.
    """
    text = one_line(f"{error.message} {error.hint}".strip(), _LONGEST)
    is_its_own = isinstance(error, UsageError) and not isinstance(error, ConfigError)
    if _reader_is_local.get() or (is_its_own and not _PATH.search(text)):
        return text
    return crashed(type(error).__name__, error)


def ended_with(error: str, run: str) -> str:
    """What a run has ended with, likewise."""
    if _reader_is_local.get() or not _PATH.search(error):
        return error
    return f"It failed on the server's side. Whoever runs it sees why: corral trace {run}"


def failed(text: str) -> types.CallToolResult:
    """A tool's result that is an error, for the model to read."""
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def crashed(what: str, error: Exception) -> str:
    """Log an unexpected error, and what a client is told in its place."""
    mark = secrets.token_hex(4)
    _log.error("serving failed", what=what, mark=mark, exc_info=error)
    return f"It failed inside of the server, which is not your fault. Its log says why: {mark}."


class Hygiene:
    """Middleware: only errors that are meant for the client reach it."""

    def __init__(self, door: Door) -> None:
        self._door: Door = door

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve the request, or say what is wrong to who may know it."""
        before = _reader_is_local.set(False)
        try:
            _reader_is_local.set(is_local(ctx, self._door))
            return await call_next(ctx)
        except (MCPError, ValidationError):
            raise  # the SDK's own ladder tells these to the client, without pydantic's text
        except CorralError as error:
            mistake = isinstance(error, UsageError)
            code = types.INVALID_PARAMS if mistake else types.INTERNAL_ERROR
            raise MCPError(code, said(error)) from None
        except Exception as error:  # noqa: BLE001  # the border to a service
            raise MCPError(types.INTERNAL_ERROR, crashed(ctx.method, error)) from None
        finally:
            _reader_is_local.reset(before)
