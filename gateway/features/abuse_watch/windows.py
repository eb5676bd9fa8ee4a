"""What looks like abuse: counters with a window, in bounded memory.

Counts and nothing else; ``features/abuse_watch/watch.py`` decides what is counted, and
what follows from a count that is too high. The clock is an argument: monotonic seconds.

Memory is bounded by two numbers: how many keys are kept, and how many different
things of each. A client that can make new keys at will pushes others out of the
table, and their counts are lost: a flag is a hint, and its absence proves nothing.
"""

from __future__ import annotations

from collections import OrderedDict

from gateway.policy.token_bucket import Buckets, Limit, tolerance


class Bursts:
    """Finds keys that occur more often than so many times in a window.

    A bucket of ``limit`` occurrences that is filled evenly over the window. A key with at most ``limit`` occurrences in
    every window is never found; one with more than twice as many always is.

    Args:
        limit: occurrences that are not too many.
        seconds: the window.
        keys: how many keys are kept.
    """

    def __init__(self, limit: int, seconds: float, keys: int) -> None:
        interval = seconds / limit
        self._buckets = Buckets(Limit("", "", limit, seconds, limit, interval, tolerance(limit, interval)), keys)

    def __len__(self) -> int:
        return len(self._buckets)

    def too_many(self, key: bytes, now: float) -> bool:
        """Count one occurrence, and return whether it is one too many. Those that are too many are not counted."""
        full_at = self._buckets.full_at(key, now)
        if full_at > now + self._buckets.limit.tolerance:
            self._buckets.touch(key)
            return True
        self._buckets.spend(key, full_at, now)
        return False


class Varieties:
    """Finds keys that occur with more than so many different things within a window.

    Exact while a key is kept: each thing is remembered with the moment at which it was last seen.

    Args:
        limit: different things that are not too many.
        seconds: the window.
        keys: how many keys are kept.
    """

    def __init__(self, limit: int, seconds: float, keys: int) -> None:
        self._limit = limit
        self._seconds = seconds
        self._keys = keys
        self._seen: OrderedDict[bytes, dict[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def too_many(self, key: bytes, thing: bytes, now: float) -> bool:
        """Note that a key occurred with a thing, and return whether it occurred with too many different ones.

        Such a key is forgotten, and counted anew.
        """
        things = self._seen.get(key)
        if things is None:
            self._seen[key] = {thing: now}
            if len(self._seen) > self._keys:
                self._seen.popitem(last=False)
            return False
        self._seen.move_to_end(key)
        things.pop(thing, None)
        things[thing] = now
        if len(things) <= self._limit:
            return False
        for old in [name for name, last in things.items() if last <= now - self._seconds]:
            del things[old]
        if len(things) <= self._limit:
            return False
        del self._seen[key]
        return True
