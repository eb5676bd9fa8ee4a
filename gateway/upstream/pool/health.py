"""Which URLs of a service are given requests: what failures to connect and health checks say.

``Health`` decides, from facts and the time that it is given; it waits for
nothing. ``keep_checking`` is the task that asks one URL for its health. How it
is asked is ``dialer.py``'s business, and which URL gets a request
``upstream.py``'s.
"""

from __future__ import annotations

import logging

_log = logging.getLogger("gateway.upstreams")

#: Seconds for which a URL is ejected the first time; doubled by each trial that fails.
FIRST_BACK_OFF = 1.0

#: Bad answers in a row after which a checked URL counts as down.
BAD_CHECKS = 2


class Health:
    """What is known of one URL. Times are monotonic seconds.

    Args:
        eject_after: failures to connect in a row that eject it; 0 for never.
        eject_max: longest back-off between two trials.

    Attributes:
        sound: it is given requests in its turn.
        connect_failures: failures to connect since the last connection.
        ejections: how often it was ejected; failed trials are not counted anew.
        bad_checks: bad answers to health checks since the last good one.
        last_check: the last answer to a health check; None before the first one.
    """

    __slots__ = (
        "_back_off",
        "_down",
        "_eject_after",
        "_eject_max",
        "_trial",
        "_until",
        "bad_checks",
        "connect_failures",
        "ejections",
        "last_check",
        "sound",
    )

    def __init__(self, eject_after: int, eject_max: float) -> None:
        self._eject_after = eject_after
        self._eject_max = eject_max
        self._until: float | None = None
        self._back_off = 0.0
        self._trial = False
        self._down = False
        self.sound = True
        self.connect_failures = 0
        self.ejections = 0
        self.bad_checks = 0
        self.last_check: bool | None = None

    @property
    def state(self) -> str:
        """``healthy``, ``ejected`` (it could not be connected to) or ``unhealthy`` (its checks say so)."""
        if self._down:
            return "unhealthy"
        return "healthy" if self._until is None else "ejected"

    @property
    def back_off_ends(self) -> float:
        """When the next trial is due; 0 when it is not ejected."""
        return self._until or 0.0

    def due(self, now: float) -> bool:
        """Whether it is ejected and one request may try whether it is back."""
        return self._until is not None and now >= self._until and not self._trial and not self._down

    def begin_trial(self, now: float) -> bool:
        """Take the one trial if it is due; the caller must end it."""
        if not self.due(now):
            return False
        self._trial = True
        return True

    def end_trial(self) -> None:
        """Let another request try, unless this one's outcome has settled it."""
        self._trial = False

    def connected(self) -> bool:
        """Note a new connection; return whether that ends an ejection."""
        self.connect_failures = 0
        return self._readmit()

    def connect_failed(self, now: float) -> float:
        """Note a failure to connect; return the seconds for which it ejects the URL, or 0."""
        self.connect_failures += 1
        if not self._eject_after or self.connect_failures < self._eject_after:
            return 0.0
        if self._until is None:
            self._back_off = min(FIRST_BACK_OFF, self._eject_max)
            self.ejections += 1
        elif now >= self._until:
            self._back_off = min(self._back_off * 2, self._eject_max)
        else:
            return 0.0  # it was under way before the ejection, or no other URL was left: this says nothing new
        self._until = now + self._back_off
        self._settle()
        return self._back_off

    def checked(self, good: bool) -> bool:
        """Note the answer to a health check; return whether ``sound`` has changed.

        A good answer ends an ejection, too: the check has connected.
        """
        before = self.sound
        self.last_check = good
        if good:
            self.bad_checks = 0
            self._down = False
            self.connect_failures = 0
            self._readmit()
        else:
            self.bad_checks += 1
            self._down = self._down or self.bad_checks >= BAD_CHECKS
        self._settle()
        return self.sound != before

    def _readmit(self) -> bool:
        ejected, self._until = self._until is not None, None
        self._settle()
        return ejected

    def _settle(self) -> None:
        self.sound = self._until is None and not self._down
