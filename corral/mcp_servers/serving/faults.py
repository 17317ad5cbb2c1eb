"""What a client is told when something goes wrong: what to do next, and nothing of our insides."""

from __future__ import annotations

import secrets

import mcp_types as types
import structlog
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult
from pydantic import ValidationError

from corral.errors import CorralError, UsageError
from corral.mcp_servers.serving.callers import Context
from corral.tools.text import one_line

_log = structlog.get_logger(__name__)

_LONGEST = 2_000


def said(error: CorralError) -> str:
    """An error of ours in the words of its message and its hint."""
    return one_line(f"{error.message} {error.hint}".strip(), _LONGEST)


def failed(text: str) -> types.CallToolResult:
    """A tool's result that is an error, for the model to read."""
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def crashed(what: str, error: Exception) -> str:
    """Log an unexpected error, and what a client is told in its place."""
    mark = secrets.token_hex(4)
    _log.error("serving failed", what=what, mark=mark, exc_info=error)
    return f"It failed inside of the server, which is not your fault. Its log says why: {mark}."


async def hygiene(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Middleware: only errors that are meant for the client reach it."""
    try:
        return await call_next(ctx)
    except (MCPError, ValidationError):
        raise  # the SDK's own ladder tells these to the client, without pydantic's text
    except CorralError as error:
        mistake = isinstance(error, UsageError)
        code = types.INVALID_PARAMS if mistake else types.INTERNAL_ERROR
        raise MCPError(code, said(error)) from None
    except Exception as error:  # noqa: BLE001  # the border to a service
        raise MCPError(types.INTERNAL_ERROR, crashed(ctx.method, error)) from None
