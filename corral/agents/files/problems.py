"""What is wrong with an agent's file: where, what, and what to write instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corral.errors import ConfigError
from corral.jsontypes import JsonObject


@dataclass(frozen=True)
class Problem:
    """One mistake. ``line`` and ``key`` are ``None`` and empty where it is the whole file's."""

    file: Path | None
    line: int | None
    key: str
    message: str
    hint: str

    @property
    def where(self) -> str:
        """File, line and key, as far as there are any."""
        place = str(self.file or "the settings")
        if self.line is not None:
            place += f", line {self.line}"
        return f"{place}: {self.key}" if self.key else place

    def error(self, *, others: int = 0) -> ConfigError:
        """The error of whoever wants the agent; ``others`` is how many problems there are more."""
        more = f" There {_are(others)} more." if others else ""
        return ConfigError(f"{self.where}: {self.message}.{more}", hint=self.hint)

    def to_json(self) -> JsonObject:
        """The problem as a JSON object."""
        file = str(self.file) if self.file is not None else None
        return {**vars(self), "file": file}


def _are(count: int) -> str:
    return "is 1 problem" if count == 1 else f"are {count} problems"
