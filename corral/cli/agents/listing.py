"""The agents that there are, one a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.cli.agents.places import line_of, place_of
from corral.cli.output import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from corral.agents.files.catalog import Catalog, Entry
    from corral.jsontypes import JsonObject
    from corral.runtime.config import Settings


@dataclass(frozen=True)
class Row:
    """An agent, or a file that is not used; ``problem`` is the first of ``problems``."""

    entry: Entry
    model: str
    used: bool

    @property
    def problem(self) -> str:
        """Why it cannot be used, in a sentence."""
        if not self.entry.problems:
            return ""
        first, count = self.entry.problems[0], len(self.entry.problems)
        where = f"line {first.line}: " if first.line else ""
        key = f"{first.key}: " if first.key else ""
        more = f" (and {count - 1} more)" if count > 1 else ""
        return f"{where}{key}{first.message}{more}"

    def to_json(self) -> JsonObject:
        """The row as a JSON object."""
        entry, config = self.entry, self.entry.config
        return {
            "name": entry.name,
            "pattern": config.pattern if config else None,
            "model": self.model if config else None,
            "description": config.description if config else "",
            "owner": entry.owner,
            "file": str(entry.file) if entry.file else None,
            "line": line_of(entry),
            "used": self.used,
            "problems": [problem.to_json() for problem in entry.problems],
        }


def rows(catalog: Catalog, settings: Settings) -> Iterator[Row]:
    """All agents by name, then the files that are not used."""
    for entry in (*catalog.entries, *catalog.unused):
        own = entry.config.model if entry.config is not None else None
        yield Row(entry, own or settings.model, used=entry not in catalog.unused)


def drawn(found: Iterable[Row]) -> Table:
    """The rows as a table; what is wrong stands in the place of the description."""
    from corral.cli.render import status, table

    listed = table("name", "pattern", "model", "from", "description")
    for row in found:
        place = clean(place_of(row.entry))
        if row.entry.config is None:
            text = status("failed")
            text.append(f": {clean(row.problem)}", style="")
            listed.add_row(clean(row.entry.name), "", "", place, text)
        else:
            config = row.entry.config
            described = one_line(config.description, 90)
            listed.add_row(
                clean(row.entry.name), clean(config.pattern), clean(row.model), place, described
            )
    return listed
