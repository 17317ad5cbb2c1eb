"""Takes secrets out of what is stored or shown: known values, and what has a secret's format."""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, cast
from urllib.parse import quote

from corral.jsontypes import Json
from corral.policies.secret_formats import KINDS, Span, find_secrets

MIN_SECRET = 8
"""A known secret shorter than this is left alone: it would be found in harmless text."""

_KNOWN = "secret"
_PLACEHOLDER = re.compile(rf"\[redacted:(?:{'|'.join(sorted(KINDS | {_KNOWN}))})\]")
_MAX_PASSES = 8


class Redactor:
    """Replaces secrets by ``[redacted:KIND]``.

    ``known_secrets`` are values that must never be stored, such as API keys from the environment;
    they are also found in base64, in JSON strings and in URLs. Values shorter than
    ``MIN_SECRET`` characters are not looked for. What is redacted already stays as it is, so
    redacting twice is redacting once. No method raises for any text or JSON.
    """

    def __init__(self, known_secrets: Iterable[str] = ()) -> None:
        secrets = {s for s in known_secrets if len(s) >= MIN_SECRET and not s.isspace()}
        forms = {form for secret in secrets for form in _forms(secret)}
        self._known = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def text(self, text: str) -> str:
        """``text`` without the secrets in it."""
        for _ in range(_MAX_PASSES):  # a replacement can bring what is around it together
            cleaned = self._once(text)
            if cleaned == text:
                break
            text = cleaned
        return text

    def json(self, value: Json) -> Json:
        """``value`` with every text in it redacted, and the secrets in keys as well.

        Keys that hold no secret are kept; two that become the same get a number. A value without
        secrets, as nearly all are, is looked through once and given back as it is.
        """
        together = "\0".join(_texts(value))
        if self._once(together) == together:
            return value
        root: dict[Any, Any] = {}
        todo: list[tuple[Any, Any, Json]] = [(root, "", value)]
        while todo:  # not recursive: how deep a value goes is its sender's choice
            parent, key, item = todo.pop()
            if isinstance(item, str):
                parent[key] = self.text(item)
            elif isinstance(item, Mapping):
                names = self._names(item)
                parent[key] = copy = dict.fromkeys(names)
                todo.extend(zip(repeat(copy), names, item.values(), strict=False))
            elif isinstance(item, list | tuple):
                parent[key] = entries = [None] * len(item)
                todo.extend(zip(repeat(entries), range(len(item)), item, strict=False))
            else:
                parent[key] = item
        return cast("Json", root[""])

    def _names(self, item: Mapping[str, Json]) -> list[str]:
        """The keys in their order, all different, without secrets."""
        names: dict[str, None] = {}
        used: Counter[str] = Counter()
        for name in item:
            clean = base = self.text(name) if isinstance(name, str) else name
            while clean in names or (clean != name and clean in item):
                used[base] += 1
                clean = f"{base}#{used[base] + 1}"
            names[clean] = None
        return list(names)

    def _once(self, text: str) -> str:
        spans = [*self._known_spans(text), *find_secrets(text)]
        if not spans:
            return text
        shields = [Span(*match.span(), "") for match in _PLACEHOLDER.finditer(text)]
        spans = [span for span in spans if not _within(span, shields)]
        pieces, at = [], 0
        for start, end, kind in _merged([*spans, *shields]):
            if kind:
                pieces += [text[at:start], f"[redacted:{kind}]"]
                at = end
        return "".join([*pieces, text[at:]])

    def _known_spans(self, text: str) -> Iterator[Span]:
        for form in self._known:
            start = text.find(form)
            while start >= 0:
                yield Span(start, start + len(form), _KNOWN)
                start = text.find(form, start + 1)


def _texts(value: Json) -> list[str]:
    """All texts in a value, keys included."""
    found: list[str] = []
    todo: list[Json] = [value]
    for item in todo:  # which grows meanwhile
        if isinstance(item, str):
            found.append(item)
        elif item is None or isinstance(item, int | float):
            continue  # asked before the slower question whether it is a mapping
        elif isinstance(item, dict | Mapping):
            found.extend([key for key in item if isinstance(key, str)])
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
    return found


def _merged(spans: list[Span]) -> Iterator[Span]:
    """The spans with those that overlap made one, of the first kind that has a name."""
    spans.sort(key=lambda span: (span.start, -span.end))
    current: Span | None = None
    for span in spans:
        if current is None or span.start >= current.end:
            if current is not None:
                yield current
            current = span
        else:
            end = max(current.end, span.end)
            current = Span(current.start, end, current.kind or span.kind)
    if current is not None:
        yield current


def _within(span: Span, shields: Sequence[Span]) -> bool:
    index = bisect_right(shields, span.start, key=lambda shield: shield.start) - 1
    return index >= 0 and span.end <= shields[index].end


def _forms(secret: str) -> Iterator[str]:
    """How a secret may be written: as it is, in JSON, in a URL, and in base64 at any offset."""
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(raw)
    yield quote(raw, safe="")
    for altchars in (b"+/", b"-_"):
        yield base64.b64encode(raw, altchars).decode()
        for offset, mixed in enumerate((0, 2, 3)):  # characters that also hold what comes before
            encoded = base64.b64encode(b"\0" * offset + raw, altchars).decode()
            yield encoded[mixed : (offset + len(raw)) * 8 // 6]
