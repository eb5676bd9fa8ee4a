"""What may be remembered of a request line, and what never is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.server.express_memory import Plan, Refusal, plannable
from gateway.telemetry import Record
from tests.support.sections import admitted, known


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


def test_remembered_refusal_has_a_place_for_each_request_id() -> None:
    record = Record(0.0, request_id="0123abc", method="GET", route="/a", status=401, outcome="refused", reason="why")
    refusal = Refusal(b"X-Request-Id: 0123abc\r\n\r\n{0123abc}", record)
    assert b"789".join(refusal.parts) == b"X-Request-Id: 789\r\n\r\n{789}"
    assert (refusal.counter, refusal.reason) == (("/a", "read", 401, "refused"), "why")
