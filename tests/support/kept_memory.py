"""How much memory of the gateway stays taken after something was done with it: for bounds on what it remembers."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


class Kept:
    """What is still taken at the end of a block; see ``kept_memory``.

    Attributes:
        size: in bytes; of the blocks of Python objects that were made in between and have not been freed.
    """

    size = 0


@contextmanager
def kept_memory() -> Iterator[Kept]:
    """Measure what the block leaves behind. What the test itself keeps of it counts too, but not what tests that run in
    several processes say to each other meanwhile."""
    kept = Kept()
    gc.collect()
    tracemalloc.start()
    try:
        yield kept
        gc.collect()
        taken = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*/execnet/*")])
        kept.size = sum(trace.size for trace in taken.traces)
    finally:
        tracemalloc.stop()
