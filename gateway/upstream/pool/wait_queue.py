"""Requests that wait for a connection to an upstream: who is next, and who has waited too long.

Keeps the order, one queue for all URLs of an upstream and for both
lanes. Who gets what is ``upstream.py``'s business. A request that waits is a
line in the queue and nothing else: no task, no timer. The danger is a request
that stands here when nothing will come for it; so each has a time limit, but
for those that a connection is being opened for, which has a limit of its own.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

from gateway.errors import GatewayError
from gateway.tasks import note_failure
from gateway.upstream.pool.upstream_url import Lease, Origin


class LeaseWait(ABC):
    """One request's wait for a connection; exactly one of its methods is called, once, unless it leaves.

    Both are called in the turn of another request: they must be short, and must not fail.

    Attributes:
        fresh: it takes no connection that has served before.
        due: monotonic seconds at which it has waited long enough.
        home: the URL that it is counted for.
    """

    __slots__ = ("due", "fresh", "home")

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.due = 0.0
        self.home: Origin | None = None

    @abstractmethod
    def leased(self, origin: Origin, lease: Lease) -> None:
        """Take the connection, and answer for it from now on."""

    @abstractmethod
    def not_leased(self, error: GatewayError) -> None:
        """End the wait without a connection, for this reason."""


class AwaitedLease(LeaseWait):
    """The wait of a request that has a task."""

    __slots__ = ("_leased",)

    def __init__(self, *, fresh: bool) -> None:
        super().__init__(fresh=fresh)
        self._leased: asyncio.Future[tuple[Origin, Lease]] = asyncio.get_running_loop().create_future()

    def leased(self, origin: Origin, lease: Lease) -> None:
        """Wake the request."""
        if self._leased.done():
            lease.release()  # it was cancelled, and has not noticed yet
        else:
            self._leased.set_result((origin, lease))

    def not_leased(self, error: GatewayError) -> None:
        """Wake the request."""
        if not self._leased.done():
            self._leased.set_exception(error)

    async def result(self, leave: Callable[[LeaseWait], None]) -> tuple[Origin, Lease]:
        """Return what was leased.

        Args:
            leave: takes this wait out of its queue.

        Raises:
            GatewayError: nothing was.
        """
        leased = self._leased
        try:
            return await leased
        except asyncio.CancelledError:
            leave(self)
            if leased.done() and not leased.cancelled() and leased.exception() is None:
                leased.result()[1].release()  # it came at the same moment: the next one gets it
            raise


def give(wait: LeaseWait, origin: Origin, lease: Lease) -> None:
    """Call ``wait.leased``, and answer for the connection if that fails."""
    try:
        wait.leased(origin, lease)
    except Exception as error:  # the turn is another request's, which must not fail for this one
        note_failure("upstream connections", error)
        lease.discard()


def refuse_wait(wait: LeaseWait, error: GatewayError) -> None:
    """Call ``wait.not_leased``."""
    try:
        wait.not_leased(error)
    except Exception as failure:  # as above
        note_failure("upstream connections", failure)


class WaitQueue:
    """Those who wait for a connection to one upstream, the first one first.

    Args:
        seconds: how long each waits at most.

    Attributes:
        waits: they, in order; each can leave from any place without a search.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.waits: OrderedDict[LeaseWait, None] = OrderedDict()

    def add(self, wait: LeaseWait, home: Origin, now: float) -> None:
        """Put one at the end."""
        wait.home, wait.due = home, now + self._seconds
        self.waits[wait] = None

    def first(self) -> LeaseWait:
        """Return who is next; there must be one."""
        return next(iter(self.waits))

    def pop(self) -> LeaseWait:
        """Take out who is next, and return it; there must be one."""
        return self.waits.popitem(last=False)[0]

    def overdue(self, now: float, covered: int, most: int) -> list[LeaseWait]:
        """Return those who have waited too long.

        Args:
            now: monotonic seconds.
            covered: connections that are being opened: so many of the first wait for these, not for a place.
            most: return no more than so many.
        """
        found = []
        for wait in islice(self.waits, covered, covered + most):
            if wait.due > now:
                break
            found.append(wait)
        return found

    def next_due(self, covered: int) -> float | None:
        """Return when the next one will have waited too long; None when there is no such one.

        Args:
            covered: see ``overdue``.
        """
        wait = next(islice(self.waits, covered, None), None)
        return None if wait is None else wait.due

    def counted_for(self, home: Origin, covered: int) -> int:
        """Return how many wait for a place and are counted for this URL.

        Args:
            covered: see ``overdue``.
        """
        return sum(wait.home is home for wait in islice(self.waits, covered, None))
