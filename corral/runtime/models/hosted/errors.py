"""What went wrong at a hosted model, in words that say what to do next.

The SDKs' error classes are never imported here: langchain-core names the kinds of failure, and
every SDK error has a status code where there was an answer. No message holds a key, and a
server's own words are shortened and stripped of what looks like one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from langchain_core import exceptions as kinds

from corral.errors import ModelError
from corral.runtime.models.hosted.endpoint import Endpoint

_TOO_LONG = re.compile(
    r"context[ _-]?(length|window|size)|maximum context|prompt is too long|too many tokens"
    r"|request_too_large|exceed_context",
    re.IGNORECASE,
)
_SECRET = re.compile(r"\b(sk|pk|key|lsv2|Bearer)[-_ ][\w.*-]{6,}", re.IGNORECASE)
_LONGEST = 300


class NotTheProtocol(ValueError):
    """What a server sent is no answer of a model, whatever it is."""


def explain(error: Exception, name: str, endpoint: Endpoint | None) -> ModelError:
    """The error to raise instead of what an SDK raised while ``name`` was asked."""
    status = status_of(error)
    said = _said(error, endpoint)
    if _is_too_long(error, status, said):
        return ModelError(
            f"The request is longer than {name} can read: {said}",
            hint="Set context_window to what the server really has, or start a new thread.",
            kind="too_long",
        )
    if status is not None and status >= 300:
        return _answered(status, _Failure(error, name, endpoint, said))
    return _unanswered(_Failure(error, name, endpoint, said))


@dataclass(frozen=True)
class _Failure:
    """One failure with what its message needs."""

    error: Exception
    name: str
    endpoint: Endpoint | None
    said: str

    @property
    def url(self) -> str:
        return self.endpoint.base_url if self.endpoint else f"The server of {self.name}"

    @property
    def model(self) -> str:
        return self.endpoint.model if self.endpoint else self.name

    @property
    def variable(self) -> str:
        return self.endpoint.key_variable if self.endpoint else "the model's key"

    @property
    def official(self) -> bool:
        return self.endpoint is None or self.endpoint.official

    @property
    def has_key(self) -> bool:
        return self.endpoint is None or bool(self.endpoint.key)


def _answered(status: int, failure: _Failure) -> ModelError:
    """An HTTP status that says what is wrong."""
    name, said = failure.name, failure.said
    if status in (401, 403):
        return _refused_key(status, failure)
    if is_out_of_credit(status, said):
        return ModelError(
            f"{name} cannot be used: the account has no credit left ({status}).",
            hint="Add credit at the provider, or use another model with --model.",
            kind="key",
        )
    if status == 404:
        return ModelError(
            f"{failure.url} knows no model {failure.model!r} (404): {said}",
            hint="Check the model's name, and that the URL is the one of the API (often …/v1).",
        )
    if status == 429:
        return ModelError(
            f"{name} is over its rate limit (429): {said}",
            hint=f"Wait{_retry_after(failure.error)}, then ask again.",
            kind="rate_limited",
        )
    if status >= 500:
        return ModelError(
            f"{failure.url} failed ({status}): {said}",
            hint="The trouble is at the server. Ask again later.",
            kind="overloaded",
        )
    if status < 400:
        return ModelError(
            f"{failure.url} redirects to another address ({status}), which is not followed.",
            hint="Use the address that the server redirects to as the base URL.",
        )
    return ModelError(
        f"{name} did not accept the request ({status}): {said}",
        hint="If it names a parameter, change that setting; if a tool, leave that tool out.",
        kind="request",
    )


def _refused_key(status: int, failure: _Failure) -> ModelError:
    if failure.has_key:
        return ModelError(
            f"{failure.url} did not accept the key for {failure.name} ({status}).",
            hint=f"Set {failure.variable} to a valid key that may use this model.",
            kind="key",
        )
    return ModelError(
        f"{failure.url} wants a key ({status}), and {failure.variable} is not set.",
        hint=f"Set {failure.variable}. Keys in other variables are not sent to this address.",
        kind="key",
    )


def _unanswered(failure: _Failure) -> ModelError:
    """No HTTP status: nobody there, too slow, cut off, or not the protocol."""
    error = failure.error
    if is_timeout(error):
        return ModelError(
            f"{failure.url} did not answer in time.",
            hint="Raise the model's timeout, or use a smaller prompt or a faster model.",
            kind="unreachable",
        )
    if is_no_answer(error):
        return ModelError(
            f"{failure.url} answered with something that is not a model's answer.",
            hint="Is it the base URL of the API? It often ends in /v1.",
        )
    if is_unreachable(error):
        return _unreachable(failure)
    if isinstance(error, NotImplementedError):
        return ModelError(
            f"{failure.name} cannot call tools: {failure.said}", hint="Use another model."
        )
    # An error inside a stream, too: it comes after a status of 200.
    return ModelError(
        f"{failure.name} failed: {failure.said}",
        hint="Ask again, or use another model with --model.",
    )


def _unreachable(failure: _Failure) -> ModelError:
    if _is_cut(failure.error):
        return ModelError(
            f"{failure.url} closed the connection in the middle of the answer.",
            hint="Ask again.",
            kind="unreachable",
        )
    hint = (
        "Check the network connection (and the proxy, if there is one), then ask again."
        if failure.official
        else f"Is the model server running at {failure.url}?"
    )
    return ModelError(f"{failure.url} cannot be reached.", hint=hint, kind="unreachable")


def _is_too_long(error: Exception, status: object, said: str) -> bool:
    if isinstance(error, kinds.ContextOverflowError) or status == 413:
        return True
    return status in (None, 400, 422, 500) and _TOO_LONG.search(said) is not None


def status_of(error: Exception) -> int | None:
    """The HTTP status of the answer, where there was one."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def words_of(error: Exception) -> str:
    """What the server said, in full."""
    return _body_message(getattr(error, "body", None)) or str(error) or type(error).__name__


