"""What a time limit is worth on a machine that has more to do than it has cores: nothing else lives here."""

from __future__ import annotations

import os


def paced(seconds: float) -> float:
    """Return a limit that a quiet machine must keep, with room for the others that a busy one shares its cores with."""
    return seconds * max(1.0, 1.5 * os.getloadavg()[0] / (os.cpu_count() or 1))
