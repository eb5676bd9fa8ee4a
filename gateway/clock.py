"""Time as an argument: the only place that reads a clock or sleeps.

There are two clocks for two purposes. Claims are compared with the wall clock
(RFC 7519 section 4.1.4); ages, schedules and cooldowns use the monotonic one,
so that a step of the wall clock cannot stop or flood anything.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What code that depends on time is given."""

    def wall(self) -> float:
        """Seconds since the epoch (a NumericDate, RFC 7519 section 2)."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of monotonic time."""
        ...


class SystemClock:
    """The machine's clocks."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
