"""Where a tool's result comes from: how far it is trusted, and who may have it.

What nobody has said anything about is untrusted and private, whatever a server says of itself.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.jsontypes import Json, canonical
from corral.policies.facts import ToolCall
from corral.policies.patterns.arguments import ArgumentPattern, ArgumentPatterns, fits
from corral.policies.patterns.globs import compile_glob
from corral.policies.patterns.paths import path_values
from corral.policies.patterns.urls import is_url_name, looks_like_url, read_plainly
from corral.policies.provenance.capabilities import destinations
from corral.policies.provenance.closed_types import is_closed, pruned
from corral.policies.provenance.labels import Label

Trust = Literal["trusted", "untrusted"]

_PRIVATE: frozenset[str] = frozenset()
_NOT_PUBLIC = ("localhost", "local", "internal", "intranet", "lan", "corp", "home", "private")
_WORDS = re.compile(r"[A-Za-z][a-z]*|[A-Z]+(?![a-z])")
_WEB = frozenset({"web", "internet", "wikipedia", "duckduckgo"})
_ENGINES = frozenset({"google", "bing", "brave", "search", "query", "results", "api", "web"})
_READS_WEB = frozenset(
    {"search", "searches", "fetch", "find", "lookup", "look", "query", "browse", "crawl", "scrape"}
    | {"read", "page", "pages", "summary"}
)
_NOT_WEB = frozenset(
    {"mail", "inbox", "drive", "docs", "calendar", "history", "storage", "hook", "hooks", "chat"}
    | {
        "orders",
        "order",
        "forms",
        "form",
        "users",
        "customers",
        "account",
        "accounts",
        "logs",
        "log",
    }
    | {"messages", "analytics", "cart", "contacts", "shop", "console"}
)
_ABOUT_WEB = re.compile(
    r"\b(?:search(?:es)?|look(?:s|ing)? up|find|query)\b[^.\n]{0,40}?\b(?:the web|the internet)\b"
    r"(?!['\u2019-]| ?(?:site|shop|log|form|app|server|hook)s?\b)",
    re.IGNORECASE,
)
_SAYS_WHO = re.compile(
    r"auth|cookie|token|session|credential|password|secret|header|api_?key|login|bearer",
    re.IGNORECASE,
)
_RECEIPT_WORDS = """
    a an and at by for from has have id in is it of on the to was were with no not
    email event file item mail message new note number order record task total
    accepted added applied booked bought cancelled canceled changed closed completed confirmed
    copied created deleted delivered did done edited ended executed failed finished got kept made
    marked moved noted ok okay opened ordered paid posted processed published queued received
    refunded remembered removed renamed replaced saved scheduled sent set started stopped stored
    submitted success successful successfully transferred true false updated uploaded wrote
    worked written yes
"""
_RECEIPT = frozenset(_RECEIPT_WORDS.split())
_WORD_OF_TEXT = re.compile(r"[^\W\d_]+")
_LONGEST_RECEIPT = 400
_MOST_NUMBERS = 8
_NUMBER = re.compile(r"\d+")
_STOPS = frozenset(" \t\n.,:;!?#()[]{}<>\"'`/+-_=%*@&|$€£✓✅👍")
_SHOWN = 60


class SourceRule(BaseModel):
    """One table of ``[[sources]]``: what is known of the results of some tools.

    ``tool`` and ``server`` are names or patterns, and ``args`` patterns as in a rule; all that is
    named must fit. ``readers`` are those who may have the results, besides the user and the model:
    hosts (``*.example.com``), addresses of mail, servers (``server:mail``); ``["*"]`` is everybody
    and an empty list nobody else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(default="*", min_length=1, description="The tool's name, or a pattern.")
    server: str = Field(default="*", min_length=1, description="The server's name, or a pattern.")
    args: ArgumentPatterns = Field(default_factory=dict, description="Patterns of arguments.")
    trust: Trust | None = Field(
        default=None, description="trusted: only the user, or whom they trust, writes in there."
    )
    readers: tuple[str, ...] | None = Field(
        default=None, description="Who may have it: hosts, addresses, servers; * is everybody."
    )

    @model_validator(mode="after")
    def _says_something(self) -> SourceRule:
        if self.trust is None and self.readers is None:
            raise ValueError("a source says trust, readers or both")
        return self

    @property
    def loosens(self) -> bool:
        """Whether it makes anything less strict than it is by default."""
        return self.trust == "trusted" or bool(self.readers)

    def covers(self, call: ToolCall) -> bool:
        """Whether the result of a call comes from this source."""
        return (
            compile_glob(self.tool).matches(call.name)
            and compile_glob(self.server).matches(call.server)
            and all(fits(one, name, call, loosens=self.loosens) for name, one in self.args.items())
        )


@dataclass(frozen=True)
class Result:
    """What a call gave, as far as its label depends on it.

    ``about`` is the tool's description and ``schema`` that of its output, both as the server
    declares them. An image can show any text.
    """

    text: str
    structured: Json = None
    is_error: bool = False
    has_images: bool = False
    about: str = ""
    schema: Json = None


