"""Personal data is found by what proves it, and everyday numbers are left alone."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from corral.policies.detectors.personal import CHECKED_KINDS, PERSONAL_KINDS, Personal
from corral.policies.redaction import Redactor

ROOT = Path(__file__).parents[2]
RANDOM = random.Random(3)
CHECKED = Redactor((), Personal(frozenset(CHECKED_KINDS)))
ALL = Redactor((), Personal(frozenset(PERSONAL_KINDS), "US"))

FOUND = {
    "card": [
        *("4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4222222222222"),
        *("378282246310005", "3782 822463 10005", "5555555555554444", "2223003122003222"),
        *("6011111111111117", "30569309025904", "3530111333300000", "6200000000000005"),
    ],
    "iban": [
        *("DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"),
        *("FR14 2004 1010 0505 0001 3M02 606", "NL91ABNA0417164300", "NO93 8601 1117 947"),
    ],
    "national-id": [
        *("536-90-4399", "390.533.447-05", "RSSMRA85T10A562S", "12345678Z", "X-1234567-L"),
        *("1 85 05 78 006 084 91", "185057800608491", "756.9217.0769.85", "85.07.30-033.28"),
        *("131052-308T", "880320-0016", "11010519491231002X"),
    ],
}
AROUND = ("{}", "it is {}.", "({})", '"{}"', "a\n{}\nb", 'x="{}",', "\\n{}\\n", "{}, and more")


@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind, numbers in FOUND.items() for number in numbers]
)
def test_what_has_a_checksum_is_found_whole(kind: str, number: str) -> None:
    for around in AROUND:
        assert CHECKED.text(around.format(number)) == around.format(f"[redacted:{kind}]")


@pytest.mark.parametrize(
    ("before", "number"),
    [
        ("PESEL: ", "44051401359"),
        ("my BSN is ", "111222333"),
        ("SSN ", "536904399"),
        ("social security number: ", "536 90 4399"),
        ("CPF ", "39053344705"),
        ("Steuer-ID: ", "36574261809"),
        ("Aadhaar no. ", "2341 2341 2346"),
        ("NHS number ", "943 476 5870"),
    ],
)
def test_digits_alone_are_found_beside_their_name(before: str, number: str) -> None:
    assert CHECKED.text(f"{before}{number}.") == f"{before}[redacted:national-id]."
    assert CHECKED.text(f"It is {number}.") == f"It is {number}."


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112 has a wrong checksum",
        "x4111111111111111 and 4111111111111111x and 4111111111111111_1",
        "0.4111111111111111 and 4111111111111111.5",
        "at 1763812800000 and 1763812800000000",
        "commit 3f2a9c0e8d7b6a5f4e3d2c1b0a9f8e7d6c5b4a39",
        "id 41111111-1111-1111-1111-111111111111",
        "DE88370400440532013000 has a wrong checksum",
        "version 1.2.3-4567 of 2026-11-22 11:30:00",
        "order 44051401359 for 39053344705 pieces",
        "ISBN 978-3-16-148410-0, EAN 4006381333931",
        "me@example.org calls +49 30 901820 from 8.8.8.8",  # only if they are asked for
    ],
)
def test_everyday_numbers_stay(text: str) -> None:
    assert CHECKED.text(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("<a.b+c@mail.example.co.uk>,", "<[redacted:email]>,"),
        ("mailto:jürgen@müller.example", "mailto:[redacted:email]"),
        ("call +49 30 901820 now", "call [redacted:phone] now"),
        ("call (650) 253-0000.", "call [redacted:phone]."),
        ("from 8.8.8.8:53", "from [redacted:ip]:53"),
        ("from 2001:4860:4860::8888", "from [redacted:ip]"),
        ("VAT DE136695976", "VAT [redacted:vat]"),
        ("at 127.0.0.1 and ::1, 12:30:45, a::b", "at 127.0.0.1 and ::1, 12:30:45, [redacted:ip]"),
        ("user@localhost and @decorator(x)", "user@localhost and @decorator(x)"),
    ],
)
def test_other_kinds_are_found_if_they_are_asked_for(text: str, redacted: str) -> None:
    assert ALL.text(text) == redacted


def test_a_whole_number_of_json_becomes_a_text() -> None:
    value = {"card": 4111111111111111, "at": 1763812800000, "ok": True, "amount": 12.5}
    assert CHECKED.json(value) == {**value, "card": "[redacted:card]"}
    text = json.dumps({**value, "cards": [4111111111111111, 378282246310005]})
    redacted = json.loads(CHECKED.text(text))
    assert redacted["cards"] == ["[redacted:card]", "[redacted:card]"]
    assert redacted["card"] == "[redacted:card]"


def test_our_own_sources_and_docs_hold_none() -> None:
    files = [
        *(ROOT / "corral").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "bench").rglob("*.py"),
        *(ROOT / name for name in ("requirements.lock", "pyproject.toml", "README.md")),
    ]
    sought = Personal(frozenset(CHECKED_KINDS))
    found = [
        (path.name, text[span.start : span.end])
        for path in files
        for text in [path.read_text(encoding="utf-8")]
        for span in sought.find(text)
    ]
    assert [one for one in found if one[0] not in ("redaction.md", "personal.py")] == []


def test_random_numbers_are_rarely_taken_for_personal_data() -> None:
    numbers = [RANDOM.randrange(10 ** (n - 1), 10**n) for n in range(9, 20) for _ in range(500)]
    taken = sum(CHECKED.text(f"id {n} done") != f"id {n} done" for n in numbers)
    assert taken / len(numbers) < 0.01  # a tenth of those that begin as a card's


@settings(deadline=None)
@given(
    digits=st.text(alphabet="0123456789", min_size=11, max_size=11),
    before=st.text(alphabet=" .,:;()\n'\"", max_size=3),
)
def test_every_valid_number_is_found_and_twice_is_once(digits: str, before: str) -> None:
    card = f"4000{digits}"
    card += luhn.calc_check_digit(card)
    account = iban.calc_check_digits(f"AT00{digits}00000")
    text = f"{before}{card}, AT{account}{digits}00000{before}"
    once = ALL.text(text)
    assert card not in once
    assert digits not in once
    assert ALL.text(once) == once


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "1",
            "1 ",
            "12-",
            "4111 ",
            "AB12 ",
            "A1 ",
            "a@",
            "@a.",
            "a.b@c.",
            "1.1.",
            "::",
            "+1",
            "ssn 1",
        ),
        *("123-45-678", "pesel ", "RSSMRA85T10A562", "XX99", "+1 (", "1:1:", "f:"),
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    ALL.text("4111111111111111 +49 30 901820 DE89370400440532013000")
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    list(Personal(frozenset(PERSONAL_KINDS), "US").find(text))
    assert time.process_time() - started < 4
