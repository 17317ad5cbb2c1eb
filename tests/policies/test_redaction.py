"""Secrets here are made when the tests run: none stands in this file."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import subprocess
import sys
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corral.policies.redaction import MIN_SECRET, Redactor

LETTERS = string.ascii_letters + string.digits
URL_SAFE = LETTERS + "_-"
HEX = "0123456789abcdef"
CAPITALS = string.ascii_uppercase + string.digits
RANDOM = random.Random(7)


def chars(count: int, alphabet: str = LETTERS) -> str:
    return "".join(RANDOM.choices(alphabet, k=count))


def json_web_token() -> str:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    payload = base64.urlsafe_b64encode(b'{"sub":"12345"}').decode().rstrip("=")
    return f"{header}.{payload}.{chars(43, URL_SAFE)}"


TOKENS = {
    "aws-access-key": ["AKIA" + chars(16, CAPITALS), "ASIA" + chars(16, CAPITALS)],
    "github-token": [
        *(f"gh{kind}_" + chars(36) for kind in "pousr"),
        "github_pat_" + chars(22) + "_" + chars(59),
    ],
    "gitlab-token": [
        "glpat-" + chars(20, URL_SAFE),
        "glpat-" + chars(60, URL_SAFE),
        "glrt-" + chars(20),
        "GR1348941" + chars(20),
    ],
    "openai-key": [
        "sk-" + chars(20) + "T3BlbkFJ" + chars(20),
        "sk-proj-" + chars(74, URL_SAFE) + "T3BlbkFJ" + chars(73, URL_SAFE),
        "sk-" + chars(48),
    ],
    "anthropic-key": ["sk-ant-api03-" + chars(93, URL_SAFE) + "AA"],
    "slack-token": [
        f"xoxb-{chars(12, string.digits)}-{chars(12, string.digits)}-{chars(24)}",
        f"xapp-1-A{chars(10)}-{chars(13, string.digits)}-{chars(64, HEX)}",
    ],
    "stripe-key": ["sk_live_" + chars(24), "rk_live_" + chars(99)],
    "json-web-token": [json_web_token()],
    "google-key": ["AIza" + chars(35, URL_SAFE)],
    "hugging-face-token": ["hf_" + chars(34)],
    "npm-token": ["npm_" + chars(36)],
    "pypi-token": ["pypi-AgEIcHlwaS5vcmc" + chars(100, URL_SAFE)],
    "sendgrid-key": ["SG." + chars(22) + "." + chars(43)],
    "azure-storage-key": ["AccountKey=" + chars(86) + "=="],
    "telegram-token": ["123456789:AA" + chars(33, URL_SAFE)],
    "twilio-key": ["SK" + chars(32, HEX)],
    "mailchimp-key": [chars(32, HEX) + "-us12"],
    "square-secret": ["sq0csp-" + chars(43)],
    "discord-token": ["MT" + chars(22) + "1." + chars(6) + "." + chars(30)],
}


AROUND = (
    *("{}", "the key is {} now", "K={}\n", "export KEY='{}'", "a\n{}\nb", "(`{}`)"),
    '{{"key": "{}"}}',
    '{{"key": "a\\n{}\\n"}}',
)


@pytest.mark.parametrize(
    ("kind", "token"), [(kind, token) for kind, tokens in TOKENS.items() for token in tokens]
)
def test_tokens_are_found_whole_by_their_format(kind: str, token: str) -> None:
    for around in AROUND:
        redacted = Redactor().text(around.format(token))
        assert redacted == around.format(f"[redacted:{kind}]")


def test_a_slack_webhook_is_found() -> None:
    hook = (
        f"https://hooks.slack.com/services/T{chars(8, CAPITALS)}/B{chars(8, CAPITALS)}/{chars(24)}"
    )
    assert Redactor().text(f"curl {hook}") == "curl [redacted:slack-webhook]"


@pytest.mark.parametrize(
    ("before", "secret", "after", "kind"),
    [
        ("postgresql://me:", "s3cret", "@db:5432/x", "url-password"),
        ("redis://:", "p@ss$!", "@host", "url-password"),
        ("Authorization: Bearer ", chars(12), "\n", "authorization"),
        ('{"authorization": "Basic ', chars(20) + "==", '"}', "authorization"),
        ("-H 'X-Auth: Bearer ", chars(30) + "1", "'", "bearer-token"),
        ("aws_secret_access_key = ", chars(39) + "/", "\n", "aws-secret-key"),
        ('"SecretAccessKey": "', chars(20) + "+/" + chars(18), '",', "aws-secret-key"),
        ("AWS_SECRET_ACCESS_KEY=", chars(40), " x", "aws-secret-key"),
        ("//host/:_authToken=", chars(36, HEX), "\n", "npm-token"),
        ("ibm_cloud_api_key: ", chars(44), "\n", "ibm-cloud-key"),
    ],
)
def test_values_are_found_by_what_stands_around_them(
    before: str, secret: str, after: str, kind: str
) -> None:
    redacted = Redactor().text(f"x {before}{secret}{after} y")
    assert redacted == f"x {before}[redacted:{kind}]{after} y"


def pem(name: str = "RSA PRIVATE KEY", *, headers: str = "") -> str:
    lines = "\n".join(chars(64, LETTERS + "+/") for _ in range(6))
    return f"-----BEGIN {name}-----\n{headers}{lines}\n{chars(20)}==\n-----END {name}-----"


@pytest.mark.parametrize(
    "key",
    [
        pem(),
        pem("OPENSSH PRIVATE KEY"),
        pem("PRIVATE KEY").replace("\n", "\r\n"),
        pem("PGP PRIVATE KEY BLOCK", headers="Version: 1\n\n"),
        pem(headers="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n\n"),
        pem().replace("\n", "\\n"),
        pem().replace("\n", "\n  "),
    ],
)
def test_a_private_key_is_taken_out_with_all_its_lines(key: str) -> None:
    assert Redactor().text(f"a\n{key}\nb") == "a\n[redacted:private-key]\nb"
    assert Redactor().text(f"{key} and {key}").count("[redacted:private-key]") == 2


def test_a_private_key_that_was_cut_off_is_taken_out_as_far_as_it_goes() -> None:
    key = pem()
    assert Redactor().text("a " + key[:300]) == "a [redacted:private-key]"
    cut = Redactor().text(f"{key[:300]}\n{pem()}\nb")
    assert cut == "[redacted:private-key]\n[redacted:private-key]\nb"


@pytest.mark.parametrize(
    "text",
    [
        'if "-----BEGIN RSA PRIVATE KEY-----" in text: raise Refused("no keys here")',
        "commit 3f2a9c0e8d7b6a5f4e3d2c1b0a9f8e7d6c5b4a39",
        "id 123e4567-e89b-12d3-a456-426614174000",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "<div class='sk-estimator-doc-link sk-toggleable__content-3'>",
        "see https://example.org:8080/a/b?mail=me@example.org",
        "git@example.org:team/repo.git and me@example.org",
        "SOME_VERY_LONG_CONSTANT_NAME = another_long_name.with_attributes.and_more",
        "a disk-management-system for task-oriented-workloads",
        "Authorization: see the manual",
        "the bearer of these documents/authorizations/permissions",
        "eyJ is how a token begins",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
        "[redacted:github-token]",
        "://u:[redacted:secret]@h and Authorization: Bearer [redacted:json-web-token]",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text


class TestKnownSecrets:
    @pytest.mark.parametrize(
        "secret", ["hunter2-and-more", 'a"b\\c\nd/e?f', "пароль-123", "=+/&%20x"]
    )
    def test_they_are_found_in_each_form(self, secret: str) -> None:
        redactor = Redactor([secret])
        forms = [secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret)]
        for before in ("", "u", "us", "user:"):
            encoded = base64.b64encode((before + secret).encode()).decode()
            forms += [encoded, encoded.rstrip("="), encoded.replace("+", "-").replace("/", "_")]
        for form in forms:
            redacted = redactor.text(f"x {form} y")
            assert "[redacted:secret]" in redacted, form
            assert len(redacted) < len("x [redacted:secret] y") + 16, form
            assert secret not in redacted

    def test_short_and_empty_values_are_left_alone(self) -> None:
        redactor = Redactor(["", "short", " " * 20])
        assert redactor.text("a short text" + " " * 30) == "a short text" + " " * 30

    def test_the_longest_of_several_is_taken_out_whole(self) -> None:
        redactor = Redactor(["abcdefgh", "abcdefgh-ijkl"])
        assert redactor.text("abcdefgh-ijkl abcdefgh") == "[redacted:secret] [redacted:secret]"

    def test_one_that_is_part_of_a_token_takes_the_token_along(self) -> None:
        token = TOKENS["github-token"][0]
        assert Redactor([token[:12]]).text(f"<{token}>") == "<[redacted:github-token]>"

    @pytest.mark.parametrize("secret", ["redacted", "[redacted:", "secret]!", "[redacted:secret]"])
    def test_one_that_looks_like_a_placeholder_does_no_harm(self, secret: str) -> None:
        redactor = Redactor([secret, "another-secret"])
        once = redactor.text(f"{secret} another-secret {secret}")
        assert "another-secret" not in once
        assert redactor.text(once) == once
        assert redactor.text("[redacted:stripe-key]") == "[redacted:stripe-key]"


secrets = st.text(alphabet=LETTERS + '-_.$/+ é"\\\n', min_size=MIN_SECRET, max_size=30).filter(
    lambda secret: not secret.isspace()
)
texts = st.text(max_size=40)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


def with_secret(value: Any, secret: str) -> Any:
    """The value with the secret put into every text and key of it."""
    match value:
        case str():
            return f"{value}{secret}{value}"
        case list():
            return [with_secret(item, secret) for item in value]
        case dict():
            return {f"{k}{secret}": with_secret(item, secret) for k, item in value.items()}
        case _:
            return value


def all_texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in all_texts(item)]
        case dict():
            return [*value, *(text for item in value.values() for text in all_texts(item))]
        case _:
            return []


@settings(deadline=None)
@given(value=values, secret=secrets)
def test_no_known_secret_leaves_json_whatever_its_nesting(value: Any, secret: str) -> None:
    assume(secret not in "[redacted:secret]")
    redactor = Redactor([secret])
    redacted = redactor.json(with_secret(value, secret))
    assert not [text for text in all_texts(redacted) if secret in text]
    assert redactor.json(redacted) == redacted
    assert len(all_texts(redacted)) == len(all_texts(with_secret(value, secret)))
    inside = redactor.text(json.dumps([with_secret(value, secret)]))
    assert not [text for text in all_texts(json.loads(json.dumps(inside))) if secret in text]


pieces = st.one_of(
    st.sampled_from([token for tokens in TOKENS.values() for token in tokens]),
    st.sampled_from([pem(), "://u:", "@h", "Authorization: Bearer ", "[redacted:", "]", "\\n"]),
    st.sampled_from(["[redacted:secret]", "the-known-secret", "aws_secret_access_key=", " ", "\n"]),
    st.text(max_size=8),
)


@settings(deadline=None, max_examples=300)
@given(parts=st.lists(pieces, max_size=8))
def test_redacting_twice_is_redacting_once(parts: list[str]) -> None:
    redactor = Redactor(["the-known-secret"])
    once = redactor.text("".join(parts))
    assert redactor.text(once) == once
    assert "the-known-secret" not in once


@settings(deadline=None)
@given(value=values)
def test_json_without_secrets_is_copied_as_it_is(value: Any) -> None:
    assert Redactor().json(value) == value
    if isinstance(value, dict):
        assert list(Redactor().json(value)) == list(value)  # type: ignore[arg-type]  # it is a dict


def test_keys_are_kept_unless_they_hold_secrets() -> None:
    first, second = TOKENS["aws-access-key"]
    redacted = Redactor().json({"password": "x", first: 1, second: {"AKIA": [first]}, "z": None})
    assert redacted == {
        "password": "x",
        "[redacted:aws-access-key]": 1,
        "[redacted:aws-access-key]#2": {"AKIA": ["[redacted:aws-access-key]"]},
        "z": None,
    }
    assert isinstance(redacted, dict)
    assert list(redacted)[0::3] == ["password", "z"]


def test_depth_and_odd_texts_do_no_harm() -> None:
    deep: Any = TOKENS["github-token"][0]
    for _ in range(50_000):
        deep = [deep]
    redacted = Redactor().json(deep)
    for _ in range(50_000):
        assert isinstance(redacted, list)
        redacted = redacted[0]
    assert redacted == "[redacted:github-token]"
    odd = f"\ud800 \0 🐎é {TOKENS['github-token'][0]} \udfff"
    assert (
        Redactor(["\ud800-surrogate"]).text(odd) == "\ud800 \0 🐎é [redacted:github-token] \udfff"
    )


HOSTILE = """\
eyJ|eyJ.|eyJhbGciOi.|sk-|sk-a|://|://a:|://a:b|ghp_|AKIA|AKIAAAAAAAAAAAAAAAAA|-----|aws key |\
awskey= |-----BEGIN PRIVATE KEY-----|-----END PRIVATE KEY-----|Authorization: bearer |\
xoxb-1-|glagent-|/services/T/B|aaaaaaaaaaaaaaa |A1|SK0|bearer  |[redacted:secret]|\
[redacted:|MT1|ibm|ibm: |\\n|Private-Lines: 1 |\
1:AA|secret_access_key |_authToken=|SG.|github_pat_|-us1|AKC|pypi-Ag|npm_"""


@pytest.mark.slow
@pytest.mark.parametrize("unit", HOSTILE.split("|"))
def test_no_text_makes_redaction_slow(unit: str) -> None:
    starts = " ".join(
        ["A1" * 8, "PRIVATE KEY", "SG.AAAAAAAAAAAAAAA1", "ghp_AAAAAAAAAAAA1", "awsAAAAAAAAAAA1"]
    )
    redactor = Redactor(["the-known-secret"])
    redactor.text(TOKENS["github-token"][0])  # what is loaded once is not counted
    text = f"{starts} {unit * (200_000 // len(unit))}"
    started = time.process_time()
    redactor.text(text)
    assert time.process_time() - started < 3  # quadratic time would be minutes


def test_plain_text_is_fast_enough_to_be_read_at_every_effect() -> None:
    words = "the quick brown fox jumps over a lazy dog while responsibilities accumulate;\n"
    text = words * 15_000
    redactor = Redactor()
    seconds = min(_timed(redactor, text) for _ in range(5))
    assert len(text) / seconds > 20e6, "20 MB/s, a third of what a slow machine does"


def _timed(redactor: Redactor, text: str) -> float:
    started = time.process_time()
    assert redactor.text(text) == text
    return time.process_time() - started


def test_the_library_is_loaded_only_for_what_may_be_its_secret() -> None:
    code = """
import sys
from corral.policies.redaction import Redactor
from corral.policies import presets, limits, loops; from corral.policies.writing import parse
redactor = Redactor(["a-known-secret"])
redactor.text("task-list a-known-secret https://u:p@h 3f2a9c0e8d7b6a5f4e3d2c1b0a9f8e7d6c5b4a39")
print(sorted({m.split(".")[0] for m in sys.modules} & {"detect_secrets", "requests", "langgraph"}))
redactor.text("gh" + "p_" + "a1" * 18)
print("detect_secrets" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_placeholders_are_plain() -> None:
    everything = Redactor(["the-known-secret"]).text(
        " ".join([*(token for tokens in TOKENS.values() for token in tokens), "the-known-secret"])
    )
    assert re.fullmatch(r"(\[redacted:[a-z-]+\] ?)+", everything)
