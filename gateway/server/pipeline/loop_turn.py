"""Requests that wait behind those that are served: of clients that were refused a moment ago.

Decides the order of work, for both lanes. The danger is a flood of
requests that are refused: each costs nearly what a served one does, most of it in
the kernel, and its sender does not wait for the next one. So a connection whose last
request was refused stands behind the others with the next, and so does a new
connection from the same address, unless the request is known to be good. A gateway
with nothing else to do turns to it at once; while it serves, such requests get what
time is left, and a small share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from gateway.clock import Clock
from gateway.jwt.cache import TokenCache
from gateway.tasks import note_failure
from gateway.telemetry.counters import Telemetry

#: The part of the time that they get while requests that are served need all of it.
SHARE = 0.01

#: Most seconds in one turn of the loop, but for the end of the last of them, and most requests.
MAX_DEFERRED_SECONDS, MAX_TURN_REQUESTS = 0.001, 64

#: What a request takes that goes on in a task once its turn has come, in seconds: about a refusal of the full lane.
#: It is not seen here, because it is done in turns of the loop to come.
TASK_SECONDS = 0.0002

#: Turns of the loop in which nothing is served before time is taken for left; seconds by which it grows from there.
IDLE_TURNS, STEP = 4, 0.000003

#: Addresses from which the last request was refused: so many are remembered.
MAX_REFUSED_ADDRESSES = 4096

#: So many refusals since a request was served, and a caller waits behind the others though its token is known to be
#: good. Those of tokens that are not known count as one: they wait anyway.
MAX_REFUSALS_OF_KNOWN = 3

#: Seconds after which one is turned to whatever else there is to do.
MAX_WAIT_SECONDS = 1.0


class DeferredClient(Protocol):
    """What a deferred request needs of its client's connection."""

    def abort(self) -> None:
        """Cut the connection."""
        ...

    def resume(self) -> bool:
        """Begin with the waiting request after all; return whether it goes on in a task."""
        ...


class DeferredRequest:
    """A request that waits, in the place of an exchange (``express_lane/exchange.py``).

    Args:
        client: its connection, which has it.

    Attributes:
        since: monotonic seconds since which it waits.
        task: always None: nothing of it runs by itself.
    """

    __slots__ = ("_client", "since")

    task = None

    def __init__(self, client: DeferredClient) -> None:
        self._client = client
        self.since = 0.0

    def resume(self) -> bool:
        """Turn to it; return whether it goes on in a task."""
        return self._client.resume()

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


class DeferredTask(DeferredRequest):
    """A request of which a task waits for its turn."""

    __slots__ = ("come",)

    def __init__(self) -> None:
        self.come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.since = 0.0

    def resume(self) -> bool:
        """Let it go on, if its task still waits; return whether it does."""
        if self.come.done():
            return False
        self.come.set_result(None)
        return True

    def fail(self) -> None:
        """Let it go on: its own task answers what went wrong."""
        self.resume()


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
        self._refused: dict[bytes, int] = {}
        self._turning = False  # the loop was asked for a turn, which is not over
        self._served = self._idle_turns = 0
        self._left = 0.0  # seconds for them in this turn; less than 0 when the last turn took more
        self._looked_at = clock.monotonic()

    def saw(self, address: bytes, refusals: int) -> None:
        """Note how many requests of a connection from an address were refused since one was served.

        Args:
            address: the other end's.
            refusals: those that came with a token that is known to be good; at least one, if the last was refused.
        """
        if refusals:
            if len(self._refused) >= MAX_REFUSED_ADDRESSES and address not in self._refused:
                del self._refused[next(iter(self._refused))]
            self._refused[address] = refusals
        elif self._refused:
            self._refused.pop(address, None)

    def refusals(self, address: bytes) -> int:
        """Return how many of the last requests from an address were refused, as far as that is remembered."""
        return self._refused.get(address, 0)

    async def turn(self) -> None:
        """Return when it is the turn of a request that waits."""
        request = DeferredTask()
        self.add(request)
        await request.come

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
                if request.resume():
                    self._left -= TASK_SECONDS
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
            self._left = min(MAX_DEFERRED_SECONDS, (self._idle_turns - IDLE_TURNS) * STEP)
        else:
            self._served, self._idle_turns = served, 0
            self._left = min(MAX_DEFERRED_SECONDS, self._left + SHARE * (now - self._looked_at))
        self._looked_at = now
