"""A response that has been written already.

aiohttp's protocol wants a response object from every handler and writes it
itself; the lanes write raw bytes, so that no field is added, folded or
re-coded. This stands in for the object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from aiohttp import web


class Sent:
    """What aiohttp's protocol looks at after a handler: whether to keep the connection.

    Args:
        then: called when aiohttp is done with the request.
    """

    __slots__ = ("_then", "keep_alive")

    def __init__(self, *, keep_alive: bool, then: Callable[[], None] | None = None) -> None:
        self.keep_alive = keep_alive
        self._then = then

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""
        if self._then is not None:
            self._then()


def sent(*, keep_alive: bool, then: Callable[[], None] | None = None) -> web.StreamResponse:
    """Return the stand-in as the type that aiohttp's signatures ask for."""
    return cast(web.StreamResponse, Sent(keep_alive=keep_alive, then=then))
