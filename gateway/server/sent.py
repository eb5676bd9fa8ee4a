"""A response that has been written already.

aiohttp's protocol wants a response object from every handler and writes it
itself; the lanes write raw bytes, so that no field is added, folded or
re-coded. This stands in for the object.
"""

from __future__ import annotations

from typing import cast

from aiohttp import web


class Sent:
    """What aiohttp's protocol looks at after a handler: whether to keep the connection."""

    __slots__ = ("keep_alive",)

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Nothing is left to write."""


def sent(*, keep_alive: bool) -> web.StreamResponse:
    """Return the stand-in as the type that aiohttp's signatures ask for."""
    return cast(web.StreamResponse, Sent(keep_alive=keep_alive))
