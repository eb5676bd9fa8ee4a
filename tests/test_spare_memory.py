"""Memory that nothing uses goes back to the system, and what is used stays."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway.spare_memory import MEMORY_LOOK_SECONDS, MIN_GROWTH_PAGES, REST, SpareMemory, resident_pages, trim_of_c
from tests.support.clock import FakeClock, eventually, settle

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="/proc says how much is in memory; only Linux has it"
)


class Heap:
    """Stands for the process: how large it is, and what giving back does."""

    def __init__(self) -> None:
        self.pages, self.kept, self.given_back = 10_000, 10_000, 0

    def trim(self, kept: int) -> int:
        self.given_back += 1
        self.pages = self.kept
        return 1


@pytest.mark.rule("R429")
async def test_a_process_that_has_grown_gives_back_what_it_does_not_use() -> None:
    """An attack that is over leaves nothing, whenever it was; a process as small as ever is left alone."""
    clock, heap = FakeClock(), Heap()
    spare = SpareMemory(clock, heap.trim, lambda: heap.pages)
    spare.start()
    for _ in range(5):
        await clock.advance(MEMORY_LOOK_SECONDS)
    assert heap.given_back == 0
    for times in (1, 2):
        heap.pages += MIN_GROWTH_PAGES
        await clock.advance(MEMORY_LOOK_SECONDS)
        await eventually(lambda times=times: heap.given_back == times)  # type: ignore[misc]
        await settle()
        await clock.advance(60)
    assert heap.pages == heap.kept
    await spare.stop()


async def test_one_that_takes_long_is_rare() -> None:
    """A large heap that is in use is searched for a small part of the time."""
    clock, heap = FakeClock(), Heap()
    heap.kept = 100_000

    def slow(kept: int) -> int:
        clock.jump(0.1)
        return heap.trim(kept)

    spare = SpareMemory(clock, slow, lambda: heap.pages)
    spare.start()
    heap.pages = 100_000
    await clock.advance(MEMORY_LOOK_SECONDS)
    await eventually(lambda: heap.given_back == 1)
    await settle()
    for _ in range(10):
        await clock.advance(MEMORY_LOOK_SECONDS)
        await settle()
    assert heap.given_back == 1
    await clock.advance(REST * 0.1)
    await eventually(lambda: heap.given_back == 2)
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


@pytest.mark.rule("R429")
def test_holes_in_the_heap_are_given_back() -> None:
    """Buffers of all sizes that were freed between others that are in use."""
    trim = trim_of_c()
    if trim is None:
        pytest.skip("malloc_trim is glibc's, and the C library here is another one")
    sizes = random.Random(1)
    pieces = [b"a" * sizes.randrange(20_000, 100_000) for _ in range(2000)]
    kept = pieces[::50]
    pieces.clear()
    before = resident_pages()
    trim(0)
    assert resident_pages() < before - 2 * MIN_GROWTH_PAGES
    assert all(set(piece) == {97} for piece in kept)
