"""A WebSocket between a client and an upstream: bytes from one side to the other, at the pace of the slower one.

This file has the open tunnel: the two connections under their new protocol,
what of each may pass, and the ways in which it ends. Nothing is decoded; frames
are followed by their headers (``http1/websocket.py``), so that the gateway can
say goodbye with a close frame where one may stand. The danger of this file is
the end: both connections must be gone within ``CLOSING_SECONDS`` of it,
whatever either side does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway import turns
from gateway.errors import Ending
from gateway.http1.websocket import MESSAGE_TOO_BIG, FrameTracker, close_frame
from gateway.server.websocket.close_reasons import BAD_FRAME, DRAINED, TOO_LARGE

#: From the first sign of the end to the cut: for the other side's goodbye, and for what it still has to read.
CLOSING_SECONDS = 5.0


class HandsOver(Protocol):
    """A connection's protocol, as far as a tunnel needs it: it gives the connection away, and hears what becomes of it.

    Attributes:
        writing_paused: the connection cannot take more for now.
    """

    @property
    def writing_paused(self) -> bool: ...

    def pause_writing(self) -> None:
        """Note that the connection cannot take more for now."""
        ...

    def resume_writing(self) -> None:
        """Note that the connection can take more again."""
        ...

    @property
    def connection_lost(self) -> Callable[[BaseException | None], None]:
        """Notes that the connection is gone."""
        ...


class TunnelClient(HandsOver, Protocol):
    """The same of a client's connection."""

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Return the connection, and what has come behind the head that asks for a WebSocket.

        Raises:
            ConnectionResetError: the client left.
        """
        ...


class Side(asyncio.Protocol):
    """One of the two connections.

    Args:
        name: ``client`` or ``upstream``.
        transport: the connection.
        owner: its protocol until now, to which the event loop's calls are passed on.
        max_message: see ``FrameTracker``.

    Attributes:
        tracker: follows what this side sends.
        passed: how many bytes of it went to the other side.
        said_close: a close frame of this side went to the other one.
        muted: nothing more of this side is passed on: the gateway has said goodbye in its name.
        ended: this side sends no more.
        lost: its connection is gone.
    """

    def __init__(self, name: str, transport: asyncio.Transport, owner: HandsOver, max_message: int) -> None:
        self.name = name
        self.transport = transport
        self.owner = owner
        self.tracker = FrameTracker(max_message)
        self.passed = 0
        self.said_close = False
        self.muted = False
        self.ended = False
        self.lost = False
        self._rest = b""  # what has come and waits for its turn
        self._in_turn = False  # it is among those that wait for one
        self._behind: Callable[[], None] | None = None  # the end, which comes behind what waits
        self._held_back = False  # the other side cannot take more
        self._paused: bool | None = None  # whether it is not read; not known yet
        self._tunnel: Tunnel | None = None

    @property
    def tunnel(self) -> Tunnel:
        """The tunnel that this is a side of."""
        assert self._tunnel is not None
        return self._tunnel

    def join(self, tunnel: Tunnel) -> None:
        """Take the connection over."""
        self._tunnel = tunnel
        self.transport.set_protocol(self)

    # --- what the loop tells ---

    def data_received(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
        else:
            self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Pass on what may pass, and leave the rest of many frames to a later turn."""
        left = self.tracker.left
        passed = self.tracker.feed(data)
        if not self.muted:
            if self.tunnel.ending is not None:
                passed = data[:left]  # the rest of a frame; behind it stands the gateway's goodbye
            self.passed += len(passed)
            if passed:
                self.tunnel.other(self).write(passed)
            if self.tunnel.ending is None:
                self.said_close = self.tracker.closed and not self.tracker.fault
            elif len(data) >= left:
                self.tunnel.say_goodbye(self)
        self._rest = self.tracker.rest
        if self._rest and not self._in_turn:
            self._in_turn = True
            turns.later(self._turn)
        self._pace_reading()
        self.tunnel.heard(self)

    def _turn(self) -> None:
        self._in_turn = False
        if self._behind is not None and self.tunnel.other(self).transport.is_closing():
            self._rest = b""  # the other side is gone: what came for it is dropped
        if self._rest:
            self._follow(self._rest)
        if not self._rest and self._behind is not None:
            behind, self._behind = self._behind, None
            behind()

    def eof_received(self) -> bool:
        if self._rest:
            self._behind = self._ended
            return True
        return self.tunnel.half_closed(self)

    def _ended(self) -> None:
        if not self.tunnel.half_closed(self):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._behind = lambda: self._lose(exc)
        else:
            self._lose(exc)

    def _lose(self, error: Exception | None) -> None:
        self.lost = self.ended = True
        self.tunnel.side_lost(self, error)

    def pause_writing(self) -> None:
        self.owner.pause_writing()
        self.tunnel.other(self).pause(True)

    def resume_writing(self) -> None:
        self.owner.resume_writing()
        self.tunnel.other(self).pause(False)

    # --- what the tunnel does with it ---

    def write(self, data: bytes) -> None:
        """Send bytes, unless the connection is on its way out."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def pause(self, paused: bool) -> None:
        """Stop or go on reading; what is not passed on is read all the same."""
        self._held_back = paused
        self._pace_reading()

    def _pace_reading(self) -> None:
        if self.transport.is_closing():
            return
        paused = bool(self._rest) or (self._held_back and not self.muted)
        if paused is self._paused:
            return
        self._paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def close(self) -> None:
        """Close the connection when it has taken what was written."""
        self.transport.close()

    def write_eof(self) -> None:
        """Say that nothing more comes, if the transport can say so."""
        if not self.transport.is_closing() and self.transport.can_write_eof():
            self.transport.write_eof()


class Tunnel:
    """Two connections that are one. Used once.

    Attributes:
        client, upstream: the sides.
        cause: why it ended: ``client_closed``, ``upstream_closed`` or an ``Ending``'s; empty while it is open.
        ending: how the gateway itself ends it; None as long as it does not.
        over: done when both connections are gone.
    """

    def __init__(self, client: Side, upstream: Side) -> None:
        self.client = client
        self.upstream = upstream
        self.cause = ""
        self.ending: Ending | None = None
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._client_error: Exception | None = None

    def open(self, head: bytes, from_client: bytes, from_upstream: bytes) -> None:
        """Take both connections over and send the client the head of the 101.

        Args:
            from_client: what the client sent behind its handshake already.
            from_upstream: what the upstream sent behind its 101 already.
        """
        self.client.join(self)
        self.upstream.join(self)
        self.client.write(head)
        for side, data in ((self.upstream, from_upstream), (self.client, from_client)):
            side.pause(self.other(side).owner.writing_paused)
            if data:
                side.data_received(data)

    async def run(self) -> None:
        """Wait for the end. When cancelled, cut both connections."""
        try:
            await asyncio.shield(self.over)
        except asyncio.CancelledError:
            self._note(DRAINED.cause)
            self._cut()
            raise

    def other(self, side: Side) -> Side:
        """Return the other side."""
        return self.upstream if side is self.client else self.client

    def end(self, ending: Ending) -> None:
        """Say goodbye to both sides, at once or behind the frame that is under way."""
        if self.ending is not None or self.over.done():
            return
        self._note(ending.cause)
        self.ending = ending
        for side in (self.client, self.upstream):
            if side.tracker.fault or not side.tracker.left:  # from a fault on, nothing has passed
                self.say_goodbye(side)
        self._start_deadline()
        self._close_if_said()

    def say_goodbye(self, side: Side) -> None:
        """Send a close frame in the name of ``side``, and pass on nothing of it any more."""
        assert self.ending is not None
        other = self.other(side)
        side.muted = True
        if not side.said_close:
            other.write(close_frame(self.ending.code, self.ending.text, masked=other is self.upstream))
        side.pause(False)  # its own goodbye is waited for

    def heard(self, side: Side) -> None:
        """Look at what a side has said."""
        if side.tracker.fault:
            self.end(TOO_LARGE if side.tracker.fault == MESSAGE_TOO_BIG else BAD_FRAME)
        if side.tracker.closed:
            self._note(f"{side.name}_closed")
            self._close_if_said()

    def half_closed(self, side: Side) -> bool:
        """A side sends no more; return whether it can still be written to."""
        side.ended = True
        other = self.other(side)
        self._note(f"{side.name}_closed")
        self._start_deadline()
        if self.ending is not None and side.muted:
            self._close_if_said()
        elif side.said_close and side.transport.can_write_eof() and not other.ended:
            other.write_eof()  # it has said goodbye, and may wait for the answer
            return True
        else:
            other.close()
        return False

    def side_lost(self, side: Side, error: Exception | None) -> None:
        """A side's connection is gone."""
        other = self.other(side)
        self._note(f"{side.name}_closed")
        self._start_deadline()
        if side is self.client:
            self._client_error = error
        else:
            self.upstream.owner.connection_lost(error)
        if other.lost:
            self._finish()
        elif self.ending is not None and side.muted:
            self._close_if_said()  # closed with unread input, the other one might never see the goodbye
        elif error is None:
            other.close()
        else:
            other.transport.abort()

    def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.over.done():
            self.over.set_result(None)
        # Not before the end: it would cancel the task that waits for it.
        self._loop.call_soon(self.client.owner.connection_lost, self._client_error)

    def _close_if_said(self) -> None:
        """Close both connections when the gateway has said goodbye and both have answered."""
        sides = (self.client, self.upstream)
        if self.ending is not None and all(side.muted and (side.tracker.closed or side.ended) for side in sides):
            for side in sides:
                side.close()

    def _note(self, cause: str) -> None:
        self.cause = self.cause or cause

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self._loop.call_later(CLOSING_SECONDS, self._cut)

    def _cut(self) -> None:
        for side in (self.client, self.upstream):
            if not side.lost:
                side.transport.abort()


async def end_all(tunnels: Iterable[Tunnel], ending: Ending, seconds: float) -> None:
    """End tunnels, and wait until they are gone, but no longer than ``seconds``."""
    waiting = []
    for tunnel in list(tunnels):
        tunnel.end(ending)
        waiting.append(tunnel.over)
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
