"""The bounds on introspection requests to one authorization server: slots, and a budget for made-up tokens.

Counts and nothing else; it is pure. The danger is a flood of made-up tokens:
each would cost an introspection request. So no more requests run and wait than
there are slots, and those that do not find a good token have a budget. Beyond
either bound a request is refused for the price of a few comparisons. Tokens
that were good before are not made up: they need no budget, and a quarter of the
slots is reserved for them.
"""

from __future__ import annotations

import math

from gateway.clock import Clock

#: The part of all slots that tokens which were not good before may take.
_FOR_UNKNOWN = 0.75


#: The weight of one introspection request in the running average of those that end without a good token.
_WEIGHT = 0.05


#: For how many seconds ``closed`` may be assumed to stay true: requests that find a good token open the gate earlier.
_MAX_CLOSED_SECONDS = 0.05


class Gate:
    """Counts the introspection requests of one worker to one server.

    Args:
        slots: how many requests may run or wait.
        budget: how many requests each second may end without a good token; 0 for no limit.
        clock: the time.

    Attributes:
        taken: requests that run or wait.
        refusals: requests that were not begun.
        closed_until: monotonic seconds until which ``closed`` need not be called: it would return True.
    """

    def __init__(self, slots: int, budget: float, clock: Clock) -> None:
        self.taken = 0
        self.refusals = 0
        self._slots = slots
        self._for_unknown = max(1, int(slots * _FOR_UNKNOWN))
        self._budget = budget
        self._max_left = max(1.0, budget)
        self._left = self._max_left
        self.closed_until = -math.inf
        self._unknown = 0
        self._wasted = 0.0
        self._monotonic = clock.monotonic
        self._counted_at = clock.monotonic()

    def enter(self, *, known: bool) -> bool:
        """Take a slot; return whether there was one.

        Args:
            known: the token was good when it was last introspected.
        """
        if self.taken >= self._slots if known else self.closed():
            self.refusals += 1
            return False
        self.taken += 1
        self._unknown += not known
        return True

    def closed(self) -> bool:
        """Return whether a token that was not good before would get no slot now."""
        return self.taken >= self._for_unknown or not self._may_waste()

    def leave(self, *, known: bool, good: bool) -> None:
        """Give a slot back.

        Args:
            known: as for ``enter``.
            good: the token turned out good, so the request does not count against the budget.
        """
        self.taken -= 1
        if known:
            return
        self._unknown -= 1
        self._left -= not good
        self._wasted += (float(not good) - self._wasted) * _WEIGHT

    def _may_waste(self) -> bool:
        if not self._budget:
            return True
        now = self._monotonic()
        self._left = min(self._max_left, self._left + (now - self._counted_at) * self._budget)
        self._counted_at = now
        # Of the requests that run, the same share will be wasted as of the last ones. After a start, when all tokens
        # are unknown and good, the share is zero, so they need not wait for each other; in a flood it is one.
        missing = 1.0 + self._wasted * self._unknown - self._left
        if missing <= 0:
            return True
        self.closed_until = now + min(_MAX_CLOSED_SECONDS, missing / self._budget)
        return False
