"""The page of a run: what a colleague sees in it, and what nothing in a run can do to it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.export.html import render_html
from corral.runtime.views import Approval, EffectView, RunView, Totals
from tests.runtime.agents import Ledger, Turn, scripted, turn
from tests.runtime.pages import Element, read_page

BEGAN = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)


def at(ms: float) -> str:
    return (BEGAN + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")


RUN = RunView(
    run="r-0000000001",
    thread="t-1",
    agent="assistant",
    model="scripted",
    status="completed",
    prompt="Do it.",
    output="Done.",
    started_at=at(0),
    finished_at=None,
    steps=1,
    usage=Totals(10, 5, 0.25),
)


def effect(seq: int, path: str, begin: float, ms: float | None, **fields: Any) -> EffectView:
    data: dict[str, Any] = {
        "kind": "tool",
        "name": "functions__look",
        "status": "finished",
        "request": {"tool": "functions__look", "args": {"n": seq}},
        "result": {"text": f"result {seq}", "structured": None, "is_error": False, "dropped": 0},
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0.0,
    }
    return EffectView(
        seq=seq, path=path, started_at=at(begin), duration_ms=ms, run=RUN.run, **{**data, **fields}
    )


def page_of(effects: Sequence[EffectView], run: RunView = RUN) -> Element:
    return read_page(render_html(run, effects, ()))


async def page(c: corral.Corral, run: str) -> tuple[str, Element]:
    approvals = await c.records.approvals(run=run, status=None)
    html = render_html(await c.records.run(run), await c.records.trace(run), approvals)
    return html, read_page(html)


async def asked(
    settings: Settings, turns: Sequence[Turn], *functions: Callable[..., Any], prompt: str
) -> tuple[str, Element, Approval]:
    """The page of a run of which the first question was approved."""
    options = corral.RunOptions(agent=scripted(turns, *functions))
    async with corral.open(settings) as c:
        paused = await c.run(prompt, options)
        await c.approve(paused.approvals[0].id)
        done = await c.resume(paused.run, options)
        assert done.status == "completed", done.error
        return *(await page(c, done.run)), paused.approvals[0]


async def test_a_run_can_be_read_without_scripts(settings: Settings) -> None:
    turns = [turn("I pay and look.", pay={"amount": 3}, balance={}), turn("It is paid.")]
    _, seen, approval = await asked(settings, turns, *Ledger().tools(), prompt="Pay 3, please.")
    assert seen.one("h1").text == "Pay 3, please."
    assert seen.one(name="status").text == "completed"
    figures = {div.one("dt").text: div.one("dd").text for div in seen.one("dl").all("div")}
    assert (figures["Model calls"], figures["Tool calls"]) == ("2", "2")
    assert figures["Cost"] == "$0"
    talk = seen.one("section", id="conversation")
    kinds = [turn.attributes["class"].split()[1] for turn in talk.all("li", "turn")]
    assert kinds == ["system", "user", "assistant", "approval", "tool", "tool", "assistant"]
    said = [turn.text for turn in talk.all("li", "turn")]
    assert "Pay 3, please." in said[1]
    assert "I pay and look." in said[2]
    assert approval.reason in said[3]
    assert "approved by the user after" in said[3]
    assert "amount: 3" in said[5]
    assert "paid 3" in said[5]
    assert "It is paid." in said[6]
    # The form needs the script, which shows it.
    assert "hidden" in seen.one("form").attributes
    listed = seen.one("section", id="effects")
    assert [item.one(name="chip").text for item in listed.all("li", "effect")] == [
        *("prepare", "model", "approval", "tool", "tool", "model"),
    ]
    assert all(item.all("details") for item in listed.all("li", "effect"))
    assert approval.reason in listed.text


async def test_a_page_stands_for_itself(settings: Settings) -> None:
    turns = [turn(pay={"amount": 3}), turn("It is paid.")]
    html, seen, _ = await asked(settings, turns, *Ledger().tools(), prompt="Pay.")
    assert html.startswith("<!doctype html>")
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert not [e for e in seen.walk() if {"src", "srcset", "data", "action"} & e.attributes.keys()]
    policy = seen.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inside = "".join(seen.one(tag).texts())
        digest = base64.b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [e.tag for e in seen.walk() if "style" in e.attributes], "the policy lets none in"


async def test_a_page_can_be_found_ones_way_in(settings: Settings) -> None:
    turns = [turn(pay={"amount": 3}), turn("It is paid.")]
    _, seen, _ = await asked(settings, turns, *Ledger().tools(), prompt="Pay.")
    assert seen.one("html").attributes["lang"] == "en"
    assert [len(seen.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    levels = [int(e.tag[1]) for e in seen.walk() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [e.attributes["id"] for e in seen.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = [e.attributes["href"] for e in seen.all("a")]
    assert len(links) > 6
    assert {link.removeprefix("#") for link in links} <= set(ids)
    for field in seen.all("input"):
        inside = [label for label in seen.all("label") if field in label.all("input")]
        named = [
            label
            for label in seen.all("label")
            if label.attributes.get("for") == field.attributes.get("id")
        ]
        assert inside or named


HOSTILE = (
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "</pre></details></style><style>*{display:none}</style>",
    "\"' autofocus onfocus=alert(1) x='",
    "]]><!-- <iframe srcdoc='<script>1</script>'>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_a_run_says_stays_text(settings: Settings, text: str) -> None:
    def echo(word: str) -> str:
        """Say it again."""
        return word

    turns = [turn(text, echo={"word": text}), turn(text)]
    _, seen, _ = await asked(settings, turns, echo, prompt=f"Say {text}")
    plain = read_page(render_html(RUN, [effect(1, "1.tools[0]#0", 0, 1)], ()))
    foreign = {e.tag for e in seen.walk()} - {e.tag for e in plain.walk()}
    assert foreign <= {"ol", "rect", "text", "small", "code"}
    assert len(seen.all("script")) == len(seen.all("style")) == 1
    names = {name for e in seen.walk() for name in e.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("autofocus", "srcdoc")]
    links = [e.attributes["href"] for e in seen.all("a")]
    assert all(link.startswith("#") for link in links)
    flat = " ".join(text.split())
    for part in ("conversation", "effects"):
        assert seen.one("section", id=part).text.count(flat) >= 3
    assert "49" not in seen.one("h1").text


def test_hostile_names_and_errors_stay_text() -> None:
    bad = "<b onclick=x>&amp;"
    run = replace(RUN, agent=bad, model=bad, status="failed", error=bad, origin=bad, parent=bad)
    fields = {"name": bad, "kind": bad, "status": bad, "request": {bad: bad}, "result": [bad]}
    seen = page_of([effect(1, f"1.{bad}#0", 0, 5, **fields)], run)
    assert not [e for e in seen.walk() if "onclick" in e.attributes]
    assert bad in seen.one(name="problem").text
    assert seen.one("li", "effect").attributes["data-kind"] == bad


def test_characters_that_deceive_are_written_out() -> None:
    text = "safe\u202etxt.exe\u2066 \x1b[31mred \u200bzero \U000e0041tag \ud800half"
    result = {"text": text, "structured": None, "is_error": False, "dropped": 0}
    html = render_html(replace(RUN, prompt=text), [effect(1, "1.t[0]#0", 0, 1, result=result)], ())
    assert not re.search("[\u202e\u2066\x1b\u200b\U000e0041\ud800]", html)
    html.encode()  # a half of a surrogate pair would not fit into a file
    assert r"safe\u202etxt.exe\u2066 \x1b[31mred" in read_page(html).one("h1").text


def test_a_huge_result_is_cut_and_the_cut_is_told() -> None:
    text = f"the beginning {'x' * 5_000_000} the end"
    result = {"text": text, "structured": {"all": text}, "is_error": False, "dropped": 0}
    html = render_html(RUN, [effect(1, "1.tools[0]#0", 0, 1, result=result)], ())
    assert len(html) < 200_000
    listed = read_page(html).one("section", id="effects")
    cut = listed.all(name="cut")[0].text
    shown = sum(len("".join(pre.texts())) for pre in listed.all("pre")[1:3])
    assert cut == f"{len(text) - shown:,} characters are left out here"
    assert "the beginning" in listed.text
    assert "the end" in listed.text


def test_many_long_results_share_the_room() -> None:
    result = {"text": "y" * 60_000, "structured": None, "is_error": False, "dropped": 0}
    effects = [effect(n, f"{n}.tools[0]#0", n * 10, 5, result=result) for n in range(1, 501)]
    html = render_html(RUN, effects, ())
    assert 4_000_000 < len(html) < 12_000_000


@pytest.mark.slow
def test_ten_thousand_effects_fit_into_a_page() -> None:
    effects = []
    for n in range(1, 10_001):
        step, send = divmod(n - 1, 2)
        effects.append(effect(n, f"{step + 1}.tools[{send}]#0", step * 20, 15))
    html = render_html(RUN, effects, ())
    assert len(html) < 15_000_000
    assert html.count('<li class="effect') == 10_000
    assert "9,401 turns are left out here" in html
    assert html.count('<rect class="bar') < 5_000


def bars(seen: Element) -> dict[int, tuple[float, float, float]]:
    """Left, width and top of each effect's bar."""
    found = {}
    for link in seen.one(name="drawing").all("a"):
        bar = link.all("rect", "bar")[0].attributes
        x, width = (float(bar[name].rstrip("%")) for name in ("x", "width"))
        found[int(link.attributes["href"].removeprefix("#e"))] = (x, width, float(bar["y"]))
    return found


