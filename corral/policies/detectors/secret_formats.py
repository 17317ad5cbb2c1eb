"""Where a text holds something that has the format of a secret.

The formats are those of detect-secrets' plugins, by the patterns in their ``denylist``, and some
that it does not know or finds only in part. Left out are its keyword and address plugins, which
find too much that is none (its entropy is used by ``entropy.py``), and patterns that take quadratic
time on a text made for that; ours below take linear time, for tool results are not to be trusted.

Most texts hold no secret, so a cheap check comes first: a token is a run of 16 or more characters
with digits or capital letters in it. detect-secrets takes half a second to import
and is loaded only when a text holds a beginning of one of its tokens.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import zip_longest
from typing import NamedTuple

from corral.policies.detectors.spans import Span


@dataclass(frozen=True)
class _Format:
    """How one kind looks: each match of ``pattern`` holds a trigger, ``leads`` after its start.

    ``group`` is the part that is secret; ``accept`` sees it and may refuse it.
    """

    kind: str
    triggers: tuple[str, ...]
    pattern: str
    group: int = 0
    leads: Sequence[int] = (0,)
    accept: Callable[[str], bool] = bool

    def spans(self, text: str) -> Iterator[Span]:
        pattern = _compiled(self.pattern)
        for trigger in self.triggers:
            at = text.find(trigger)
            while at >= 0:
                tried = (pattern.match(text, max(0, at - lead)) for lead in self.leads)
                found = [match for match in tried if match is not None]
                for start, end in (match.span(self.group) for match in found):
                    if self.accept(text[start:end]):
                        yield Span(start, end, self.kind)
                at = text.find(trigger, max([at + 1, *(match.end() for match in found)]))


class _Plugin(NamedTuple):
    """A plugin of detect-secrets, and the texts with which its tokens begin."""

    kind: str
    module: str
    name: str
    triggers: tuple[str, ...]


def find_secrets(text: str) -> list[Span]:
    """All pieces of ``text`` that look like secrets; they may overlap."""
    forms = [form for trigger, form in _SHORT_TRIGGERS if trigger in text]
    plugins: list[_Plugin] = []
    runs = _token_runs(text)
    if runs:
        before = "\0".join(runs)
        if _BEGINNING.search(before):
            forms += [form for form in _TOKENS if _begins(form, before)]
            plugins += [plugin for plugin in _PLUGINS if _begins(plugin, before)]
    if any(len(run) > _BEFORE + _LONG for run in runs):
        forms += [form for form in _LONG_VALUES if _begins(form, text)]
    found = [span for form in forms for span in form.spans(text)]
    found += [span for plugin in plugins for span in _plugin_spans(plugin, text)]
    if "PRIVATE KEY" in text:
        found += _pem_keys(text)
    return found


def _begins(form: _Format | _Plugin, text: str) -> bool:
    return any(trigger in text for trigger in form.triggers)


def _has_digit(value: str) -> bool:
    return any(character.isdigit() for character in value)


def _is_sk_key(value: str) -> bool:
    """Tells ``sk-proj-…`` from the names of style classes, which begin with ``sk-`` as well."""
    if "T3BlbkFJ" in value or value.startswith(("sk-proj-", "sk-svcacct-", "sk-admin-")):
        return True
    return _has_digit(value) and re.search(r"[A-Za-z0-9]{20}", value) is not None


def _is_jwt(value: str) -> bool:
    header, _, rest = value.partition(".")
    if len(rest) < 8:
        return False
    detector = import_module("detect_secrets.plugins.jwt").JwtTokenDetector
    return rest.startswith("eyJ") or bool(detector.is_formally_valid(header.rstrip("=")))


# A token begins where no letter or digit stands before it, unless that is the n of an escaped \n.
_EDGE = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_QUOTE = r"[\"'\\]{0,3}"
_ASSIGN = rf"{_QUOTE}\]?\s{{0,3}}(?:=>|:=|[=:,])\s{{0,3}}{_QUOTE}"

_SHORT = (
    _Format(
        "url-password",
        ("://",),
        r"://[^\s:/?#@\"'<>]{0,200}+:([^\s/?#\"'<>]{1,256})@",
        group=1,
    ),
    _Format(
        "authorization",
        ("authorization", "Authorization", "AUTHORIZATION"),
        rf"(?i:authorization{_QUOTE}\s{{0,3}}[:=]\s{{0,3}}{_QUOTE}(?:bearer|basic|token|bot)\s{{1,3}})"
        r"([A-Za-z0-9._~+/=:-]{8,}+)",
        group=1,
    ),
    _Format(
        "private-key",
        ("Private-Lines: ",),
        r"Private-Lines: \d{1,4}\s{1,4}((?:[A-Za-z0-9+/=]++\s{1,4})++)",
        group=1,
    ),
    _Format(
        "bearer-token",
        ("bearer ", "Bearer ", "BEARER "),
        r"(?i:bearer)\s{1,3}([\w.~+/-]{20,}+=*)",
        group=1,
        accept=_has_digit,
    ),
    _Format("npm-token", ("_authToken",), r"_authToken\s{0,3}=\s{0,3}([^\s\"']{8,}+)", group=1),
)

_SHORT_TRIGGERS = tuple((trigger, form) for form in _SHORT for trigger in form.triggers)

_TOKENS = (
    _Format("anthropic-key", ("sk-ant-",), r"sk-ant-[A-Za-z0-9_-]{16,}+"),
    _Format("openai-key", ("sk-",), _EDGE + r"sk-[A-Za-z0-9_-]{20,}+", accept=_is_sk_key),
    _Format("github-token", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}+"),
    _Format(
        "gitlab-token",
        ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "glcbt-", "glimt-", "glptt-", "gloas-"),
        r"gl(?:pat|dt|ft|soat|rt|cbt|imt|ptt|oas)-[\w-]{20,}+(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?",
    ),
    _Format("google-key", ("AIza",), r"AIza[0-9A-Za-z_-]{35,}+"),
    _Format("google-token", ("ya29.", "GOCSPX-"), r"(?:ya29\.|GOCSPX-)[0-9A-Za-z_-]{20,}+"),
    _Format("hugging-face-token", ("hf_",), _EDGE + r"hf_[A-Za-z0-9]{30,}+"),
    _Format("npm-token", ("npm_",), _EDGE + r"npm_[A-Za-z0-9]{36,}+"),
    _Format("slack-token", ("xox", "xapp-"), r"(?:xox[a-z][.-]|xapp-\d)[\w.-]{10,}+"),
    _Format("twilio-key", ("AC", "SK"), _EDGE + r"(?:AC|SK)[0-9a-f]{32}(?![0-9A-Za-z])"),
    _Format("mailchimp-key", ("-us",), _EDGE + r"[0-9a-f]{32}-us\d{1,2}(?!\w)", leads=(32,)),
    _Format(
        "discord-token",
        # Its first part is a number in base64.
        ("MD", "MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"),
        _EDGE + r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}+",
        accept=_has_digit,
    ),
    _Format(
        "json-web-token",
        ("eyJ",),
        r"eyJ[A-Za-z0-9_=-]{8,}+(?:\.[A-Za-z0-9_=-]*+){0,4}+",
        accept=_is_jwt,
    ),
)

_LONG = 40
_LONG_VALUES = (
    _Format(
        "aws-secret-key",
        ("aws", "AWS", "secret_access_key", "ecretAccessKey", "SECRET_ACCESS_KEY"),
        r"(?i:s?ecret_?access_?key|aws.{0,20}?(?:key|pwd|pw|password|pass|token))"
        + _ASSIGN
        + r"([0-9a-zA-Z/+]{40,}+={0,2})",
        group=1,
    ),
    _Format(
        "ibm-cloud-key",
        ("ibm", "IBM"),
        r"(?i:ibm[\w-]{0,32})" + _ASSIGN + r"([A-Za-z0-9_-]{40,}+)",
        group=1,
    ),
)

_PLUGINS = (
    _Plugin("artifactory-token", "artifactory", "ArtifactoryDetector", ("AKC",)),
    _Plugin("aws-access-key", "aws", "AWSKeyDetector", ("AKIA", "ASIA", "ABIA", "ACCA", "A3T")),
    _Plugin("azure-storage-key", "azure_storage_key", "AzureStorageKeyDetector", ("AccountKey=",)),
    _Plugin(
        "github-token",
        "github_token",
        "GitHubTokenDetector",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    ),
    _Plugin("gitlab-token", "gitlab_token", "GitLabTokenDetector", ("GR1348941", "glagent-")),
    _Plugin("pypi-token", "pypi_token", "PypiTokenDetector", ("pypi-Ag",)),
    _Plugin("sendgrid-key", "sendgrid", "SendGridDetector", ("SG.",)),
    _Plugin("slack-webhook", "slack", "SlackDetector", ("/services/T",)),
    _Plugin("square-secret", "square_oauth", "SquareOAuthDetector", ("sq0csp-",)),
    _Plugin("stripe-key", "stripe", "StripeDetector", ("sk_live_", "rk_live_")),
    _Plugin("telegram-token", "telegram_token", "TelegramBotTokenDetector", (":AA",)),
)

_BEGINNING = re.compile(
    "|".join(re.escape(trigger) for form in (*_TOKENS, *_PLUGINS) for trigger in form.triggers)
)
"""What any token begins with."""

KINDS = frozenset(form.kind for form in (*_SHORT, *_TOKENS, *_LONG_VALUES, *_PLUGINS))
"""All kinds that ``find_secrets`` tells apart."""

# What a token is made of becomes an a, all else a space.
_CLASSES = bytes(
    ord("a") if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_-+/") else ord(" ")
    for code in range(256)
)
_RUN = b"a" * 16
_BEFORE = 16
_CAPITAL = re.compile(r"[A-Z]")
_CAPITAL_OR_DIGIT = re.compile(r"[A-Z0-9]")
_NO_HEX = re.compile(r"[g-z]")
_TAIL = re.compile(r"[A-Za-z0-9_-]*+")

_PEM_BEGIN = re.compile(r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PEM_END = re.compile(r"-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_PEM_BODY = re.compile(
    r"(?:\s|\\[nr]|[A-Za-z0-9+/=]{16,}+|(?:Proc-Type|DEK-Info|Version|Comment):[^\n\\]{0,200}+)*+"
    r"[A-Za-z0-9+/=]*+"
)
_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/]{20}")


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _token_runs(text: str) -> list[str]:
    """The token-like runs of a text, each with what stands just before it.

    Names (no digit, no capital) and hexadecimal digests are not like tokens.
    """
    mask = text.encode("ascii", "replace").translate(_CLASSES)
    pieces = []
    start = mask.find(_RUN)
    while start >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        telling = _CAPITAL_OR_DIGIT.search(text, start, end)
        if telling and (
            _CAPITAL.search(text, telling.start(), end) or _NO_HEX.search(text, start, end)
        ):
            pieces.append(text[max(0, start - _BEFORE) : end + 1])
        start = mask.find(_RUN, end)
    return pieces


def _plugin_spans(plugin: _Plugin, text: str) -> Iterator[Span]:
    """What a plugin finds, to the end of each token: its own patterns may stop before that."""
    for pattern in _load(plugin):
        done = 0
        for match in pattern.finditer(text):
            if match.start() < done:
                continue
            whole = match.group()
            start = match.end() - len(whole.lstrip(" \t\r\n=:\"'"))
            end = match.start() + len(whole.rstrip(" \t\r\n\"'"))
            tail = _TAIL.match(text, end)
            done = tail.end() if tail else end
            yield Span(start, done, plugin.kind)


@lru_cache(maxsize=len(_PLUGINS))
def _load(plugin: _Plugin) -> tuple[re.Pattern[str], ...]:
    detector = getattr(import_module(f"detect_secrets.plugins.{plugin.module}"), plugin.name)
    # A pattern that looks at the words around a token would take them along; ours cover those.
    return tuple(p for p in detector.denylist if not (p.groups and p.flags & re.IGNORECASE))


def _pem_keys(text: str) -> Iterator[Span]:
    """Blocks of key material. One without an end was cut off: it goes as far as it looks so."""
    begins = list(_PEM_BEGIN.finditer(text))
    ends = deque(_PEM_END.finditer(text))
    for begin, following in zip_longest(begins, begins[1:]):
        limit = following.start() if following else len(text)
        while ends and ends[0].start() < begin.end():
            ends.popleft()
        if ends and ends[0].start() < limit:
            body_end, stop = ends[0].span()
        else:
            body = _PEM_BODY.match(text, begin.end(), limit)
            body_end = stop = body.end() if body else begin.end()
        if _KEY_MATERIAL.search(text, begin.end(), body_end):
            yield Span(begin.start(), stop, "private-key")
