"""The tool ``search``, and the wire formats of those who answer it.

Sources: docs.searxng.org "Search API"; api-dashboard.search.brave.com "Web Search";
docs.tavily.com "Tavily Search". Keys are put into the requests by the proxy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode

from corral.mcp_servers.tool import Answer, Call, JsonObject, ToolFault
from corral.mcp_servers.web.addresses import read_address
from corral.mcp_servers.web.settings import Search
from corral.mcp_servers.web.texts import marked, one_line
from corral.mcp_servers.web.transport import Ask, Head, Limit, Sink, Transport, run

MAX_RESULTS, MAX_PAGE = 20, 10
_SECONDS = 30.0
_MAX_ANSWER = 4 * 1024 * 1024
_MAX_SNIPPET = 600


class Result(NamedTuple):
    """One thing found."""

    title: str
    url: str
    snippet: str
    date: str


class _Query(NamedTuple):
    text: str
    most: int
    page: int


class _Provider(NamedTuple):
    """How one provider is asked, and where its answer holds the results."""

    ask: Callable[[str, _Query], tuple[str, Ask]]
    results: Callable[[Any], Any]
    fields: Mapping[str, str]


def search(provider: Search, agent: str, call: Call) -> Answer:
    """The tool."""
    query = _Query(
        call.text("query"), int(call.number("count", MAX_RESULTS // 2)), int(call.number("page", 1))
    )
    wire = PROVIDERS[provider.provider]
    if query.page > 1 and provider.provider == "tavily":
        raise ToolFault("This provider gives one page of results only; ask for more in count.")
    url, ask = wire.ask(provider.url, query)
    body = run(call, agent, _SECONDS, lambda transport: _body(transport, url, ask))
    found = _results(wire, body)[: query.most]
    shown = "\n\n".join(f"{number}. {_shown(one)}" for number, one in enumerate(found, 1))
    text = (
        marked(shown, f"a search for {one_line(query.text)!r}") if found else "Nothing was found."
    )
    return Answer(text, {"results": [one._asdict() for one in found], "page": query.page})


async def _body(transport: Transport, url: str, ask: Ask) -> bytes:
    address = read_address(url)
    body = bytearray()
    sink = Sink(lambda _head: None, body.extend)
    head, _ = await transport.get(address, sink, Limit(_MAX_ANSWER), ask)
    if head.status != HTTPStatus.OK:
        raise ToolFault(_refusal(address.host, head))
    return bytes(body)


def _refusal(host: str, head: Head) -> str:
    match head.status:
        case 401 | 403:
            why = (
                "it does not accept the key. Only the user can change it: [web.search] api_key_env"
            )
        case 429:
            why = "it has been asked too often. Try again later"
        case other:
            why = f"it answered {other}"
    return f"{host} was asked and did not search: {why}."


def _results(wire: _Provider, body: bytes) -> list[Result]:
    try:
        found = wire.results(json.loads(body))
        return [_result(wire.fields, one) for one in found if isinstance(one, dict)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ToolFault("The search provider's answer cannot be understood.") from error


def _result(fields: Mapping[str, str], one: JsonObject) -> Result:
    def text(name: str, limit: int) -> str:
        return one_line(_without_tags(str(one.get(fields[name]) or "")), limit)

    url = one_line(str(one.get("url") or ""), 2_000)
    return Result(text("title", 300), url, text("snippet", _MAX_SNIPPET), text("date", 60))


def _without_tags(text: str) -> str:
    """A text without the tags with which a provider marks the words that were found."""
    for tag in ("strong", "b", "em"):
        text = text.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    return text


def _shown(one: Result) -> str:
    date = f" ({one.date})" if one.date else ""
    return "\n".join(filter(None, (f"{one.title}{date}", one.url, one.snippet)))


def _ask_searxng(url: str, query: _Query) -> tuple[str, Ask]:
    asked = urlencode({"q": query.text, "format": "json", "pageno": query.page})
    return f"{url.rstrip('/')}/search?{asked}", Ask()


def _ask_brave(url: str, query: _Query) -> tuple[str, Ask]:
    fields = {"q": query.text, "count": query.most, "offset": query.page - 1}
    return f"{url.rstrip('/')}/res/v1/web/search?{urlencode(fields)}", Ask(
        {"Accept": "application/json"}
    )


def _ask_tavily(url: str, query: _Query) -> tuple[str, Ask]:
    body = {"query": query.text, "max_results": query.most}
    return f"{url.rstrip('/')}/search", Ask(json=body)


PROVIDERS: Mapping[str, _Provider] = {
    "searxng": _Provider(
        _ask_searxng,
        lambda answer: answer["results"],
        {"title": "title", "snippet": "content", "date": "publishedDate"},
    ),
    "brave": _Provider(
        _ask_brave,
        lambda answer: answer.get("web", {}).get("results", []),
        {"title": "title", "snippet": "description", "date": "age"},
    ),
    "tavily": _Provider(
        _ask_tavily,
        lambda answer: answer["results"],
        {"title": "title", "snippet": "content", "date": "published_date"},
    ),
}
"""How each provider is asked, by its name in ``[web.search]``."""
