"""What a client does not take, and how long that may go on.

Watches one connection's output (CWE-400: slow reading). It runs while bytes
wait in memory, never otherwise. A client is given up when it takes not a single
byte for the whole time; however slowly it reads, it may.
"""

from __future__ import annotations

import asyncio

from gateway.upstream.exchange.upload import unacknowledged

#: How often, in its whole time, a client is looked at.
CHECKS_PER_TIMEOUT = 4


class UnsentWatch:
    """Cuts a connection whose client takes nothing.

    Args:
        seconds: how long; 0 for no limit.

    Attributes:
        stalled: it was cut.
    """

    __slots__ = ("_idle", "_left", "_seconds", "_timer", "_transport", "stalled")

    def __init__(self, seconds: float) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._left = (0, 0)
        self._idle = 0
        self.stalled = False

    @property
    def watching(self) -> bool:
        """Whether it will look again."""
        return self._timer is not None

    def start(self, transport: asyncio.WriteTransport | None) -> None:
        """Begin to look, if there is something for the client to take and it is not done already."""
        if self._timer is None and self._seconds and transport is not None and transport.get_write_buffer_size():
            self._transport = transport
            self._left = outstanding(transport)
            self._idle = 0
            self._again()

    def stop(self) -> None:
        """Stop looking: the client has taken what was in memory, or the connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._transport = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds / CHECKS_PER_TIMEOUT, self._look)

    def _look(self) -> None:
        transport, self._timer = self._transport, None
        left = outstanding(transport) if transport is not None else (0, 0)
        if transport is None or not left[0]:
            self._transport = None
            return  # what is left is the kernel's, and needs nothing of the process any more
        self._idle = self._idle + 1 if left == self._left else 0
        self._left = left
        if self._idle < CHECKS_PER_TIMEOUT:
            self._again()
            return
        self.stalled = True
        transport.abort()


def outstanding(transport: asyncio.WriteTransport) -> tuple[int, int]:
    """Return how many bytes wait in memory, and how many in the kernel for the client's acknowledgement."""
    return transport.get_write_buffer_size(), unacknowledged(transport)
