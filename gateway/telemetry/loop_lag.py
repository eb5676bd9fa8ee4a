"""How late the event loop is.

Only that measurement lives here: it is measured, never guessed.
"""

from __future__ import annotations

import asyncio

from gateway.telemetry.counters import Telemetry

#: How often the loop's lag is measured, and how long the worst of it is shown, in seconds.
LAG_INTERVAL = 0.1
LAG_SHOWN = 15.0


class LoopLag:
    """Measures how late the event loop is: how long a callback that is due has to wait for its turn.

    It runs on the loop's own time, not on the gateway's clock: what is
    measured is the loop itself.

    Args:
        telemetry: shows the longest lag of the last ``LAG_SHOWN`` to twice as many seconds.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._worst = [0.0, 0.0]  # in the running period and the one before
        self._period_ends = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._period_ends = self._loop.time() + LAG_SHOWN
        self._again()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._due = self._loop.time() + LAG_INTERVAL
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        now, due = self._loop.time(), self._due
        self._again()  # first: whatever happens below, it is measured again
        if now >= self._period_ends:
            self._worst = [0.0, self._worst[0]]
            self._period_ends = now + LAG_SHOWN
        self._worst[0] = max(self._worst[0], now - due)
        self._telemetry.loop_lag = max(self._worst)
