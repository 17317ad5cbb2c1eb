"""``corral trace --step``: a run walked through effect by effect, forward and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import Application
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from rich.cells import set_cell_size

from corral.cli.context import open_records, wait
from corral.cli.output import clean, note
from corral.cli.trace.data import load
from corral.cli.trace.panes import Panes, holds
from corral.cli.trace.state import History
from corral.cli.trace.summary import Line, fitted, standing_word
from corral.cli.trace.tree import to_ascii
from corral.errors import UsageError

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples

WIDE = 100
"""Columns from which on the effects stand beside the state and not above it."""

KEYS = (
    "←→ step · Home End · 12⏎ effect · / search · Tab conversation · a all · PgDn scroll · q quit"
)

_STYLES = {
    "dim": "fg:ansibrightblack",
    "cyan": "fg:ansicyan",
    "green": "fg:ansigreen",
    "magenta": "fg:ansimagenta",
    "yellow": "fg:ansiyellow",
    "red": "fg:ansired",
    "blue": "fg:ansiblue",
}


def walk(run: str) -> int:
    """Walk through a run until the user leaves. Raises ``UsageError`` on a dumb terminal."""
    if os.environ.get("TERM", "dumb") == "dumb":
        raise UsageError(
            "--step draws on the whole terminal, which this one (TERM=dumb) cannot show.",
            hint="Use `corral trace RUN --full` here.",
        )
    return wait(_walk(run))


async def _walk(run: str) -> int:
    async with open_records() as records:
        trace = await load(records, run)
    if not trace.effects:
        note(f"The journal of the run {trace.run.run} is empty: there is nothing to walk through.")
        return 0
    await Walk(History(trace)).application().run_async()
    return 0


class Walk:
    """Where the user is in a run, and what the keys do."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._panes = Panes(history)
        self._at = 0
        self._scroll = 0
        self._in_conversation = False
        self._typed: str | None = None
        self._searched = ""
        self._said = ""
        self._page = 1

    def application(self) -> Application[None]:
        """The full screen, with its keys."""
        window = Window(FormattedTextControl(self._draw, focusable=True, show_cursor=False))
        return Application(
            layout=Layout(window),
            key_bindings=self._bindings(),
            full_screen=True,
            mouse_support=False,
        )

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        moving = Condition(lambda: self._typed is None)
        typing = Condition(lambda: self._typed is not None)
        last = len(self._history.effects) - 1
        moves: dict[tuple[str, ...], Callable[[], None]] = {
            ("right", "down", "n", "j", "l"): lambda: self._go(self._at + 1),
            ("left", "up", "p", "k", "h"): lambda: self._go(self._at - 1),
            ("home", "g"): lambda: self._go(0),
            ("end", "G"): lambda: self._go(last),
            ("pagedown", " ", "c-d"): lambda: self._scroll_by(self._page),
            ("pageup", "b", "c-u"): lambda: self._scroll_by(-self._page),
            ("tab", "c"): self._turn,
            ("a",): self._show_all,
        }
        for keys, move in moves.items():
            for key in keys:
                bindings.add(key, filter=moving)(lambda _event, move=move: move())
        for key in ("/", ":", *"0123456789"):
            bindings.add(key, filter=moving)(self._begin_typing)
        bindings.add(Keys.Any, filter=typing)(self._type)
        bindings.add("backspace", filter=typing)(lambda _event: self._erase())
        for key in ("enter", "c-j"):
            bindings.add(key, filter=typing)(lambda _event: self._entered())
        bindings.add("escape", filter=typing, eager=True)(lambda _event: self._give_up_typing())
        for key in ("q", "escape"):
            bindings.add(key, filter=moving)(lambda event: event.app.exit())
        bindings.add("c-c")(lambda event: event.app.exit())
        bindings.add("c-l")(lambda event: event.app.renderer.clear())
        return bindings

    def _go(self, to: int) -> None:
        """Go to a point; at either end, stay."""
        self._at = max(0, min(to, len(self._history.effects) - 1))
        self._scroll = 0
        self._said = ""

    def _scroll_by(self, lines: int) -> None:
        self._scroll += lines

    def _turn(self) -> None:
        """Show the conversation alone, or the whole state again."""
        self._in_conversation = not self._in_conversation
        self._scroll = 0

    def _show_all(self) -> None:
        self._panes.everything = not self._panes.everything

    def _begin_typing(self, event: KeyPressEvent) -> None:
        key = event.data
        self._said = ""
        self._typed = key if key in "/:" else f":{key}"

    def _type(self, event: KeyPressEvent) -> None:
        if event.data.isprintable():
            self._typed = (self._typed or "") + event.data

    def _erase(self) -> None:
        self._typed = (self._typed or "")[:-1] or None

    def _give_up_typing(self) -> None:
        self._typed = None

    def _entered(self) -> None:
        typed, self._typed = self._typed or "", None
        if typed.startswith("/"):
            self._search(typed[1:] or self._searched)
        else:
            self._jump(typed[1:].strip())

    def _jump(self, number: str) -> None:
        at = self._history.index.get(int(number)) if number.isdecimal() else None
        if at is not None:
            self._go(at)
        elif number:
            first, last = self._history.effects[0].seq, self._history.effects[-1].seq
            self._said = f"There is no effect {number}; they are numbered {first} to {last}."

    def _search(self, text: str) -> None:
        """Go to the next effect that holds a text, from the top again after the last."""
        self._searched = text
        effects = self._history.effects
        for step in range(1, len(effects) + 1) if text else ():
            at = (self._at + step) % len(effects)
            if holds(effects[at], text):
                self._go(at)
                self._said = f"/{text}  (/ Enter: next)"
                return
        self._said = f"No effect holds “{text}”." if text else "Nothing to search for."

    def _draw(self) -> StyleAndTextTuples:
        size = self._size()
        width, height = max(20, size[0]), max(6, size[1])
        lines = [self._top(width), *self._middle(width, height - 2), self._bottom(width)]
        drawn: StyleAndTextTuples = []
        for number, line in enumerate(lines):
            drawn += [(_style(style), _shown(text)) for text, style in line]
            if number < len(lines) - 1:
                drawn.append(("", "\n"))
        return drawn

    def _size(self) -> tuple[int, int]:
        from prompt_toolkit.application import get_app

        size = get_app().output.get_size()
        return size.columns, size.rows

    def _top(self, width: int) -> Line:
        trace, count = self._history.trace, len(self._history.effects)
        text = f" run {trace.run.run}  {standing_word(trace)}  {self._at + 1} of {count}"
        prompt = f"  {clean(' '.join(trace.run.prompt[:400].split()))}"
        return [(set_cell_size(fitted(text + prompt, width), width), "reverse")]

    def _middle(self, width: int, height: int) -> list[Line]:
        if width >= WIDE:
            left = min(width * 2 // 5, 60)
            effects = self._panes.effects(self._at, left, height)
            state = self._state(width - left - 2, height)
            effects += [[(" " * left, "")]] * (height - len(effects))
            state += [[]] * (height - len(state))
            return [[*a, ("│ ", "dim"), *b] for a, b in zip(effects, state, strict=True)]
        above = max(3, min(height // 3, len(self._history.effects)))
        effects = self._panes.effects(self._at, width, above)
        state = self._state(width, height - above - 1)
        state += [[]] * (height - above - 1 - len(state))
        return [*effects, [("─" * width, "dim")], *state]

    def _state(self, width: int, height: int) -> list[Line]:
        """The part of the state that is scrolled to. A conversation is read from its end."""
        self._page = max(1, height - 2)
        if self._in_conversation:
            lines = self._panes.conversation(self._at, width)
            most = max(0, len(lines) - height)
            self._scroll = max(-most, min(self._scroll, 0))
            first = most + self._scroll
        else:
            lines = self._panes.state(self._at, width)
            most = max(0, len(lines) - height)
            self._scroll = first = max(0, min(self._scroll, most))
        return lines[first : first + height]

    def _bottom(self, width: int) -> Line:
        if self._typed is not None:
            names = {"/": "search: ", ":": "effect: "}
            text = f" {names[self._typed[0]]}{self._typed[1:]}█"
        else:
            text = f" {self._said or KEYS}"
        return [(set_cell_size(fitted(text, width), width), "reverse")]


def _style(style: str) -> str:
    return " ".join(_STYLES.get(word, word) for word in style.split())


def _shown(text: str) -> str:
    """The text as this terminal's encoding can show it."""
    encoding: Any = sys.stdout.encoding
    is_unicode = str(encoding).lower().replace("-", "") == "utf8"
    return text if is_unicode else to_ascii(text)
