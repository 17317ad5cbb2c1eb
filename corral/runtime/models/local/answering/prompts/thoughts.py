"""How a model writes what it thinks before it answers, as far as its template shows it."""

from __future__ import annotations

from dataclasses import dataclass

_PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
_HARMONY = "<|channel|>"


@dataclass(frozen=True)
class Thoughts:
    """``open`` stands before thoughts and ``close`` after them.

    ``inside`` tells that the prompt has opened them already. ``headings`` are what may stand
    between them and the answer's text, and are no part of it; ``heading`` has to stand there where
    the model is not asked.
    """

    open: str
    close: str
    inside: bool = False
    gap: str = ""
    headings: tuple[str, ...] = ()
    heading: str = ""


def thoughts(template: str, prompt: str) -> Thoughts | None:
    """How a model with this template thinks after this prompt; ``None``: it does not."""
    if _HARMONY in template and f"{_HARMONY}analysis" in template:
        return Thoughts(
            open=f"{_HARMONY}analysis<|message|>",
            close="<|end|>",
            gap="<|start|>assistant",
            headings=("<|start|>assistant", f"{_HARMONY}final<|message|>"),
            heading=f"{_HARMONY}final<|message|>",
        )
    for opening, closing in _PAIRS:
        if closing not in template:
            continue
        end = prompt.rstrip()
        if end.endswith(closing):
            return None
        return Thoughts(opening, closing, end.endswith(opening), _gap(template, closing))
    return None


def _gap(template: str, closing: str) -> str:
    """The lines that a template leaves empty behind thoughts, in its own escapes or as they are."""
    breaks = max(
        (count for count in (1, 2) for line in ("\\n", "\n") if closing + line * count in template),
        default=0,
    )
    return "\n" * breaks
