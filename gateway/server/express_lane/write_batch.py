"""What the express lane sends in one turn of the loop, written at the turn's end.

A write to a peer that sleeps wakes it, and that costs more than the bytes do. When
requests and responses are read one after the other and all is written afterwards, the
peer is awake from the second write on. The danger is what would go out after its
connection was closed or handed over: the batch is flushed before that.
"""

from __future__ import annotations

import asyncio

from gateway.tasks import note_failure

#: Most writes, and bytes of one write, that wait for the end of the turn.
MAX_WRITES, MAX_BYTES = 16, 16384


class WriteBatch:
    """The writes of one worker's express lane that have not been made yet.

    Args:
        loop: the event loop.
    """

    __slots__ = ("_call_soon", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []

    def add(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Have bytes written to a connection, behind all that was added before."""
        waiting = self._waiting
        if not waiting:
            self._call_soon(self.flush)
        waiting.append((transport, data))
        if len(waiting) >= MAX_WRITES or len(data) > MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits, now."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            try:
                transport.write(data)
            except Exception as error:  # the other connections get theirs all the same
                if not transport.is_closing():
                    note_failure("writes", error)
                    transport.abort()
