"""What a supervisor and one of its workers say to each other.

This file has the channel: JSON objects over a socket pair that exactly these
two processes hold. Neither a file nor a port leads to it, and when one of them
is gone the other reads the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import orjson

#: Bytes in front of each message that say how long it is.
_PREFIX = 4


class Channel:
    """One end of the channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Use one end of a socket pair, and own it from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            EOFError: the other process has ended or closed its end.
        """
        try:
            size = int.from_bytes(await self._reader.readexactly(_PREFIX), "big")
            message: dict[str, Any] = orjson.loads(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            raise EOFError from None
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nothing happens when the other process is gone."""
        if not self._writer.is_closing():
            data = orjson.dumps(message)
            self._writer.write(len(data).to_bytes(_PREFIX, "big") + data)

    async def close(self) -> None:
        """Close this end once everything is sent, if the other one still reads."""
        self._writer.close()
        with contextlib.suppress(OSError):  # the other process has ended
            await self._writer.wait_closed()
