"""The statistics of a few rounds: median, least and most, and ratios that compare within a round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """What some rounds gave.

    Attributes:
        rounds: one number a round, in the order in which they were measured.
    """

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def least(self) -> float:
        return min(self.rounds)

    @property
    def most(self) -> float:
        return max(self.rounds)

    def over(self, other: Spread) -> Spread:
        """Return the ratio to ``other``, round by round: what slowed both down in a round changes nothing."""
        return Spread(tuple(mine / theirs for mine, theirs in zip(self.rounds, other.rounds, strict=True)))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of values that are in ascending order.

    Args:
        ordered: at least one value.
        share: between 0 and 1.
    """
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
