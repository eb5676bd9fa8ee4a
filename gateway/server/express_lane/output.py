"""The way out to the client of an express connection.

This file has what is written to the client, whether the client takes it, and
the state of the connection: paused, gone, stalled, draining. What comes in is
``connection.py``'s; what may be kept waiting is
``sockets/stalled_client.py``'s.
"""

from __future__ import annotations

import asyncio

from gateway.server.aiohttp_lane.listener import Listener
from gateway.server.pipeline.runner import Serving
from gateway.server.sockets.stalled_client import UnsentWatch
from gateway.server.sockets.tls import peer_certificate


class ClientOutput(asyncio.Protocol):
    """The sending half of one client connection; an ``in_progress.Client``.

    Args:
        serving: the shared run of requests.
        listener: knows whether the gateway is on its way out.
    """

    _persistent = True  # the client has not said that its running request is the last

    def __init__(self, serving: Serving, listener: Listener) -> None:
        self._serving = serving
        self._listener = listener
        self._limits = serving.settings.server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._written = 0  # pieces of answers
        self._unanswered = 0  # what that was when the running request became the next to be answered
        self._drained: asyncio.Future[None] | None = None
        self._unsent: UnsentWatch | None = None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        return self._persistent and not self._listener.draining

    @property
    def gone(self) -> bool:
        """Whether nothing can be written any more."""
        return self._transport is None or self._transport.is_closing()

    @property
    def draining(self) -> bool:
        """Whether the gateway is on its way out."""
        return self._listener.draining

    @property
    def stalled(self) -> bool:
        """Whether the connection was cut because the client did not read."""
        return self._unsent is not None and self._unsent.stalled

    @property
    def certificate(self) -> bytes | None:
        """The certificate in DER that the client showed, if it showed one."""
        return peer_certificate(self._transport)

    def send(self, data: bytes) -> None:
        """Write without waiting; ``pause_writing`` holds the source back."""
        if self._transport is not None:
            self._written += 1
            self._transport.write(data)

    async def write(self, data: bytes) -> None:
        """Write, and wait while the client cannot take more."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the client left")
        self._written += 1
        self._transport.write(data)
        if self._paused:
            self._drained = self._loop.create_future()
            await self._drained
            if self._transport is None:  # not the future's exception: that would keep all that runs here, content too
                raise ConnectionResetError("the client left")

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def break_off(self, *, unread: bool) -> None:
        """End a response before its end; of a request in this lane, nothing is unread."""
        del unread
        self._close()

    def without_end(self, begins: bool) -> None:
        """Nothing to do: clients in this lane speak HTTP/1.1, whose content always has a marked end."""

    def _output_paused(self) -> None:
        """The client does not take what was written."""
        self._paused = True
        self._watch_unsent()

    def _output_resumed(self) -> None:
        """The client has taken what was written."""
        self._paused = False
        self._stop_watch()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _output_lost(self) -> None:
        """Note that the connection is gone: there is nothing left to wait for."""
        self._transport = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _stop_watch(self) -> None:
        if self._unsent is not None:
            self._unsent.stop()

    def _watch_unsent(self) -> None:
        """Bound the time for which the client takes nothing, if there is something for it to take."""
        if self._unsent is None:
            self._unsent = UnsentWatch(self._limits.response_write_timeout_seconds)
        self._unsent.start(self._transport)

    def _close(self) -> None:
        """Close the connection once the client has what was sent."""
        if self._transport is not None:
            self._watch_unsent()
            self._transport.close()
