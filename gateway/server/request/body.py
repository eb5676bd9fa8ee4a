"""A request's content that has arrived whole, and whether a request has content at all.

Content that comes in bit by bit is ``aiohttp_lane/content.py``'s.
"""

from __future__ import annotations

from gateway.server.request.facts import Facts


class CollectedContent:
    """The content of a request that has arrived whole.

    Attributes: as of ``in_progress.ClientSideContent``; nothing is awaited and nothing unread.
    """

    __slots__ = ("_data", "awaited", "chunked", "size", "unread")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.chunked = False
        self.awaited = False
        self.unread = False
        self.size = 0

    def whole(self) -> bytes | None:
        """Return it."""
        self.size = len(self._data)
        return self._data

    async def read_rest(self) -> bool:
        """Nothing is left."""
        return True

    async def read(self) -> bytes:
        """Return it, then nothing."""
        data, self._data = self._data, b""
        self.size += len(data)
        return data


def has_content(facts: Facts) -> bool:
    """Return whether a request announces content (RFC 9112 section 6.3)."""
    return bool(facts.transfer_encoding) or bool(facts.content_length and facts.content_length[0].strip(b"0"))
