"""benchmarks/spread.py: medians, spreads, ratios within a round, percentiles."""

from __future__ import annotations

import pytest

from benchmarks.spread import Spread, percentile


def test_a_spread_is_its_median_and_its_ends() -> None:
    spread = Spread((5.0, 1.0, 3.0, 4.0))
    assert (spread.median, spread.least, spread.most) == (3.5, 1.0, 5.0)


def test_a_ratio_compares_within_each_round() -> None:
    """The machine was half as fast in the second round: both rows were, so the ratio stays."""
    ratio = Spread((200, 100, 300)).over(Spread((100, 50, 100)))
    assert ratio.rounds == (2, 2, 3)
    assert ratio.median == 2


def test_rows_with_different_numbers_of_rounds_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Spread((1, 2)).over(Spread((1,)))


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)])
def test_percentiles_are_values_that_occurred(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value
    assert percentile([7.0], share) == 7.0
