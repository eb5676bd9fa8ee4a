"""Memory that nothing uses, given back to the system.

Only that lives here. Clients that hold all that they can hold for a while (a
megabyte each, in pieces of all sizes) leave the C library's heap full of holes,
which it keeps: the process would stay as large as at its worst moment.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from gateway.clock import Clock
from gateway.tasks import Periodic

#: Seconds between two times. Where there is nothing to give back it takes 0.1 ms; about 0.1 ms more for each megabyte.
SECONDS = 2.0


def trim_of_c() -> Callable[[int], int] | None:
    """Return ``malloc_trim`` of the C library; None where it has none: it is glibc's."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim


class SpareMemory:
    """Gives back what this process does not use, again and again.

    Args:
        clock: the time.
        trim: does it; its argument is how many bytes it may keep at the end of the heap.
    """

    def __init__(self, clock: Clock, trim: Callable[[int], int] | None) -> None:
        self._trim = trim
        self._giving_back = Periodic("spare memory", self._give_back, clock, SECONDS)

    def start(self) -> None:
        """Begin, where there is a way."""
        if self._trim is not None:
            self._giving_back.start()

    async def stop(self) -> None:
        """End it."""
        await self._giving_back.stop()

    async def _give_back(self) -> None:
        assert self._trim is not None
        self._trim(0)
