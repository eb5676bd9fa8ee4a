"""A lane that stands in front of aiohttp's, as that one knows it.

Only the way back lives here: how a connection that was handed over returns. The
danger is a byte that is left behind: it returns only when nothing is under way.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.server.sockets.slots import Place


class FrontLane(Protocol):
    """A lane that stands in front of this one."""

    def take_back(self, transport: asyncio.Transport, place: Place, refusals: int | None) -> None:
        """Take a connection on which nothing is under way; its next request may be a plain one.

        Args:
            transport: the connection.
            place: its place among them.
            refusals: how many of its last requests were refused; None when that is not known.
        """
        ...
