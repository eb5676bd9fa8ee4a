"""From a route's options to its limits."""

from __future__ import annotations

import pytest

from gateway.features.rate_limits.limits import compile_limits
from gateway.features.rate_limits.options import RateLimit


def test_a_limit_has_a_name_of_its_own_and_a_tenth_of_itself_as_burst() -> None:
    limits = compile_limits(
        [
            RateLimit(requests=100),
            RateLimit(requests=5, seconds=60),
            RateLimit(requests=1000, seconds=3600, by="address", burst=7),
            RateLimit(requests=15, by="claim:tenant"),
            RateLimit(requests=15, seconds=9),
        ]
    )
    assert [(one.name, one.burst) for one in limits] == [
        *(("sub", 10), ("sub-2", 1), ("address", 7)),
        *(("claim:tenant", 2), ("sub-3", 2)),
    ]
    assert [limits[0].interval, limits[0].tolerance] == pytest.approx([0.01, 0.09], rel=1e-3)
    assert [limits[2].interval, limits[2].tolerance] == pytest.approx([3.6, 21.6], rel=1e-3)
