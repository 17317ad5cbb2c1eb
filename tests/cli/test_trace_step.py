"""`corral trace RUN --step`, in a terminal, driven by keys."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

import pexpect
import pytest

import corral
from tests.cli.place import Place
from tests.runtime.agents import scripted, turn

_CONTROL = re.compile(
    r"\x1b\[([\d;?]*) ?([A-Za-z])|\x1b[=>78]|\x1b\][^\x07]*\x07|\r|\n|\x08|[^\x1b]"
)


class Screen:
    """What a terminal shows, from what was written to it: as much of one as is used here."""

    def __init__(self, rows: int, columns: int) -> None:
        self._size = (rows, columns)
        self._row = self._column = 0
        self._rest = ""
        self._clear()

    def _clear(self) -> None:
        rows, columns = self._size
        self._cells = [[" "] * columns for _ in range(rows)]

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def write(self, text: str) -> None:
        text = self._rest + text
        end = 0
        for match in _CONTROL.finditer(text):
            if match.start() != end:
                break  # an escape sequence that has not come whole yet
            end = match.end()
            self._one(match)
        self._rest = text[end:]

    def _one(self, match: re.Match[str]) -> None:
        text = match.group()
        if match[2]:
            self._sequence(match[1], match[2])
        elif text == "\r":
            self._column = 0
        elif text == "\n":
            self._row = min(self._row + 1, self._size[0] - 1)
        elif text == "\x08":
            self._column = max(0, self._column - 1)
        elif text >= " " and not text.startswith("\x1b"):
            self._column = min(self._column, self._size[1] - 1)
            self._cells[self._row][self._column] = text
            self._column += 1

    def _sequence(self, given: str, name: str) -> None:
        count = int(given) if given.isdecimal() else 1
        rows, columns = self._size
        match name:
            case "A" | "B":
                self._row = max(0, min(rows - 1, self._row + (count if name == "B" else -count)))
            case "C" | "D":
                moved = self._column + (count if name == "C" else -count)
                self._column = max(0, min(columns - 1, moved))
            case "H":
                self._row, self._column = 0, 0
            case "J" if given == "2":
                self._clear()
            case "J" | "K":
                self._cells[self._row][self._column :] = [" "] * (columns - self._column)
                for row in self._cells[self._row + 1 :] if name == "J" else ():
                    row[:] = [" "] * columns


class Walk:
    """``corral trace last --step`` on a terminal."""

    def __init__(self, place: Place, size: tuple[int, int] = (40, 120)) -> None:
        argv = place.command("trace", "last", "--step")
        self._screen = Screen(*size)
        self.child = pexpect.spawn(
            argv[0],
            argv[1:],
            env={**place.env, "TERM": "xterm"},
            encoding="utf-8",
            timeout=60,
            dimensions=size,
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self.child.send(key)

    def see(self, *texts: str, gone: str | None = None) -> list[str]:
        """Wait until the screen holds all texts, top to bottom, and not ``gone``; its lines."""
        until = time.monotonic() + 60
        while not self._holds(texts, gone):
            assert time.monotonic() < until, "\n".join([f"not seen: {texts}", *self._screen.lines])
            with contextlib.suppress(pexpect.TIMEOUT):
                self._screen.write(self.child.read_nonblocking(65536, timeout=1))
        return self._screen.lines

    def _holds(self, texts: tuple[str, ...], gone: str | None) -> bool:
        at, shown = 0, "\n".join(self._screen.lines)
        for text in texts:
            found = shown.find(text, at)
            if found < 0:
                return False
            at = found + len(text)
        return gone is None or gone not in shown

    def leave(self, key: str = "q") -> None:
        self.press(key)
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert self.child.exitstatus == 0


@pytest.fixture
def paid(place: Place) -> Place:
    """A run of two payments, the second of which waits for an answer, and a failing look."""

    def look(where: str) -> str:
        """Look."""
        raise ValueError(f"nothing in {where}")

    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    async def make() -> None:
        agent = scripted(
            [
                turn("I pay one.", pay={"amount": 1}),
                turn("Once more.", pay={"amount": 2}, look={"where": "safe"}),
            ],
            pay,
            look,
        )
        rules = [
            {"tool": "functions__pay", "args": {"amount": "1"}, "action": "allow"},
            {"tool": "functions__look", "action": "allow"},
        ]
        settings = corral.load_settings(
            {"home": place.home, "workspace": place.workspace, "rules": rules}
        )
        async with corral.open(settings) as c:
            result = await c.run("Pay twice", corral.RunOptions(agent=agent))
            assert result.status == "paused"

    asyncio.run(make())
    return place


def test_forward_back_and_to_both_ends(paid: Place) -> None:
    walk = Walk(paid)
    walk.see("1 of 6  Pay twice", "effect 1  prepare assistant", "spent so far: 0 model calls")
    walk.press("\x1b[C")
    walk.see("2 of 6", "effect 2  model scripted", "spent so far: 1 model call · 0 tool calls")
    walk.press("n", "j")
    walk.see("4 of 6", "spent so far: 2 model calls · 1 tool call")
    walk.press("p")
    walk.see("3 of 6", "effect 3  tool functions__pay(amount=1)", "paid 1")
    walk.press("\x1b[F")
    walk.see("6 of 6", "waits for an answer: functions__pay(amount=2)", "nothing in safe")
    walk.press("\x1b[C")
    walk.see("6 of 6")
    walk.press("g")
    walk.see("1 of 6")
    walk.leave()


@pytest.mark.slow
def test_the_conversation_as_it_was_at_each_point(paid: Place) -> None:
    walk = Walk(paid)
    walk.see("conversation before the first model call: 1 message", "user: Pay twice")
    walk.press("3", "\r")
    walk.see("3 of 6", "conversation of scripted (effect 2): 4 messages", "user: Pay twice")
    later = "Once more."
    walk.see("3 of 6", "→ functions__pay(amount=1)", "tool functions__pay: paid 1", gone=later)
    walk.press("4", "\r")
    walk.see("(effect 4): 5 messages", "assistant:", "Once more.", "→ functions__pay(amount=2)")
    walk.press("G", "\t")
    title = "conversation of scripted (effect 4): 6 messages"
    walk.see("6 of 6", title, "nothing in safe", gone="spent so far")
    walk.press("\t")
    walk.see("spent so far")
    walk.leave("\x03")


@pytest.mark.slow
def test_jump_and_search(paid: Place) -> None:
    walk = Walk(paid)
    walk.see("1 of 6")
    walk.press("5", "\r")
    walk.see("5 of 6")
    walk.press("9", "9", "\r")
    walk.see("5 of 6", "There is no effect 99; they are numbered 1 to 6.")
    walk.press("/", "P", "A", "I", "D", "x", "\x7f", "\r")
    walk.see("3 of 6", "/PAID")
    walk.press("/", "\r")
    walk.see("4 of 6")
    walk.press("/", "z", "z", "z", "\r")
    walk.see("4 of 6", "No effect holds “zzz”.")
    walk.press("/", "a", "\x1b")
    walk.see("Home End")
    walk.leave("\x1b")


@pytest.mark.slow
def test_a_narrow_terminal(paid: Place) -> None:
    walk = Walk(paid, size=(24, 60))
    walk.press("G")
    shown = walk.see("6 of 6", "effect 6")
    assert "─" * 60 in shown
    assert max(map(len, shown)) <= 60
    walk.press(" ")
    walk.see("user: Pay twice")
    walk.leave()


def test_a_terminal_that_cannot_draw(paid: Place) -> None:
    argv = paid.command("trace", "last", "--step")
    child = pexpect.spawn(argv[0], argv[1:], env={**paid.env, "TERM": "dumb"}, timeout=60)
    child.expect_exact("TERM=dumb")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 2
