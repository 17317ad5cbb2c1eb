"""How a request of a handshake-era session is answered: by a stream, or by one JSON object.

Only who waits for progress, or can be asked, hears anything before the answer. For all others a
stream of events would be opened for one event, which takes longer than most tools.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthorizationContext
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

_is_plain: ContextVar[bool] = ContextVar("_is_plain", default=False)


class Sessions(StreamableHTTPSessionManager):
    """The SDK's sessions, whose requests are answered by a stream only where it is needed."""

    def _admit_session(
        self, requestor: AuthorizationContext | None
    ) -> StreamableHTTPServerTransport | None:
        admitted = super()._admit_session(requestor)
        if admitted is None or admitted.mcp_session_id is None:
            return admitted
        own = _Transport(
            admitted.mcp_session_id,
            security_settings=self.security_settings,
            idle_timeout=self.session_idle_timeout,
        )
        self._server_instances[admitted.mcp_session_id] = own
        return own


class _Transport(StreamableHTTPServerTransport):
    """One session."""

    _can_be_asked = False

    @property
    def is_json_response_enabled(self) -> bool:
        """Whether the request that is served here is answered by one JSON object."""
        return _is_plain.get()

    @is_json_response_enabled.setter
    def is_json_response_enabled(self, value: bool) -> None:
        """The SDK sets it for all requests; each has its own."""

    async def _handle_post_request(
        self, scope: Scope, request: Request, receive: Receive, send: Send
    ) -> None:
        accepts_both = "text/event-stream" in request.headers.get("accept", "")
        _is_plain.set(accepts_both and self._hears_the_answer_only(await request.body()))
        await super()._handle_post_request(scope, request, receive, send)

    def _hears_the_answer_only(self, body: bytes) -> bool:
        try:
            message: Any = from_json(body)
        except ValueError:
            return False
        match message:
            case {"params": {"_meta": {"progressToken": _}}}:
                return False
            case {"method": "initialize", "params": {"capabilities": dict() as capabilities}}:
                self._can_be_asked = capabilities.get("elicitation") is not None
                return True
            case {"method": "tools/call"}:
                return not self._can_be_asked
            case _:
                return True
