"""What all sources of revocations have in common: their entries, and until when these are believed to be all there is.

Keeps that time; each source reads its entries itself. The danger is a claim to
know that outlives the knowledge: so it is no flag that a failed look would have
to take back, but a moment that only a good look moves on. Callers compare it
with the time.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.jwt.revocations.table import MAX_RECORDS, RevocationTable

_log = logging.getLogger("gateway.revocation")


class Inheritance(NamedTuple):
    """What one worker knows and hands to the next.

    Attributes:
        looked_at: monotonic seconds, which processes of one machine have in common: when the last good look began.
        place: where in the source it had come to; what that means is the source's own.
        records: of the entries in force, piece by piece.
    """

    looked_at: float
    place: str
    records: Iterable[bytes]


class RevocationSource(ABC):
    """Where entries come from.

    Args:
        clock: the time.
        max_age: how long after a good look began its outcome is believed, in seconds.

    Attributes:
        name: what metrics call it.
        table: the entries.
        known_until: monotonic seconds until which the entries count as all there is; minus infinity before the first
            good look.
        failures: how often it could not be read.
        applied: entries that were read.
        changed: called when there are other entries.
        moved: called when ``known_until`` is another.
    """

    name: str

    def __init__(self, clock: Clock, max_age: float) -> None:
        self.table = RevocationTable()
        self.known_until = float("-inf")
        self.failures = 0
        self.applied = 0
        self.changed: Callable[[], None] = _unheard
        self.moved: Callable[[], None] = _unheard
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._max_age, self._looked_at = max_age, float("-inf")
        self._told = False

    @abstractmethod
    async def start(self) -> None:
        """Read what is there, and keep up."""

    @abstractmethod
    async def stop(self) -> None:
        """Keep up no longer."""

    @property
    def known(self) -> bool:
        """Whether the entries are all there is, by the age of the last good look at this moment."""
        return self._monotonic() < self.known_until

    @property
    def filled(self) -> bool:
        """Whether it was read once."""
        return self._looked_at != float("-inf")

    @property
    def age(self) -> float:
        """Seconds since the last good look began; infinity before the first one."""
        return self._monotonic() - self._looked_at

    @abstractmethod
    async def catch_up(self, since: float) -> bool:
        """Look now, unless a good look has begun since that moment; return whether one has."""

    @property
    def place(self) -> str:
        """Where in the source the entries have come to, for ``inherit``; empty: read it from the start."""
        return ""

    def take(self, records: bytes, epoch: bytes) -> None:  # noqa: B027 - nothing is right for most
        """Take records that another process has written to this source just now; nothing where that does not happen.

        Args:
            records: one after the other.
            epoch: of the log that they were written to.
        """

    def bequeath(self) -> Inheritance:
        """Return what is known, for a worker that starts."""
        return Inheritance(self._looked_at, self.place, self.table.records(MAX_RECORDS, self._wall()))

    def inherit(self, left: Inheritance) -> None:
        """Begin with what another worker knew; it is as old as it was there. Before ``start``."""
        for records in left.records:
            self.table.apply(records, self._wall())
        self._looked_at, self.known_until = left.looked_at, left.looked_at + self._max_age
        self.changed()
        self.moved()

    def found_good(self, began: float, *, known: bool = True) -> None:
        """Note a good look.

        Args:
            began: when it began: what was written while it went on may not be in it.
            known: the source has all there is.
        """
        self._looked_at = began
        if known:
            self.known_until = began + self._max_age
            self.moved()
        self.tell()

    def unknown(self, why: str) -> None:
        """Note that the entries are not all there is, until the next good look that says so."""
        self.known_until, self._told = float("-inf"), False
        _log.warning("revocation list unavailable: %s", why)
        self.moved()

    def tell(self) -> None:
        """Log it when the entries have become known, or are so no longer."""
        if (known := self.known) is not self._told:
            self._told = known
            if known:
                _log.info("revocation list loaded from %s: %d entries", self.name, len(self.table))
            else:
                _log.warning(
                    "revocation list unavailable: the %s was last read %.1f s ago;"
                    ' routes with revocation_failure = "closed" answer 503',
                    self.name,
                    self.age,
                )

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {
            "known": self.known,
            "entries": len(self.table),
            "age_seconds": round(self.age, 3) if self.filled else None,
            "failures": self.failures,
            "applied": self.applied,
        }


def _unheard() -> None:
    """Do nothing: the source has no listener yet."""
