"""How long a connection is read after its last answer, and how it then ends.

Ends connections that are answered and not read to their end: those of refused
uploads, of bytes that are no request, of what follows a last request. Closed
over unread input, TCP resets a connection, and the reset may overtake the
answer (RFC 9112 section 9.6). So sending ends first, and what still comes is
dropped until the client closes, too, is silent, or goes on for too long.
"""

from __future__ import annotations

import asyncio
import contextlib

#: Seconds of silence after which a client is expected to send nothing more, and seconds for all of it.
SILENCE, MAX_LINGERING_SECONDS = 5.0, 30.0

#: Seconds for all of it once the gateway is on its way out.
MAX_LINGERING_DRAINING_SECONDS = 2.0

#: Seconds for which nothing is read after each piece: unwanted content must not take the time of served clients.
READ_PAUSE_SECONDS = 0.02


class Lingering:
    """One connection that is read, and dropped, until it is closed.

    Args:
        transport: the connection. Its protocol drops what comes, and tells this object.
    """

    __slots__ = ("_ends", "_heard", "_loop", "_pause", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._heard = self._loop.time()
        self._ends = self._heard + MAX_LINGERING_SECONDS
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        if transport.can_write_eof():  # TLS cannot end its sending alone here
            with contextlib.suppress(OSError):  # the client has left; asyncio's own loop raises what uvloop does not
                transport.write_eof()
        self._wait()

    def heard(self) -> None:
        """Note that the client still sends, and read nothing more for a moment."""
        self._heard = self._loop.time()
        if self._pause is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._pause = self._loop.call_at(self._heard + READ_PAUSE_SECONDS, self._read_on)

    def hurry(self) -> None:
        """Note that the gateway is on its way out."""
        self._ends = min(self._ends, self._loop.time() + MAX_LINGERING_DRAINING_SECONDS)
        self._wait()

    def stop(self) -> None:
        """Stop: the connection is gone."""
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        self._timer = self._pause = None

    def _read_on(self) -> None:
        self._pause = None
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._ends, self._heard + SILENCE), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() >= min(self._ends, self._heard + SILENCE):
            self._transport.close()
        else:
            self._wait()
