"""Recently refused connections yield to served ones.

Orders the work of the express lane's connections. The danger is a flood of
requests that are refused: each costs nearly what a served one does, most of it
in the kernel, and a client that floods sends the next one without waiting. So a
connection whose last request was refused stands behind the others with the
next, unless that is known to be good. A gateway with nothing else to do turns
to it at once; while it serves, such requests get what time is left, and a small
share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.jwt.cache import TokenCache
from gateway.tasks import note_failure
from gateway.telemetry.counters import Telemetry

#: The part of the time that deferred requests get while no time is left.
SHARE = 0.01

#: Most seconds in one turn of the loop, but for the end of the last of them, and most requests.
MAX_TURN_SECONDS, MAX_TURN_REQUESTS = 0.001, 64

#: Turns of the loop in which nothing is served before time is taken for left; seconds by which it grows from there.
IDLE_TURNS, STEP = 4, 0.000003

#: Seconds after which one is turned to whatever else there is to do.
MAX_WAIT_SECONDS = 1.0


class DeferredClient(Protocol):
    """What a deferred request needs of its client's connection."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request after this one."""
        ...

    def ended(self, keep_alive: bool, *, refused: bool) -> None:
        """The running request is over."""
        ...

    def abort(self) -> None:
        """Cut the connection."""
        ...

    def resume(self, data: bytes) -> None:
        """Begin with the running request after all."""
        ...


class DeferredRequest:
    """A request that waits, instead of an exchange (``exchange.py``).

    Args:
        client: its connection.
        data: the request as received.

    Attributes:
        since: monotonic seconds since which it waits.
        task: always None: nothing of it runs by itself.
    """

    __slots__ = ("_client", "_data", "since")

    task = None

    def __init__(self, client: DeferredClient, data: bytes) -> None:
        self._client, self._data = client, data
        self.since = 0.0

    def resume(self, now: float) -> None:
        """Turn to it."""
        del now
        self._client.resume(self._data)

    def fail(self) -> None:
        """Give it up, after a fault of the gateway's own: nothing else would end its connection."""
        self._client.abort()

    def client_lost(self) -> None:
        """The client left."""

    def client_paused(self, paused: bool) -> None:
        """The client cannot take more for now, or can again."""

    def too_late(self) -> None:
        """What the connection expects has not come in time; but it waits for this gateway, and not for long."""

    def cancel(self) -> None:
        """End what runs by itself."""


class DeferredRefusal(DeferredRequest):
    """One that is known to be refused.

    Args:
        give: answers and counts it, given the seconds that it has taken.
    """

    __slots__ = ("_give",)

    def __init__(self, client: DeferredClient, data: bytes, give: Callable[[float], None]) -> None:
        super().__init__(client, data)
        self._give = give

    def resume(self, now: float) -> None:
        """Give the answer, and count it; if the client has left, count it alone."""
        client = self._client
        if client.keep_alive:
            self._give(now - self.since)
            client.ended(True, refused=True)
        else:
            # The gateway is on its way out by now, and its answers say so: this one does not.
            client.resume(self._data)


class Deferred:
    """The requests of one worker that wait.

    Args:
        cache: knows how many callers were known.
        telemetry: knows how many responses have come, and counts refusals and those that wait.
        clock: the time.
    """

    def __init__(self, cache: TokenCache, telemetry: Telemetry, clock: Clock) -> None:
        self._cache, self._telemetry, self._monotonic = cache, telemetry, clock.monotonic
        self._waiting: deque[DeferredRequest] = deque()
        self._turning = False  # the loop was asked for a turn, which is not over
        self._served = self._idle_turns = 0
        self._left = 0.0  # seconds for them in this turn; less than 0 when the last turn took more
        self._looked_at = clock.monotonic()

    def add(self, request: DeferredRequest) -> None:
        """Have a request turned to, soon but not now."""
        if not self._turning:  # also while a turn has the queue empty: it goes on itself with what comes again
            self._turning = True
            self._soon()
        request.since = self._monotonic()
        self._waiting.append(request)
        self._telemetry.deferred = len(self._waiting)

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        waiting, now = self._waiting, self._monotonic()
        self._grant(now)
        late = now - MAX_WAIT_SECONDS
        for _ in range(min(len(waiting), MAX_TURN_REQUESTS)):
            if self._left <= 0 and waiting[0].since > late:
                break
            request = waiting.popleft()
            try:
                request.resume(now)
            except Exception as error:  # those that wait behind it are turned to all the same
                note_failure("deferred requests", error)
                request.fail()
            before, now = now, self._monotonic()
            self._left -= now - before
        self._telemetry.deferred = len(waiting)
        self._turning = bool(waiting)
        if waiting:
            # The loop looks at its connections before the next turn, and does not sleep.
            self._soon()

    def _grant(self, now: float) -> None:
        """Say how much time there is in this turn."""
        served = self._cache.hits + sum(self._telemetry.upstream.counts)
        if served == self._served:
            self._idle_turns += 1
            self._left = min(MAX_TURN_SECONDS, (self._idle_turns - IDLE_TURNS) * STEP)
        else:
            self._served, self._idle_turns = served, 0
            self._left = min(MAX_TURN_SECONDS, self._left + SHARE * (now - self._looked_at))
        self._looked_at = now
