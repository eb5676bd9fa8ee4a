"""Clients that have ended their sending and wait for their answers (``shutdown``).

Judges whether such a client is still there. Over TCP the end of its sending
looks the same as its departure (RFC 9112 section 9.6), until it is sent
something: a client that has left answers that with a reset, and that is not
noticed by itself, because nothing is read from the connection any more. The
danger is an upstream that works for clients that have left, and a client that
is cut off while its answer is being made.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from gateway.http1.plain_response import CONTINUE

#: Seconds without anything to send after which the client is asked, and between two looks.
ASK_SECONDS = 0.5

#: Seconds in which the reset of a client that was asked and has left arrives.
RESET_SECONDS = 0.25


class HalfClosed:
    """Cuts the connection of a client that sends nothing more, once it has left.

    Until something is sent to it, that is not known. If nothing is for
    ``ASK_SECONDS``, the client is asked with an interim response, which it can
    ignore (RFC 9110 section 15.2.1). Where it cannot be asked, it is taken for gone.

    Args:
        transport: the connection.
        sent: returns a number that grows with whatever is sent.
        may_ask: returns whether an interim response can be sent now: a request waits whose response has not begun.
    """

    __slots__ = ("_before", "_may_ask", "_sent", "_timer", "_transport", "_tried")

    def __init__(self, transport: asyncio.Transport, sent: Callable[[], int], may_ask: Callable[[], bool]) -> None:
        self._transport, self._sent, self._may_ask = transport, sent, may_ask
        self._before, self._tried = sent(), False  # nothing was sent to it so far
        self._look_in(ASK_SECONDS)

    def stop(self) -> None:
        """Stop: the connection is gone."""
        self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        # What waits in memory is the client's to take, within a limit of its own (``stalled_client.py``).
        tried = self._tried or self._sent() != self._before or bool(self._transport.get_write_buffer_size())
        if was_reset(self._transport) or not (tried or self._may_ask()):
            self._transport.abort()
            return
        self._tried = True
        if not tried:
            self._transport.write(CONTINUE)
        self._look_in(ASK_SECONDS if tried else RESET_SECONDS)


def was_reset(transport: asyncio.BaseTransport) -> bool:
    """Return whether the peer has reset a connection from which nothing is read."""
    sock = transport.get_extra_info("socket")
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    except (OSError, ValueError, AttributeError):
        return True  # it is closed already
