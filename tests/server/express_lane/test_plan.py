"""What may be remembered of a request line, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.server.express_lane.plan import Plan, plannable
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.upstream.pool.upstream_url import Origin
from tests.support.clock import FakeClock
from tests.support.gateways.sections import HEAD, PIPELINE, admitted, known

UPSTREAM = UpstreamSettings(name="orders", urls=["http://127.0.0.1:1"])


@pytest.mark.parametrize(
    ("target", "lines", "may"),
    [
        pytest.param(b"/a?x=1", (), True, id="plain"),
        pytest.param(b"/observed", (), False, id="observed route"),
        pytest.param(b"/token", (), False, id="token goes on"),
        pytest.param(b"/cors", (), False, id="other origins"),
        pytest.param(b"http://api.test/a", (), False, id="absolute form"),
        pytest.param(b"/a?access_token=x", (), False, id="token in the query"),
        pytest.param(b"/a", (b"Content-Length: 3",), True, id="content"),
    ],
)
def test_only_a_line_that_means_the_same_each_time_is_planned(
    target: bytes, lines: tuple[bytes, ...], may: bool
) -> None:
    section, _ = known(b"Host: api.test", *lines)
    assert plannable(admitted(target, section)) is may


def test_plan_counts_under_its_route_and_method_class() -> None:
    section, _ = known(b"Host: api.test")
    place: Any = object()  # a plan only holds its upstream
    plan = Plan("BREW", admitted(b"/", section), place, anonymous=True)
    assert plan.counter(200) == ("/", "other", 200, "forwarded")
    assert plan.counter(200) is plan.counter(200)
    assert plan.counter(404) == ("/", "other", 404, "forwarded")


@pytest.mark.parametrize("id_", [b"1", b"401", b"X-Request-Id:", b"a" * 128])
@pytest.mark.rule("R400")
async def test_start_of_an_upstream_head_is_completed_by_what_is_one_requests_own(id_: bytes) -> None:
    """No head is made by looking for bytes in another one, so none can be found in the wrong place."""
    section, _ = known(b"Host: api.test", b"X-A: X-Request-Id: ")
    where, origin = admitted(b"/a", section), Origin("http://127.0.0.1:1", UPSTREAM, clock=FakeClock())
    start = PIPELINE.upstream_head_start(HEAD._replace(headers=section.headers), where, origin)
    whole = PIPELINE.upstream_head(HEAD._replace(headers=section.headers), where, None, origin, id_)
    assert start + b"X-Request-Id: " + id_ + b"\r\n\r\n" == whole
    await origin.close()