def test_what_ran_at_once_is_on_lanes_and_sub_agents_hold_what_they_did() -> None:
    agent = {"kind": "agent", "name": "clerk", "request": {"agent": "clerk", "args": {"task": "x"}}}
    effects = [
        effect(1, "1.model#0", 0, 100, kind="model", name="scripted"),
        effect(2, "2.tools[0]#0", 100, 300),
        effect(3, "2.tools[1]#0", 101, 100),
        effect(4, "2.tools[2]#0", 102, 400, **agent),
        effect(5, "2.tools[2]#0/1.tools[0]#0", 110, 150),
        effect(6, "2.tools[2]#0/1.tools[1]#0", 112, 150),
        effect(7, "3.model#0", 510, 100, kind="model", name="scripted"),
    ]
    seen = page_of(effects)
    place = bars(seen)
    assert place[1][2] == place[2][2] == place[7][2]
    assert len({place[n][2] for n in (2, 3, 4, 5, 6)}) == 5
    assert place[4][2] < place[5][2] < place[6][2]
    assert place[1][0] == 0
    assert place[7][0] + place[7][1] == pytest.approx(100, abs=0.1)
    assert place[2][1] == pytest.approx(3 * place[3][1], rel=0.05)
    turns = seen.one("section", id="conversation").one("li", "agent")
    assert len(turns.all("li", "tool")) == 2


