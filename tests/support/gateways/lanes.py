"""In which lane, and with which access log, a test's gateways run: from outside they must be the same.

Without an access log the express lane writes no record of a plain request and takes shorter ways, so the log is a
dimension of its own. Every end-to-end test runs in both lanes with the log on, which is how gateways run by default.
What is about answers, framing, refusals or several requests on a connection runs with the log off as well: its file
has the mark ``every_log``. A test that reads the log has nothing to read there, and says so by doing it: its own text
has ``.log(`` or ``.out.``, or it has the mark ``reads_log``. One that has the mark ``every_log`` itself runs with
either log, whatever its text has.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence

import pytest

from tests.support.gateways.running import ACCESS_LOG, LANE

#: Lane and access log of each kind of gateway.
EVERY = (("express", "json"), ("full", "json"), ("express", "off"), ("full", "off"))

_PARAMS = [pytest.param(one, id=one[0] if one[1] == "json" else "-".join(one)) for one in EVERY]


@contextlib.contextmanager
def running_in(lane: str, access_log: str) -> Iterator[None]:
    """Start gateways in this lane and with this access log, unless a test says so itself."""
    before = LANE.set(lane), ACCESS_LOG.set(access_log)
    try:
        yield
    finally:
        LANE.reset(before[0])
        ACCESS_LOG.reset(before[1])


def params_of(metafunc: pytest.Metafunc) -> Sequence[object]:
    """Return in which lanes and with which logs a test runs."""
    test = metafunc.definition
    own = {mark.name for mark in test.own_markers}
    text = inspect.getsource(metafunc.function)
    reads = "reads_log" in own or ".log(" in text or ".out." in text
    either = "every_log" in own or (test.get_closest_marker("every_log") is not None and not reads)
    return _PARAMS if either else _PARAMS[:2]


@pytest.fixture(name="lane", params=_PARAMS, autouse=True)
def every_lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run each test of the importing module in both lanes, with the log on and off; for files outside ``tests/e2e``."""
    with running_in(*request.param):
        yield request.param[0]
