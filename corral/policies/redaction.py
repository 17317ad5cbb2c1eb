"""Takes secrets and personal data out of what is stored or shown.

Found are values that are known, what has a secret's format (``secret_formats``), what looks random
in the place of a secret (``entropy``) and the kinds of personal data that are asked for
(``personal``).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from copy import copy
from typing import Any
from urllib.parse import quote

from corral.jsontypes import Json
from corral.policies.detectors import entropy
from corral.policies.detectors.personal import NOTHING_PERSONAL, PERSONAL_KINDS, Personal
from corral.policies.detectors.secret_formats import find_secrets
from corral.policies.detectors.spans import Span, merged, within
from corral.policies.placeholders import KNOWN, PLACEHOLDER, Keeper, placeholder
from corral.policies.texts import LONG_NUMBER, changed, texts_of

MIN_SECRET = 8
"""A known secret shorter than this is left alone: it would be found in harmless text."""

_MAX_PASSES = 8

_REMEMBERED, _SHORT = 64, 2000
"""How many texts are remembered in which nothing was found, and how many characters of each."""


class Redactor:
    """Replaces secrets and personal data by placeholders (``placeholders.py``).

    ``known_secrets`` are values that must never be stored, such as API keys from the environment;
    they are also found in base64, in JSON strings and in URLs. Values shorter than
    ``MIN_SECRET`` characters are not looked for. What is redacted already stays as it is, so
    redacting twice is redacting once, and a JSON text stays one. No method raises for any text or
    JSON.
    """

    def __init__(
        self,
        known_secrets: Iterable[str] = (),
        personal: Personal = NOTHING_PERSONAL,
        *,
        keyed: bool = True,
    ) -> None:
        secrets = {s for s in known_secrets if len(s) >= MIN_SECRET and not s.isspace()}
        forms = {form for secret in secrets for form in _forms(secret)}
        self._known = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self._personal = personal
        self._keyed = keyed
        self._keeper: Keeper | None = None
        self._wanted: list[tuple[str, str]] = []
        self._wanted_count = 0
        self._clean_texts: set[tuple[str, int]] = set()

    def keeping(self, keeper: Keeper) -> Redactor:
        """The same, but what is found in a text, and was not known before, goes to ``keeper``."""
        kept = copy(self)
        kept._keeper, kept._wanted, kept._wanted_count = keeper, [], 0
        kept._clean_texts = set()
        return kept

    def knows(self, value: str) -> bool:
        """Whether a value holds a secret of this process's own."""
        return any(form in value for form in self._known)

    def text(self, text: str) -> str:
        """``text`` without the secrets in it."""
        for _ in range(_MAX_PASSES):  # a replacement can bring what is around it together
            spans = self._found(text)
            if not spans:
                break
            text = self._replaced(text, spans)
        return text

    def json(self, value: Json) -> Json:
        """``value`` with every text in it redacted, and the secrets in keys as well.

        Keys that hold no secret are kept; two that become the same get a number. A whole number
        that is personal data becomes a text. A value without secrets, as nearly all are, is looked
        through once and given back as it is.
        """
        return value if self._holds_nothing(texts_of(value)) else changed(value, self._clean)

    def _holds_nothing(self, texts: list[str]) -> bool:
        """Whether nothing is found in any of these: what models are asked with is much the same."""
        together = "\0".join(texts)
        known = (together, len(self._keeper.wanted) if self._keeper else 0)
        if known in self._clean_texts:
            return True
        if self._found(together) or self._names_a_secret(texts, together):
            return False
        if len(together) <= _SHORT:
            if len(self._clean_texts) >= _REMEMBERED:
                self._clean_texts.clear()
            self._clean_texts.add(known)
        return True

    def _names_a_secret(self, texts: list[str], together: str) -> bool:
        if not self._keyed or not entropy.may_name_secret(together):
            return False
        return any(map(entropy.names_secret, texts))

    def _clean(self, item: Any, name: str) -> Json:
        if isinstance(item, int):
            text = str(item) if item >= LONG_NUMBER else ""
            clean = self.text(text)
            return item if clean == text else clean
        if self._keyed and name and entropy.names_secret(name) and entropy.looks_random(item):
            return self._placeholder(Span(0, len(item), entropy.KIND), item)
        return self.text(item)

    def _found(self, text: str) -> list[Span]:
        """What is to be replaced, in order; nothing that is a placeholder already."""
        spans = [*self._known_spans(text), *find_secrets(text)]
        if self._keyed:
            spans += entropy.find_keyed(text)
        if self._personal.kinds:
            spans += self._personal.find(text)
        if not spans:
            return []
        shields = [Span(*match.span(), "") for match in PLACEHOLDER.finditer(text)]
        outside = [span for span in spans if not within(span, shields)]
        # One that reaches into a placeholder takes it along, and one beside it does not.
        return [span for span in merged([*outside, *shields]) if span.kind] if outside else []

    def _replaced(self, text: str, spans: list[Span]) -> str:
        pieces, at = [], 0
        for span in spans:
            instead = self._placeholder(span, text[span.start : span.end])
            if _is_json_number(text, span):
                instead = f'"{instead}"'
            pieces += [text[at : span.start], instead]
            at = span.end
        return "".join([*pieces, text[at:]])

    def _placeholder(self, span: Span, value: str) -> str:
        if self._keeper is None or span.fixed or PLACEHOLDER.search(value):
            return placeholder(span.kind)
        return self._keeper.keep(span.kind, value)

    def _known_spans(self, text: str) -> Iterator[Span]:
        for form in self._known:
            yield from _occurrences(text, form, KNOWN, fixed=True)
        if self._keeper is not None:
            self._want(self._keeper)
        for kind, form in self._wanted:
            yield from _occurrences(text, form, kind, fixed=False)

    def _want(self, keeper: Keeper) -> None:
        """Take up what the keeper has come to know."""
        for kind, value in keeper.wanted[self._wanted_count :]:
            forms = [value] if kind in PERSONAL_KINDS else dict.fromkeys(_forms(value))
            self._wanted += [(kind, form) for form in forms]
        self._wanted_count = len(keeper.wanted)


def _occurrences(text: str, form: str, kind: str, *, fixed: bool) -> Iterator[Span]:
    start = text.find(form)
    while start >= 0:
        yield Span(start, start + len(form), kind, fixed)
        start = text.find(form, start + 1)


_BEFORE_A_VALUE = re.compile(r"[:,\[]\s{0,8}\Z")
_AFTER_A_VALUE = re.compile(r"\s{0,8}[,}\]]")


def _is_json_number(text: str, span: Span) -> bool:
    """Whether the piece is a number of a JSON text, in which a placeholder must be quoted."""
    return (
        text[span.start : span.end].isdigit()
        and text.lstrip()[:1] in ("{", "[")
        and _BEFORE_A_VALUE.search(text[max(0, span.start - 9) : span.start]) is not None
        and _AFTER_A_VALUE.match(text, span.end) is not None
    )


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
