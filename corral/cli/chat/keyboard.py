"""Where the REPL's lines come from: a terminal with editing and history, or a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from corral.errors import StorageError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

PROMPT = "» "


class Keyboard(Protocol):
    """Reads prompts and answers. ``None`` stands for the end of input (Ctrl-D)."""

    async def prompt(self) -> str | None:
        """The next prompt, which may have several lines. Raises ``KeyboardInterrupt``."""
        ...

    async def ask(self, question: str, default: str = "") -> str | None:
        """The answer to ``question``, to be edited from ``default``; ``None`` at Ctrl-C too."""
        ...


def open_keyboard(history: Path) -> Keyboard:
    """A ``Terminal`` when a person sits there, else ``Pipe``.

    Raises ``StorageError`` when the history file cannot be kept.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return Terminal(history)
    return Pipe()


class Terminal:
    """A line editor: Enter sends, Alt-Enter or a closing ``\\`` starts a new line."""

    def __init__(self, history: Path) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory

        _prepare(history)
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history)),
            multiline=True,
            key_bindings=_bindings(),
            prompt_continuation="  ",
            enable_open_in_editor=True,
        )
        self._questions: PromptSession[str] = PromptSession()

    async def prompt(self) -> str | None:
        """See ``Keyboard``."""
        try:
            return await self._session.prompt_async(PROMPT)
        except EOFError:
            return None

    async def ask(self, question: str, default: str = "") -> str | None:
        """See ``Keyboard``. Keys pressed before the question was shown do not answer it."""
        self._forget_typed_ahead()
        try:
            return await self._questions.prompt_async(question, default=default)
        except (EOFError, KeyboardInterrupt):
            return None

    def _forget_typed_ahead(self) -> None:
        """Drop keys pressed before the question was on the screen: they do not answer it."""
        import termios

        from prompt_toolkit.input.typeahead import clear_typeahead

        clear_typeahead(self._questions.input)
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _prepare(history: Path) -> None:
    """Make the history file, readable by its owner only: prompts are private."""
    try:
        history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(history, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
    except OSError as error:
        raise StorageError(
            f"The prompt history {history} cannot be written: {error.strerror}.",
            hint="Choose another folder with --home or CORRAL_HOME.",
        ) from error


def _bindings() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    bindings = KeyBindings()

    @bindings.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @bindings.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return bindings


class Pipe:
    """Lines of standard input: a prompt each, and an answer each when a question is open.

    A thread reads the descriptor itself, because a thread that holds ``sys.stdin`` when the
    interpreter ends makes it abort.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        threading.Thread(target=self._read, name="corral-stdin", daemon=True).start()

    async def prompt(self) -> str | None:
        """See ``Keyboard``: one line, and those after it while they end in ``\\``."""
        whole: list[str] = []
        while (line := await self._lines.get()) is not None:
            if not line.endswith("\\"):
                return "\n".join([*whole, line])
            whole.append(line[:-1])
        self._lines.put_nowait(None)  # the end stays the end
        return "\n".join(whole) if whole else None

    async def ask(self, question: str, default: str = "") -> str | None:
        """See ``Keyboard``: the next line. An empty one stands for ``default``."""
        sys.stdout.write(question)
        sys.stdout.flush()
        line = await self._lines.get()
        if line is None:
            self._lines.put_nowait(None)
        sys.stdout.write("\n" if line is None else f"{line}\n")
        sys.stdout.flush()
        return line or default if line is not None else None

    def _read(self) -> None:
        rest = b""
        while block := _read_block(self._descriptor):
            *whole, rest = (rest + block).split(b"\n")
            for line in whole:
                self._give(line.decode("utf-8", "replace").rstrip("\r"))
        if rest:
            self._give(rest.decode("utf-8", "replace"))
        self._give(None)

    def _give(self, line: str | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)


def _read_block(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
