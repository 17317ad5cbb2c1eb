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

    One without a ``source`` is an empty folder, that hides what the host has at that path.
    """

    source: str
    target: str
    writable: bool = False
    private: bool = True


class Program(NamedTuple):
    """What a process becomes: a program by its path or descriptor, its argv and environment.

    A ``workdir`` that is empty is left as it is.
    """

    program: str | int
    argv: Sequence[str]
    environment: Mapping[str, str]
    workdir: str = ""


class Order(NamedTuple):
    """How one sandbox is made. ``bwrap`` empty means: no sandbox, only the supervision.

    ``options`` and ``closing`` are bubblewrap's before and after the binds and files. ``seccomp``
    is base64. ``environment`` counts where bubblewrap sets none. ``rlimits`` are set before the
    command starts, by the name that follows ``RLIMIT_``. Sizes in bytes, times in seconds.
    ``wall_seconds`` and ``written`` are 0 for no limit; ``writable`` are the folders whose growth
    ``written`` bounds. ``scratch`` are folders that are removed when nothing runs any more;
    ``private`` is the one of them that is made for the sandbox to work in, ``tmp_size`` the size
    of each temporary folder of its own; ``processes`` bounds a group of the kernel's (0: no limit),
    where one can be made. ``landlock`` confines
    by that, with the ``system``'s folders readable; ``runsc`` is a gVisor program and ``config``
    the OCI configuration of its container.
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
    wall_seconds: float = 0.0
    written: int = 0
    writable: Sequence[str] = ()
    scratch: Sequence[str] = ()
    rlimits: Mapping[str, int] = MappingProxyType({})
    private: str = ""
    tmp_size: int = 0
    processes: int = 0
    landlock: bool = False
    system: Sequence[str] = ()
    runsc: str = ""
    config: str = ""

    def to_text(self) -> str:
        """This order as JSON."""
        return json.dumps(self._asdict(), default=dict)

    @classmethod
    def from_text(cls, text: str) -> Order:
        """Read what ``to_text`` wrote."""
        data: dict[str, Any] = json.loads(text)
        data["binds"] = [Bind(*bind) for bind in data["binds"]]
        return cls(**data)
