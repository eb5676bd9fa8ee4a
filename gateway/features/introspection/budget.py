"""How many questions an authorization server is asked: places, and a budget for made-up tokens.

Only the counting lives here; it is pure. The danger is a flood of tokens that
somebody made up: each would cost a question. So no more questions run and wait
than there are places, and those that lead to nothing have a budget. Beyond
both the answer is "not now", at the price of a few comparisons. Tokens that
were good before are not made up: they need no budget, and a quarter of the
places is theirs.
"""

from __future__ import annotations

import math

from gateway.clock import Clock

#: The part of all places that tokens which were not good before may take.
_FOR_UNKNOWN = 0.75


#: How much one question counts in what is expected of the next.
_WEIGHT = 0.05


#: For how many seconds an answer "closed" may be taken for the next one: questions that end well open it earlier.
_MAX_CLOSED_SECONDS = 0.05


class Gate:
    """Counts the questions of one worker to one server.

    Args:
        places: most that run or wait.
        budget: most questions each second that lead to no good token; 0 for no limit.
        clock: the time.

    Attributes:
        taken: those that run or wait.
        refusals: those that were not begun.
        closed_until: monotonic seconds until which ``closed`` need not be asked: it would say so.
    """

    def __init__(self, places: int, budget: float, clock: Clock) -> None:
        self.taken = 0
        self.refusals = 0
        self._places = places
        self._for_unknown = max(1, int(places * _FOR_UNKNOWN))
        self._budget = budget
        self._most = max(1.0, budget)
        self._left = self._most
        self.closed_until = -math.inf
        self._unknown = 0
        self._wasted = 0.0
        self._monotonic = clock.monotonic
        self._counted_at = clock.monotonic()

    def enter(self, *, known: bool) -> bool:
        """Take a place; say whether there was one.

        Args:
            known: the token was good when it was last asked about.
        """
        if self.taken >= self._places if known else self.closed():
            self.refusals += 1
            return False
        self.taken += 1
        self._unknown += not known
        return True

    def closed(self) -> bool:
        """Tell whether a token that was not good before would get no place now."""
        return self.taken >= self._for_unknown or not self._may_waste()

    def leave(self, *, known: bool, good: bool) -> None:
        """Give a place back.

        Args:
            known: as for ``enter``.
            good: the token turned out good: the question was no waste.
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
        self._left = min(self._most, self._left + (now - self._counted_at) * self._budget)
        self._counted_at = now
        # Those that run will waste as many as the last ones did. After a start, when all tokens are unknown and good,
        # that is none, so they need not wait for each other; in a flood it is all of them.
        missing = 1.0 + self._wasted * self._unknown - self._left
        if missing <= 0:
            return True
        self.closed_until = now + min(_MAX_CLOSED_SECONDS, missing / self._budget)
        return False