def test_a_long_wait_does_not_squash_the_rest() -> None:
    hours = 5 * 3600 * 1000
    effects = [
        effect(1, "1.model#0", 0, 1000, kind="model", name="scripted"),
        effect(
            2, "2.tools[0]#0/approval", 1000, None, kind="approval", result={"status": "denied"}
        ),
        effect(3, "2.tools[0]#0", 1010 + hours, 500),
        effect(4, "3.model#0", 1520 + hours, 1000, kind="model", name="scripted"),
    ]
    seen = page_of(effects, replace(RUN, finished_at=at(2600 + hours)))
    place = bars(seen)
    assert place[1][1] > 30
    assert place[4][1] > 30
    assert 0 < place[2][1] < 10
    assert "5 h 0 min" in seen.one(name="drawing").text
    figures = {div.one("dt").text: div.one("dd").text for div in seen.one("dl").all("div")}
    assert figures["Wall time"] == "5 h 0 min5 h 0 min of it for an answer"


def test_a_damaged_entry_and_an_open_one_are_shown_as_such() -> None:
    effects = [
        effect(1, "1.model#0", 0, None, kind="model", status="started", result=None),
        effect(2, "2.tools[0]#0", 5, 1, request={"damaged": '{"too'}, result={"damaged": "gone"}),
        effect(
            3, "3.tools[0]#0", 9, 1, status="failed", result={"type": "ModelError", "error": "no"}
        ),
    ]
    seen = page_of(effects, replace(RUN, status="running"))
    items = seen.all("li", "effect")
    assert "started" in items[0].one("summary").text
    assert 'Request (damaged) {"too' in items[1].text
    assert "Result (damaged) gone" in items[1].text
    assert "ModelError: no" in items[2].text
    assert "wrong" in items[2].attributes["class"]


def test_a_run_without_effects_has_a_page() -> None:
    seen = page_of([], replace(RUN, status="failed", error="It could not begin."))
    assert "It could not begin." in seen.one(name="problem").text
    assert "Do it." in seen.one("section", id="conversation").text


async def test_a_fork_says_what_it_shares(settings: Settings) -> None:
    turns = [turn("Let me see.", balance={}), turn("Nothing is paid.")]
    options = corral.RunOptions(agent=scripted(turns, *Ledger().tools()))
    async with corral.open(settings) as c:
        parent = await c.run("Look.", options)
        last = (await c.records.trace(parent.run))[-1].seq
        fork = await c.fork(parent.run, corral.Fork(at=last, result="Something."), options)
        _, seen = await page(c, fork.run)
    facts = " ".join(element.text for element in seen.all(name="facts"))
    assert f"A fork of the run {parent.run}, from which it parted at effect {last}." in facts
    shared = seen.all("li", "shared")
    assert len(shared) == last - 1
    assert all(f"made by the run {parent.run}" in item.text for item in shared)
    assert f"The {last - 1} effects that it shares" in seen.one("section", id="timeline").text
