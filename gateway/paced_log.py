"""Log lines that strangers can cause, at most one a second of each kind.

Limits the rate and nothing else. Lines that are held back are counted, and the
kind's next line says how many there were.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.clock import SystemClock

#: Seconds between two lines of one kind.
PACE = 1.0


class PacedLog:
    """Writes lines of a bounded number of kinds.

    Args:
        log: where the lines go.
        monotonic: the time in seconds.
    """

    def __init__(self, log: logging.Logger, monotonic: Callable[[], float] | None = None) -> None:
        self._log = log
        self._monotonic = monotonic or SystemClock().monotonic
        self._kinds: dict[str, tuple[float, int]] = {}

    def write(self, level: int, kind: str, message: str, *values: object) -> None:
        """Write a line, unless one of its kind was written within the last second.

        Args:
            kind: one of a fixed set, never what a stranger chose.
            message, values: as for ``logging``.
        """
        now = self._monotonic()
        last, held = self._kinds.get(kind, (float("-inf"), 0))
        if now - last < PACE:
            self._kinds[kind] = (last, held + 1)
            return
        self._kinds[kind] = (now, 0)
        if held:
            message, values = message + " (%d similar messages suppressed)", (*values, held)
        self._log.log(level, message, *values)
