"""How late the event loop is.

Measures it, and never guesses.
"""

from __future__ import annotations

import asyncio

from gateway.telemetry.counters import Telemetry

#: How often the loop's lag is measured, and for how long its maximum is shown, in seconds.
LAG_INTERVAL_SECONDS = 0.1
LAG_WINDOW_SECONDS = 15.0


class LoopLag:
    """Measures how late the event loop is: how long a callback that is due has to wait for its turn.

    It runs on the loop's own time, not on the gateway's clock: what is
    measured is the loop itself.

    Args:
        telemetry: shows the longest lag of the last ``LAG_WINDOW_SECONDS`` to twice as many seconds.
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
        self._period_ends = self._loop.time() + LAG_WINDOW_SECONDS
        self._again()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._due = self._loop.time() + LAG_INTERVAL_SECONDS
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        now, due = self._loop.time(), self._due
        self._again()  # first: whatever happens below, it is measured again
        if now >= self._period_ends:
            self._worst = [0.0, self._worst[0]]
            self._period_ends = now + LAG_WINDOW_SECONDS
        self._worst[0] = max(self._worst[0], now - due)
        self._telemetry.loop_lag = max(self._worst)