def reason_of(error: Exception) -> str:
    """In a few words why there is no answer yet: the status, or what became of the connection."""
    status = status_of(error)
    if status is not None and status >= 300:
        return str(status)
    if is_timeout(error):
        return "no answer in time"
    if isinstance(error, kinds.ModelConnectionError) and not _is_cut(error):
        return "it cannot be reached"
    return "the answer broke off"


def is_out_of_credit(status: int, said: str) -> bool:
    """Whether the account has to be paid for before it is asked again."""
    return status == 402 or "insufficient_quota" in said or "credit balance" in said


def is_without_summaries(error: Exception) -> bool:
    """Whether OpenAI gives this account no summaries of reasoning, which other accounts get."""
    return status_of(error) == 400 and "reasoning.summary" in str(getattr(error, "body", ""))


def is_too_strict(error: Exception) -> bool:
    """Whether the provider does not take a schema, or all of them, as strict."""
    said = words_of(error)
    return status_of(error) == 400 and re.search(r"\b[Ss]trict|[Ss]chema|grammar", said) is not None


def is_timeout(error: Exception) -> bool:
    """Whether time ran out; while a stream is read, some SDKs let the HTTP client's error pass."""
    if isinstance(error, TimeoutError | kinds.ModelTimeoutError):
        return True
    return any(type(cause).__name__.endswith("Timeout") for cause in _causes(error))


def is_unreachable(error: Exception) -> bool:
    """Whether there was no connection, or it was lost.

    While a stream is read, an HTTP client's error may be raised bare.
    """
    root = type(error).__module__.split(".")[0]
    bare = root in ("httpx", "httpx2", "httpcore", "httpcore2")
    return bare or isinstance(error, ConnectionError | kinds.ModelConnectionError)


def is_no_answer(error: Exception) -> bool:
    """Whether something came that is not the protocol, or langchain found not a single chunk."""
    if isinstance(error, ValueError) and "No generation" in str(error):
        return True
    return isinstance(error, json.JSONDecodeError | UnicodeDecodeError) or is_foreign(error)


def is_foreign(error: Exception) -> bool:
    """Whether who answers is no model server at all."""
    return any(isinstance(cause, NotTheProtocol) for cause in _causes(error))


def _is_cut(error: Exception) -> bool:
    """Whether a connection was there, and was lost."""
    chain = " ".join(type(error).__name__ + str(error) for error in _causes(error))
    return re.search(r"RemoteProtocolError|ReadError|incomplete|IncompleteRead", chain) is not None


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _retry_after(error: Exception) -> str:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    seconds = str(headers.get("retry-after", ""))
    return f" {seconds} seconds" if seconds.isdigit() else ""


def _said(error: Exception, endpoint: Endpoint | None) -> str:
    """The server's words: one short line without secrets and without a web page."""
    text = words_of(error)
    if endpoint and endpoint.key:
        text = text.replace(endpoint.key, "***")
    if re.search(r"<(!doctype|html|head|body)\b", text, re.IGNORECASE):
        return "a web page instead of an answer"
    text = " ".join(_SECRET.sub("***", text).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _body_message(body: object) -> str:
    """The message inside an error's JSON, in OpenAI's, Anthropic's or a plain shape."""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(inner, dict):
        parts = (inner.get("message"), inner.get("code"), inner.get("type"))
        return " ".join(dict.fromkeys(str(part) for part in parts if part))
    return inner if isinstance(inner, str) else ""
