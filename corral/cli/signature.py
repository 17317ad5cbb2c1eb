"""Who answers at this keyboard."""

from __future__ import annotations

import getpass
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corral.runtime.approvals.answers import Signed

_ODD = re.compile(r"[^\w.@-]+")


def signed() -> Signed:
    """The user of the operating system, as ``user:NAME``; ``user`` where it has no name."""
    from corral.runtime.approvals.answers import Signed

    try:
        name = _ODD.sub("", getpass.getuser())[:64]
    except (OSError, KeyError):
        name = ""
    return Signed(f"user:{name}" if name else "user")
