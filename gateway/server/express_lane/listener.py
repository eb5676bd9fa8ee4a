"""The express lane: the request that is nearly all of the traffic, without task, future or multidict.

This file has what its connections share; one connection is ``connection.py``,
one request ``exchange.py``. The lane stands in front of aiohttp's protocol. It
serves the plain request, whole in its buffer, in the callback that brings the
bytes, by the same steps as the full lane; everything else it hands over with
every byte. The danger of the express lane is to become another gateway: it must
not decide anything of its own. ``tests/lanes`` sends the same bytes through
both lanes.
"""

from __future__ import annotations

import asyncio

from gateway.server.aiohttp_lane.listener import Listener
from gateway.server.express_lane.connection import MAX_CONTENT_BYTES, ExpressConnection
from gateway.server.express_lane.write_batch import WriteBatch
from gateway.server.pipeline.runner import Serving
from gateway.server.sockets.slots import Place
from gateway.tasks import note_failure


class ExpressLane:
    """Makes one protocol for each connection, and knows them all.

    Args:
        serving: the shared run of requests.
        listener: makes the full lane's protocol for what is handed over.

    Attributes:
        connections: those in this lane.
    """

    def __init__(self, serving: Serving, listener: Listener) -> None:
        self.serving = serving
        self.listener = listener
        self.connections: set[ExpressConnection] = set()
        self.limits = limits = serving.settings.server
        self._loop = asyncio.get_running_loop()
        self._writes = WriteBatch(self._loop)
        self._most_content = min(MAX_CONTENT_BYTES, limits.max_body_bytes or MAX_CONTENT_BYTES)
        # One timer for all connections: a timer each would be made and thrown away for every request.
        times = [limits.request_head_timeout_seconds, limits.keepalive_timeout_seconds]
        for upstream in serving.settings.upstreams:
            times += [upstream.response_timeout_seconds, upstream.idle_timeout_seconds or 4]
        self._interval = min(1.0, *(seconds / 4 for seconds in times))
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> ExpressConnection:
        return ExpressConnection(
            self.serving, self.listener, self._loop, self._writes, self.connections, self._most_content
        )

    def serve(self, place: Place) -> ExpressConnection:
        """Return the protocol of a connection that has its slot already."""
        made = self()
        made.place = place
        return made

    def take_back(self, transport: asyncio.Transport, place: Place, refusals: int | None) -> None:
        """Take a connection that was handed over, and on which nothing is under way."""
        connection = self.serve(place)
        transport.set_protocol(connection)
        connection.come_back(transport, refusals)

    def start(self) -> None:
        """Begin to watch the connections' time limits."""
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._watch)

    def start_drain(self) -> None:
        """Close idle connections now; the others close after their running request."""
        for connection in list(self.connections):
            connection.drain()

    async def stop(self) -> None:
        """Cut what is still open."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [connection.cut() for connection in list(self.connections)]
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self._watch)
        now = loop.time()
        for connection in list(self.connections):
            if connection.deadline < now:
                try:
                    connection.too_late()
                except Exception as error:  # the time limits of the others hold all the same
                    note_failure("time limits", error)
                    connection.abort()
