"""A clock that only moves when a test says so.

Nothing else lives here but the waiting for real sockets: a test that speaks to
a loopback server cannot know how many turns of the event loop the answer takes,
so it waits for the condition that it wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from gateway.clock import SystemClock


class FakeClock:
    """A ``gateway.clock.Clock`` under the test's control.

    Args:
        wall: the epoch seconds at which it starts.
    """

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._wall = wall
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), woken))
        await woken

    @property
    def naps(self) -> list[float]:
        """Seconds until each sleeper wakes, the next one first."""
        return sorted(due - self._monotonic for due, _, woken in self._sleepers if not woken.done())

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or NTP does; the monotonic one stays."""
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        """Let time pass without giving any task a turn."""
        self._wall += seconds
        self._monotonic += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass: each sleeper wakes at its own moment, in order, and runs until it waits again."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():
                continue
            self.jump(max(0.0, due - self._monotonic))
            woken.set_result(None)
            await settle()
        self.jump(max(0.0, end - self._monotonic))
        await settle()


class OffsetClock(SystemClock):
    """The machine's clock, off by so many seconds: a gateway whose own is wrong."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def wall(self) -> float:
        return time.time() + self._ahead


async def settle(turns: int = 20) -> None:
    """Give everything that is ready to run its turn."""
    for _ in range(turns):
        await asyncio.sleep(0)


#: The steps in which ``patience`` counts, in seconds.
PATIENCE_STEP_SECONDS = 0.05


@contextlib.asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Bound a block in time, where what is waited for runs in the same event loop.

    A busy machine may stop the loop for seconds, and then every timer is over before anything that has arrived is read.
    So time is counted in steps, and however long the loop stands still, that is one step.

    Raises:
        TimeoutError: when the block has not ended in time.
    """
    loop, steps = asyncio.get_running_loop(), round(seconds / PATIENCE_STEP_SECONDS)
    async with asyncio.timeout(None) as limit:

        def count(left: int) -> None:
            if left:
                timers.append(loop.call_later(PATIENCE_STEP_SECONDS, count, left - 1))
            else:
                limit.reschedule(loop.time())

        timers: deque[asyncio.TimerHandle] = deque(maxlen=1)
        count(steps)
        try:
            yield
        finally:
            timers[-1].cancel()


async def eventually(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait until a real socket or thread has made ``condition`` true.

    Raises:
        AssertionError: when it is still false after ``within`` real seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.001)
