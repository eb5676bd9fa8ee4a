"""Every end-to-end test runs once in each lane, some with either access log (``tests/support/gateways/lanes.py``)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.gateways.lanes import params_of, running_in


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose lanes and logs by what the test is about."""
    metafunc.parametrize("lane", params_of(metafunc), indirect=True)


@pytest.fixture(autouse=True)
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start gateways with the express lane on, and again with it off."""
    with running_in(*request.param):
        yield request.param[0]
