"""Secrets without a format are found by their place, and what only looks random is left alone."""

from __future__ import annotations

import json
import random
import string
import time
import uuid
from hashlib import sha1, sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.jsontypes import Json
from corral.policies.detectors.entropy import find_keyed, looks_random, names_secret
from corral.policies.redaction import Redactor

ROOT = Path(__file__).parents[2]
RANDOM = random.Random(11)
ALPHABETS = (
    string.ascii_letters + string.digits,
    string.ascii_lowercase + string.digits,
    string.ascii_letters + string.digits + "!#*+-_.?^~",
    string.hexdigits.lower()[:16],
)
NAMES = (
    *("password", "passwd", "PASSWORD", "db_password", "DB_PASSWORD", "userPassword", "pwd"),
    *("secret", "client_secret", "clientSecret", "SECRET_KEY", "api_key", "apiKey", "API-KEY"),
    *("token", "access_token", "authToken", "REFRESH_TOKEN", "private_key", "passphrase"),
)
PLACES = (
    '{} = "{}"',
    "{}='{}'",
    "{}={}",
    "export {}={}\n",
    "{}: {}",
    '"{}": "{}"',
    '{{"a": 1, "{}": "{}"}}',
    r"{{\"{}\": \"{}\"}}",
    "curl https://example.org/?{}={}&page=2",
    "run --{} {} --verbose",
    "<{0}>{1}</{0}>",
    "config['{}'] = '{}'",
    "the {} is {}",
    "{}: '{}',",
    "{} := `{}`",
)


def values(alphabet: str) -> list[str]:
    return ["a1" + "".join(RANDOM.choices(alphabet, k=length)) + "7Z" for length in (8, 12, 20, 36)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_a_random_value_in_the_place_of_a_secret_is_found_whole(place: str, name: str) -> None:
    for value in (value for alphabet in ALPHABETS for value in values(alphabet)):
        text = place.format(name, value)
        assert Redactor().text(text) == place.format(name, "[redacted:credential]"), text


@pytest.mark.parametrize(
    "text",
    [
        'password = getpass("Password: ")',
        "password: str | None = None",
        "token = tokens[index]",
        "token = next(stream.tokens2)",
        'api_key = os.environ["OPENAI_API_KEY"]',
        "api_key=settings.openai.api_key",
        "secret = ${SECRET_FROM_VAULT_2}",
        'password: "{{ vault.password1 }}"',
        "password=<your-password-1>",
        "PASSWORD=changeme",
        "token: required",
        "password: ********",
        "password = xxxxxxxx1",
        "the token is the text that comes between two spaces",
        "the secret of success is perseverance2",
        "secret_name = db-credentials-prod",
        'password_file = "/run/secrets/db1"',
        "token_url: https://example.org/oauth2/token1",
        "--secret /run/secrets/key1.pem",
        '{"next_page_token": "CAUQAA2kd93kdWq"}',
        '{"nextPageToken": "CAUQAA2kd93kdWq", "cursor": "Zq8Xw2Rt5Yb7"}',
        '{"input_tokens": 123456789, "max_tokens": 100000000}',
        "eos_token = '<|im_end|>'",
        f"token: {uuid.UUID(int=7)}",
        "secret_token = 1234567890",
        "primary_key = user_id2",
        "key = sha256(text).hexdigest()",
        '"key": "Zq8Xw2Rt5Yb7Nc4Mv1Kd"',
        f"sha256:{sha256(b'x').hexdigest()}",
        f"commit {sha1(b'x', usedforsecurity=False).hexdigest()}",
        f"id={uuid.UUID(int=2**100 + 5)}",
        f'integrity: "sha512-{"Zq8Xw2Rt5Yb7Nc4Mv1Kd" * 4}=="',
        f"data:image/png;base64,{'iVBORw0KGgo' * 8}",
        "!function(e,t){var n=t.token,r=e.password;return n.a(r,3)}(a1b2,c3d4)",
        "password=[redacted:credential]",
        "password = [redacted:credential#k3x9qa] and more",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("name", NAMES)
def test_in_json_the_name_counts(name: str) -> None:
    value: dict[str, Json] = {
        "user": {name: "hunter2-and-3", "id": "hunter2-and-3"},
        "max_tokens": 5,
    }
    assert Redactor().json(value) == {
        "user": {name: "[redacted:credential]", "id": "hunter2-and-3"},
        "max_tokens": 5,
    }


def test_names_that_are_no_secrets_do_not_count() -> None:
    for name in ("nextPageToken", "max_tokens", "token_count", "password_hash", "key", "keyboard"):
        assert not names_secret(name), name


def test_our_own_sources_and_docs_hold_none() -> None:
    files = [
        *(ROOT / "corral").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "bench").rglob("*.py"),
        *(ROOT / name for name in ("requirements.lock", "pyproject.toml", "README.md", "Makefile")),
    ]
    found = [
        (path.name, text[span.start - 20 : span.end])
        for path in files
        for text in [path.read_text(encoding="utf-8")]
        for span in find_keyed(text)
    ]
    # docs/redaction.md and this module's neighbours show some, to say what is found.
    assert [one for one in found if one[0] != "redaction.md"] == []


def test_logs_hold_none() -> None:
    lines = [
        f"2026-11-22T11:{n % 60:02}:07.{n:06} INFO auth: token accepted user={n * 7919} "
        f"request_id={sha1(str(n).encode(), usedforsecurity=False).hexdigest()[:16]} took={n}ms"
        for n in range(2000)
    ]
    assert list(find_keyed("\n".join(lines))) == []


@settings(deadline=None)
@given(text=st.text(alphabet=string.printable, max_size=200), name=st.sampled_from(NAMES))
def test_redacting_twice_is_redacting_once_and_json_stays_json(text: str, name: str) -> None:
    redactor = Redactor()
    whole = json.dumps({name: text, "n": [f"{name}={text}"]})
    once = redactor.text(whole)
    assert redactor.text(once) == once
    json.loads(once)
    value = redactor.json({name: text})
    assert redactor.json(value) == value


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["password=", "token token=", "--password ", "secret: '", "key_", "api_key=a&", "pwd\\'"],
)
def test_no_text_takes_long(unit: str) -> None:
    looks_random("a1b2c3d4e5")  # what is loaded once is not counted
    text = unit * (200_000 // len(unit))
    started = time.process_time()
    list(find_keyed(text))
    assert time.process_time() - started < 3
