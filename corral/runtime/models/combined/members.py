"""What every model over others is, whichever way it asks them."""

from __future__ import annotations

from collections.abc import Iterable

from corral.runtime.models.contract import ChatModel
from corral.runtime.models.media import takes_images


class OverMembers:
    """The part of a ``ChatModel`` over ``members``, which stay the caller's."""

    def __init__(self, name: str, members: Iterable[ChatModel]) -> None:
        self.name = name
        self.members = tuple(members)

    @property
    def context_window(self) -> int:
        """The largest of its members': a request that is too long for one goes to another."""
        return max(one.context_window for one in self.members)

    @property
    def takes_images(self) -> bool:
        """See ``Sighted.takes_images``: the others of its members get text."""
        return takes_images(*self.members)

    def check_complete(self, turns: int) -> None:
        """Nothing to check: no member has to have answered all turns."""

    async def aclose(self) -> None:
        """Nothing to free: the members are their owner's."""
