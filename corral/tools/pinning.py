"""What of a server's tools is offered: those that are as they were when they were trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.tools.definitions import Listing
from corral.tools.pins import Pins, PinStore, compare, texts_of
from corral.tools.suspicion import suspicions
from corral.tools.text import one_line
from corral.tools.wire import Declared

_SHOWN = 8


@dataclass(frozen=True)
class Pinning:
    """Holds what one server declares against what is trusted of it."""

    server: str
    store: PinStore

    async def screened(
        self, listing: Listing, declared: Sequence[Declared], instructions: str
    ) -> Listing:
        """The usable tools without those that wait for trust, which become problems.

        At the first use of a server its tools are pinned, all but those that look as if they were
        written to deceive. Raises ``StorageError``.
        """
        usable = [spec.tool for spec in listing.specs]
        now = Pins.of(self.server, declared, instructions).only(usable)
        trusted = await self.store.load(self.server)
        if trusted is None:
            trusted = await self.store.first(now.only(_harmless(now)))
        differs = compare(trusted, now)
        withheld = {*differs.new, *differs.changed}
        if not withheld:
            return listing
        return Listing(
            tuple(spec for spec in listing.specs if spec.tool not in withheld),
            (*listing.problems, self._words(now, differs.changed, differs.new)),
            frozenset(withheld),
        )

    def _words(self, now: Pins, changed: Sequence[str], new: Sequence[str]) -> str:
        """Why tools are not offered, and what to do about it."""
        deceiving = [name for name in new if _why(now, name)]
        added = [name for name in new if name not in deceiving]
        said = [
            f"{_named(changed)} changed since you trusted {_it(changed)}" if changed else "",
            f"{_named(added)} came since you trusted the server" if added else "",
            *(f"{one_line(name, 80)} is suspicious: it {_why(now, name)}" for name in deceiving),
        ]
        what = "; ".join(words for words in said if words)
        return (
            f"{self.server}: not offered until you trust it: {what}. "
            f"`corral mcp trust {self.server}` shows it and asks."
        )


def _harmless(pins: Pins) -> list[str]:
    return [name for name in pins.tools if not _why(pins, name)]


def _why(pins: Pins, name: str) -> str:
    return "; ".join(suspicions(texts_of(pins.tools[name].definition)))


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name, 80) for name in names[:_SHOWN])
    more = len(names) - _SHOWN
    return shown if more <= 0 else f"{shown} and {more:,} more"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
