"""What a time limit is worth on a machine that has more to do than it has cores: nothing else lives here."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: Nanoseconds: this thread ran, and it waited for a core (Linux' sched-stats).
_SCHEDULED = Path("/proc/thread-self/schedstat")


def paced(seconds: float) -> float:
    """Return a limit that a quiet machine must keep, with room for the others that a busy one shares its cores with."""
    return seconds * max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))


def own_time() -> float:
    """Return monotonic seconds without those in which this thread could have run, and others had the cores.

    A limit on differences of it holds on a busy machine, too: it counts what this thread works and what it waits for.
    Linux tells how long a thread waited for a core; elsewhere nothing is left out.
    """
    now = time.monotonic()
    try:
        waited = int(_SCHEDULED.read_bytes().split()[1]) / 1e9
    except OSError:
        waited = 0.0
    return now - waited
