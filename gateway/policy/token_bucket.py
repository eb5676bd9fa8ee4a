"""How many requests a caller may send: token buckets, in bounded memory.

This file has the arithmetic and the table of buckets; whose requests are counted together is ``caller_names.py``'s,
and asking a store that gateways share is the business of the feature that limits (``features/rate_limits``). The
clock is an argument: monotonic seconds.

A bucket is one number: the moment at which it will be full again (the generic
cell rate algorithm, ITU-T I.371: the theoretical arrival time). A request moves
it by the limit's interval; it may not be further away than the tolerance. So a
bucket whose moment has passed is as good as none, and need not be kept.

The danger of this file is a client that has its own bucket forgotten on
purpose. The table has a bound, and a client that fills it with made-up callers
pushes others out, itself included. So each limit has a table of its own;
buckets that are full go first; and when one has to go that is not, each new
caller starts with what it had used up: one request and no burst. To be
forgotten then gains a client no more than one request for each table of
newcomers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple


class Limit(NamedTuple):
    """One limit, compiled.

    Attributes:
        name: what clients, logs and metrics call it.
        by: what requests are counted by, as configured.
        requests, seconds, burst: as configured.
        interval: seconds between two requests at the full rate.
        tolerance: how far ahead a bucket's moment may be for a request to pass.
    """

    name: str
    by: str
    requests: int
    seconds: float
    burst: int
    interval: float
    tolerance: float


class Level(NamedTuple):
    """What is left in a bucket.

    Attributes:
        fits: this bucket lets the request through.
        left: requests that it would let through at once now.
        wait: seconds until there is one more.
    """

    fits: bool
    left: int
    wait: float


def tolerance(burst: int, interval: float) -> float:
    """Return how far ahead a bucket's moment may be for a request to pass.

    A little more than the burst needs, so that it does not depend on how moments are rounded; it never adds up.
    """
    return (burst - 1) * interval + min(interval / 1000, 1e-6)


def level(limit: Limit, ahead: float, *, fits: bool) -> Level:
    """Return what is left in a bucket.

    Args:
        limit: the bucket's.
        ahead: seconds until it is full.
        fits: it lets the request through.
    """
    spare = limit.tolerance - ahead
    if spare < 0 or not fits:
        return Level(fits, 0, max(-spare, 0.0))
    left = min(limit.burst, math.floor(spare / limit.interval) + 1)
    return Level(fits, left, max(left * limit.interval - spare, 0.0))


class Buckets:
    """The buckets of one limit.

    Args:
        limit: the limit.
        most: how many are kept.

    Attributes:
        forgotten: how many had to go before they were full.
    """

    __slots__ = ("_full_at", "_inherited", "_most", "forgotten", "limit")

    def __init__(self, limit: Limit, most: int) -> None:
        self.limit = limit
        self.forgotten = 0
        self._most = most
        self._full_at: OrderedDict[bytes, float] = OrderedDict()
        self._inherited = -math.inf

    def __len__(self) -> int:
        return len(self._full_at)

    def full_at(self, key: bytes, now: float) -> float:
        """Return the moment at which a bucket will be full, now or later."""
        found = self._full_at.get(key)
        if found is None:
            found = min(self._inherited, now + self.limit.tolerance)
        return max(found, now)

    def spend(self, key: bytes, full_at: float, now: float) -> None:
        """Take one request out of a bucket, which is full at ``full_at`` without it."""
        self.put(key, full_at + self.limit.interval, now)

    def put(self, key: bytes, full_at: float, now: float) -> None:
        """Note the moment at which a bucket will be full."""
        table = self._full_at
        is_new = key not in table
        table[key] = full_at
        if not is_new:
            table.move_to_end(key)
            return
        # Two for one: so the table shrinks while there is anything to let go.
        for _ in range(2):
            if table[next(iter(table))] > now:
                break
            table.popitem(last=False)
        while len(table) > self._most:
            _, lost = table.popitem(last=False)
            if lost > now:
                self._inherited = max(self._inherited, lost)
                self.forgotten += 1

    def touch(self, key: bytes) -> None:
        """Note that a bucket was asked, so that it is not the next to go."""
        if key in self._full_at:
            self._full_at.move_to_end(key)


def take(asked: Iterable[tuple[Buckets, bytes]], now: float) -> list[Level]:
    """Take one request out of each of these buckets if all let it through, or out of none."""
    found = [(buckets, key, buckets.full_at(key, now)) for buckets, key in asked]
    fits = [full_at <= now + buckets.limit.tolerance for buckets, _, full_at in found]
    passes = all(fits)
    levels = []
    for (buckets, key, full_at), fit in zip(found, fits, strict=True):
        if passes:
            buckets.spend(key, full_at, now)
            full_at += buckets.limit.interval
            levels.append(level(buckets.limit, full_at - now, fits=True))
        else:
            buckets.touch(key)
            levels.append(level(buckets.limit, full_at - now, fits=fit))
    return levels


class Barred:
    """Callers whose refusal is known until a certain moment.

    Args:
        most: how many are kept; the oldest go first, as if they had never been put.
    """

    __slots__ = ("_most", "_until")

    def __init__(self, most: int) -> None:
        self._most = most
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def until(self, key: bytes, now: float) -> float | None:
        """Return the moment until which a caller is barred; None when it is not barred."""
        found = self._until.get(key)
        if found is None:
            return None
        if found <= now:
            del self._until[key]
            return None
        return found

    def put(self, key: bytes, until: float, now: float) -> None:
        """Bar a caller until a moment."""
        self._until[key] = until
        self._until.move_to_end(key)
        self.tidy(now)
        if len(self._until) > self._most:
            self._until.popitem(last=False)

    def tidy(self, now: float) -> None:
        """Forget the callers whose time is over, the oldest first."""
        while self._until and self._until[next(iter(self._until))] <= now:
            self._until.popitem(last=False)
