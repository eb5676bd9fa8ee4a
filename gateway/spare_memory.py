"""Returns unused memory to the system.

Clients that hold as much as they can for a while (a megabyte each, in pieces of
all sizes) leave the C library's heap full of holes, which it keeps: the process
would stay as large as at its worst moment. The danger is time: searching a
large heap takes long. So it is done in a thread, only while the process is
larger than it was at its smallest, and rarely when it takes long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.clock import Clock
from gateway.tasks import Periodic

#: Seconds between two checks of the size of the process.
MEMORY_LOOK_SECONDS = 2.0

#: Below this growth unused memory is not searched for, in pages of 4 KiB: 16 MiB.
MIN_GROWTH_PAGES = 4096

#: The pause after a search, as a multiple of the time that the search took.
REST = 500

_STATM = Path("/proc/self/statm")


def trim_of_c() -> Callable[[int], int] | None:
    """Return ``malloc_trim`` of the C library; None where it has none: it is glibc's."""
    # Not at the top: libffi keeps a file open, which would get the number of a standard stream that is closed.
    import ctypes  # noqa: PLC0415

    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return trim


def resident_pages() -> int:
    """Return how much of this process is in memory, in pages.

    Raises:
        OSError: the system does not say.
    """
    return int(_STATM.read_bytes().split()[1])


class SpareMemory:
    """Returns what this process does not use to the system, periodically.

    Args:
        clock: the time.
        trim: returns unused memory; its argument is how many bytes it may keep at the end of the heap.
        resident: returns how many pages are in memory.
    """

    def __init__(
        self, clock: Clock, trim: Callable[[int], int] | None, resident: Callable[[], int] = resident_pages
    ) -> None:
        self._trim, self._resident = trim, resident
        self._smallest = 0
        self._monotonic = clock.monotonic
        self._rests_until = float("-inf")
        self._giving_back = Periodic("spare memory", self._give_back, clock, MEMORY_LOOK_SECONDS)

    def start(self) -> None:
        """Begin, where the system supports it."""
        if self._trim is not None and _STATM.exists():
            self._smallest = self._resident()
            self._giving_back.start()

    async def stop(self) -> None:
        """End it."""
        await self._giving_back.stop()

    async def _give_back(self) -> None:
        now = self._monotonic()
        if now < self._rests_until or self._resident() < self._smallest + MIN_GROWTH_PAGES:
            return
        self._rests_until = now + REST * await asyncio.to_thread(self._timed)
        self._smallest = min(self._smallest, self._resident())

    def _timed(self) -> float:
        """Trim the heap; return how long it took, in seconds."""
        assert self._trim is not None
        began = self._monotonic()
        self._trim(0)
        return self._monotonic() - began
