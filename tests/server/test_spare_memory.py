"""Memory that nothing uses goes back to the system, and what is used stays."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest

from gateway.server.spare_memory import SECONDS, SpareMemory, trim_of_c
from tests.support.clock import FakeClock, settle

MIB = 1 << 20


def resident() -> int:
    """Return the bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_spare_memory_is_given_back_again_and_again() -> None:
    """R429: an attack that is over leaves nothing, whenever it was."""
    clock, asked = FakeClock(), list[int]()

    def trim(kept: int) -> int:
        asked.append(kept)
        return 1

    spare = SpareMemory(clock, trim)
    spare.start()
    await settle()
    assert asked == []
    for count in (1, 2, 3):
        await clock.advance(SECONDS)
        await settle()
        assert len(asked) == count
    assert asked == [0, 0, 0]
    await spare.stop()


async def test_where_the_c_library_has_no_way_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway runs without glibc, too."""

    def no_library(name: None) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", no_library)
    assert trim_of_c() is None
    spare = SpareMemory(FakeClock(), None)
    spare.start()
    await spare.stop()


def test_holes_in_the_heap_are_given_back() -> None:
    """R429: buffers of all sizes that were freed between others that are in use."""
    trim = trim_of_c()
    if trim is None or not Path("/proc/self/statm").exists():
        pytest.skip("the C library is not glibc, or the system does not say how much is in memory")
    sizes = random.Random(1)
    pieces = [b"a" * sizes.randrange(20_000, 100_000) for _ in range(2000)]
    kept = pieces[::50]
    pieces.clear()
    before = resident()
    trim(0)
    assert resident() < before - 32 * MIB
    assert all(set(piece) == {97} for piece in kept)
