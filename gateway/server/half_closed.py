"""Clients that have said that they send nothing more, and wait for answers.

Only the patience with them lives here. Over TCP a client that has ended its
sending (``shutdown``) cannot be distinguished from one that has left: a FIN
comes from both. So requests that came whole are answered, as long as there is
something to send; a client to whom nothing was sent for a moment, and for whom
nothing waits, is taken for gone, so that no work is done for clients that left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Seconds without anything to send, after which such a client is taken for gone.
PATIENCE = 0.5


class HalfClosed:
    """Gives up a connection whose client sends nothing more, once there is nothing for it either.

    Args:
        transport: the connection.
        sent: returns a number that grows with whatever is sent.
    """

    __slots__ = ("_before", "_sent", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, sent: Callable[[], int]) -> None:
        self._transport, self._sent = transport, sent
        self._before = sent()
        self._again()

    def stop(self) -> None:
        """Stop: the connection is gone."""
        self._timer.cancel()

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def _look(self) -> None:
        before, self._before = self._before, self._sent()
        # What waits in memory is the client's to take, within a limit of its own (``unsent.py``).
        if self._before == before and not self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._again()
