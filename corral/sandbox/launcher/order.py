"""The launcher's order: what a back end asks of it, as JSON in one environment variable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

VARIABLE = "CORRAL_SANDBOX_ORDER"


class Bind(NamedTuple):
    """One folder or file of the host at a path inside. ``private`` ones are the user's own:
    started by root, they are staged for the sandbox's user; the system's are readable by all.
    """

    source: str
    target: str
    writable: bool = False
    private: bool = True


class Order(NamedTuple):
    """How one sandbox is made. ``bwrap`` empty means: no sandbox, only the supervision.

    ``options`` and ``closing`` are bubblewrap's before and after the binds and files. ``seccomp``
    is base64. ``environment`` counts only without a sandbox. Sizes in bytes, times in seconds.
    """

    argv: Sequence[str]
    memory: int
    cpu_seconds: int
    bwrap: str = ""
    bwrap_folder: str = ""
    options: Sequence[str] = ()
    binds: Sequence[Bind] = ()
    files: Mapping[str, str] = MappingProxyType({})
    closing: Sequence[str] = ()
    seccomp: str = ""
    environment: Mapping[str, str] = MappingProxyType({})
    workdir: str = ""

    def to_text(self) -> str:
        """This order as JSON."""
        return json.dumps(self._asdict(), default=dict)

    @classmethod
    def from_text(cls, text: str) -> Order:
        """Read what ``to_text`` wrote."""
        data: dict[str, Any] = json.loads(text)
        data["binds"] = [Bind(*bind) for bind in data["binds"]]
        return cls(**data)
