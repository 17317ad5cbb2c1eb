"""What results, arguments and texts say: the signals that tell a loop from work."""

from __future__ import annotations

import time

import pytest

from corral.jsontypes import JsonObject
from corral.policies.loops.inputs import (
    Call,
    Known,
    edited,
    is_further_on,
    is_same_in_other_words,
)
from corral.policies.loops.outcomes import failure_of, read_result
from corral.policies.loops.wording import repeated_passage, says_the_same, words_of


@pytest.mark.parametrize(
    ("text", "nature"),
    [
        ("All is well.", "fine"),
        ("", "fine"),
        ("{}", "fine"),
        ('{"status": "succeeded"}', "fine"),
        ('{"status": "Running"}', "pending"),
        ('{"job": {"state": "IN_PROGRESS"}}', "pending"),
        ('{"jobs": [{"status": "queued"}]}', "pending"),
        ('{"progress": 0.4}', "pending"),
        ('{"progress": 100}', "fine"),
        ('{"done": false}', "pending"),
        ('{"status_code": 202}', "pending"),
        ("Status: PENDING", "pending"),
        ("The export is not ready yet.", "pending"),
        ("Pods: 3/5, still starting", "pending"),
        ("A long text about running shoes. " * 20, "fine"),
        ("[]", "empty"),
        ('{"results": [], "total": 0}', "empty"),
        ("No matching files found.", "empty"),
        ("Error: no such table: x", "failed"),
        ("Traceback (most recent call last):\n  ...\nKeyError: 'a'", "failed"),
        ("3 failed, 9 passed", "failed"),
        ("0 failed, 9 passed", "fine"),
        ('{"error": "bad request"}', "failed"),
        ('{"error": null, "value": 3}', "fine"),
        ('{"stdout": "", "exit_code": 1}', "failed"),
        ("Error: connection refused", "transient"),
        ('{"ok": false, "reason": "rate limit"}', "transient"),
        ("[" * 3000, "fine"),
    ],
)
def test_the_nature_of_a_result(text: str, nature: str) -> None:
    assert read_result(text).nature == nature


def test_what_a_tool_calls_an_error_is_one() -> None:
    assert read_result("All is well.", is_error=True).nature == "failed"
    assert read_result("503 Service Unavailable", is_error=True).nature == "transient"
    assert read_result("The report is not ready yet.", is_error=True).nature == "pending"


def test_failures_are_compared_without_what_always_changes() -> None:
    one = read_result("1 failed in 0.42s at 12:00:01, pid 17")
    other = read_result("1 failed in 1.9s at 12:31:59, pid 4711")
    assert one.digest == other.digest
    assert one.digest != read_result("2 failed in 0.42s").digest
    assert failure_of("a/b.txt: No such file") == failure_of("'c d.txt': No such file")


@pytest.mark.parametrize(
    ("tool", "args", "expected"),
    [
        ("time__sleep", {"seconds": 3}, True),
        ("browser__wait_for", {"text": "Done"}, True),
        ("shell__run", {"command": "sleep 10"}, True),
        ("python__run", {"code": "import time; time.sleep(5)"}, True),
        ("shell__run", {"command": "sleep 1; rm -r x"}, False),
        ("files__read", {"path": "sleep 10 hours.txt"}, False),
        ("waiter__serve", {"table": 3}, False),
    ],
)
def test_a_wait(tool: str, args: JsonObject, expected: bool) -> None:
    assert Call(tool, args).is_wait is expected


@pytest.mark.parametrize(
    ("tool", "args", "expected"),
    [
        ("files__write_file", {"path": "a", "content": "x"}, "a"),
        ("config__set", {"key": "k", "value": 1}, "k"),
        ("files__append", {"path": "a", "content": "x"}, None),
        ("files__read_file", {"path": "a", "limit": 3}, None),
        ("files__write_file", {"path": "a"}, None),
    ],
)
def test_an_edit_that_can_be_undone(tool: str, args: JsonObject, expected: str | None) -> None:
    assert edited(Call(tool, args)) == expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"page": 1}, {"page": 2}, True),
        ({"q": "x", "cursor": "a"}, {"q": "x", "cursor": "b"}, True),
        ({"q": "x"}, {"q": "x", "cursor": "b"}, True),
        ({"q": "x", "page": 1}, {"q": "y", "page": 2}, False),
        ({"url": "http://a/?p=1"}, {"url": "http://a/?p=2"}, True),
        ({"path": "a.txt"}, {"path": "b.txt"}, False),
        ({"page": 1}, {"page": 1}, False),
    ],
)
def test_a_page_further_on(before: JsonObject, now: JsonObject, expected: bool) -> None:
    assert is_further_on(before, now, by_number=True) is expected


def test_numbers_count_along_only_where_that_is_said() -> None:
    assert not is_further_on({"path": "a1"}, {"path": "a2"}, by_number=False)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("weather berlin", "berlin weather today", True),
        ("weather berlin", "taxes paris", False),
        ("read a.csv now", "read b.csv now", False),
    ],
)
def test_the_same_in_other_words(before: str, now: str, expected: bool) -> None:
    assert is_same_in_other_words({"q": before}, {"q": now}) is expected


def test_what_was_given_is_not_guessed() -> None:
    known = Known()
    known.learn("alpha.py\nbeta.py (12 KB)")
    assert known.names({"path": "src/alpha.py"}, {"path": "src/beta.py"})
    assert not known.names({"path": "src/alpha.py"}, {"path": "src/gamma.py"})


def test_small_changes_of_a_text_do_not_hide_it() -> None:
    one = words_of("Attempt 3: I will now look at the logs of the server.")
    assert says_the_same(one, words_of("attempt 4 - I will now look at the logs of the server!!"))
    assert not says_the_same(one, words_of("The logs say that the server has no disk."))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I see. " + "the cat sat on " * 8, "the cat sat on"),
        ("a b c d e f g", None),
        ("0 0 0 0 0 0 0 0 0 0 0 0", None),
        ("| 1 | 2 |\n" * 20, None),
    ],
)
def test_a_passage_without_end(text: str, expected: str | None) -> None:
    found = repeated_passage(text)
    assert (found and sorted(found.split())) == (expected and sorted(expected.split()))


@pytest.mark.parametrize(
    "text",
    ['"' * 200_000, "'a" * 100_000, "/" * 200_000, "1" * 200_000, "a." * 100_000, "not " * 50_000],
)
def test_hostile_text_takes_no_longer_than_other_text(text: str) -> None:
    began = time.process_time()
    read_result(text, is_error=True)
    read_result(text)
    words_of(text)
    repeated_passage(text)
    Known().learn(text)
    assert time.process_time() - began < 1
