"""The clock of Redis, as far as it is known here.

Estimates it. What several gateways share is judged by the one clock that they
have in common; their own may differ. Between two samples it goes on by the
monotonic clock. An answer takes its time, and the server read its clock
somewhere within: so there are two estimates, none later and none earlier than
the truth, and callers take the one that is safe.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.store.answers import items, number


class StoreClock:
    """What is known of the clock of Redis. Moments are seconds since the epoch.

    Args:
        monotonic: the time here.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._least: float | None = None
        self._most = 0.0

    def sample(self, answer: object, asked_at: float) -> None:
        """Take an answer to ``TIME``.

        Args:
            asked_at: monotonic seconds at which the command was sent.

        Raises:
            OddAnswerError: it is not a moment.
        """
        seconds, microseconds = map(number, items(answer, 2))
        moment = seconds + microseconds / 1e6
        self._least, self._most = moment - self._monotonic(), moment - asked_at

    @property
    def not_after(self) -> float | None:
        """A moment that is not later than it is there; None before the first sample."""
        return None if self._least is None else self._least + self._monotonic()

    @property
    def not_before(self) -> float | None:
        """A moment that is not earlier than it is there; None before the first sample."""
        return None if self._least is None else self._most + self._monotonic()