@lru_cache(maxsize=64)
def private_source(host: str) -> SourceRule:
    """Pages of a host in the own network: for nobody else, however public its name looks."""
    pattern = ArgumentPattern.model_validate(host)
    return SourceRule(server="web", args={"url": pattern}, readers=())


def result_label(
    call: ToolCall, result: Result, layers: Sequence[Sequence[SourceRule]] = ()
) -> Label:
    """The label of what a call gave, apart from that of the call's context.

    In each of the ``layers`` the first rule that covers the call counts, and of all layers the
    strictest. Where none says anything of it, a result is private and untrusted, with these
    exceptions for tools that the user trusts. What they read of the public web is for everybody. A
    value of a type into which no instruction fits is trusted, and so is a receipt: a text that says
    nothing but numbers, what the call said, and that it was done.
    """
    label = _by_default(call, result)
    said = [rule for layer in layers if (rule := _first(layer, call)) is not None]
    trust = {rule.trust for rule in said} - {None}
    if trust:
        label = replace(label, untrusted="untrusted" in trust)
    named = [frozenset(rule.readers) for rule in said if rule.readers is not None]
    if named:
        bounded = [readers for readers in named if "*" not in readers]
        readers = frozenset.intersection(*bounded) if bounded else None
        label = replace(label, readers=readers, confidential=readers is not None)
    return label


def source_name(call: ToolCall) -> str:
    """Where a result comes from, in a few words that are safe to show."""
    where = [*path_values(call.args), *destinations(call)][:1]
    words = " ".join([call.name, *where])
    clean = "".join(c if c.isprintable() else "?" for c in words)
    return clean if len(clean) <= _SHOWN else f"{clean[: _SHOWN - 1]}…"


def _first(layer: Sequence[SourceRule], call: ToolCall) -> SourceRule | None:
    return next((rule for rule in layer if rule.covers(call)), None)


def _by_default(call: ToolCall, result: Result) -> Label:
    sources = (source_name(call),)
    if not result.has_images and (_is_receipt(call, result) or _is_closed(call, result)):
        return Label(sources, untrusted=False, readers=_PRIVATE)
    readers = None if _is_public(call, result) else _PRIVATE
    return Label(sources, untrusted=True, readers=readers)


def _is_receipt(call: ToolCall, result: Result) -> bool:
    """Whether a result says nothing that the call had not said, but that it was done.

    A call that only reads has done nothing. Many numbers, and signs that are no stops, can be read
    as letters, so they are no receipt either.
    """
    if call.read_only or not call.schema or len(result.text) > _LONGEST_RECEIPT:
        return False
    text, asked = result.text, canonical(call.args)
    said = {word.lower() for word in _WORD_OF_TEXT.findall(asked)}
    words = {word.lower() for word in _WORD_OF_TEXT.findall(text)}
    numbers = set(_NUMBER.findall(text)) - set(_NUMBER.findall(asked))
    signs = {c for c in text if not (c.isalpha() or (c.isascii() and c.isdigit()))}
    return words <= said | _RECEIPT and len(numbers) <= _MOST_NUMBERS and signs <= _STOPS | {*asked}


def _is_closed(call: ToolCall, result: Result) -> bool:
    """Whether all that a model reads of it is a value that no instruction fits into."""
    if not call.schema or result.is_error or not is_closed(result.schema):
        return False
    try:
        read = json.loads(result.text)
        given = pruned(result.schema, result.structured)
    except ValueError:
        return False
    wrapped = given["result"] if isinstance(given, dict) and given.keys() == {"result"} else given
    return given == result.structured and read in (given, wrapped)


def _is_public(call: ToolCall, result: Result) -> bool:
    """Whether a trusted tool reads what anybody can: a page by its address, or a web search.

    What is read with a credential is not for everybody.
    """
    if not (call.read_only and call.open_world) or call.holds_secret:
        return False
    if any(_SAYS_WHO.search(name) and value for name, value in call.args.items()):
        return False
    urls = [
        value
        for name, value in call.args.items()
        if isinstance(value, str) and (is_url_name(name) or looks_like_url(value))
    ]
    return all(map(_is_public_url, urls)) if urls else _is_web(call.name, result.about)


def _is_public_url(text: str) -> bool:
    url = read_plainly(text if looks_like_url(text) else f"https://{text}")
    if url is None or url.scheme not in ("http", "https"):
        return False
    try:
        return ipaddress.ip_address(url.host).is_global
    except ValueError:
        labels = url.host.split(".")
        return len(labels) > 1 and labels[-1] not in _NOT_PUBLIC


def _is_web(name: str, about: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(name)}
    if words & _NOT_WEB:
        return False
    engine = "search" in words and words - {"functions"} <= _ENGINES
    by_name = bool(words & _WEB and words & _READS_WEB) or (
        engine and bool(words & {"google", "bing", "brave"})
    )
    return by_name or _ABOUT_WEB.search(about) is not None
