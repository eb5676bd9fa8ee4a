"""Which core does what: one for the measured process, one for load and upstream.

Only the pinning of processes lives here. Where the system cannot pin, or has
one core only, nothing is pinned, and the result says so.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Cores:
    """The numbers of two cores; None = not pinned."""

    subject: int | None
    load: int | None


def plan() -> Cores:
    """Return the first two cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Put this thread, and with it every process that it starts inside, on one core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
