"""Every end-to-end test runs once in each lane: nobody outside can tell them apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateway import LANE


@pytest.fixture(params=["express", "full"], autouse=True)
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start gateways with the express lane on, and again with it off."""
    token = LANE.set(request.param)
    yield request.param
    LANE.reset(token)
