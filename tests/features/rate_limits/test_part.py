"""Rate limits on the metrics and status pages."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.features.rate_limits.options import Limits
from gateway.features.rate_limits.part import RateLimitsPart
from gateway.policy.routes import RouteTable
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.parts import samples_of
from tests.support.pipeline import core_of
from tests.support.tokens.verifying import make_settings


@pytest.mark.rule("R198")
def test_requests_are_counted_by_route_and_limit_and_callers_by_number() -> None:
    """Labels are configured names; no caller is one."""
    limit = {"requests": 2, "seconds": 60, "by": "address", "burst": 2}
    routes = [Route.model_validate({"path": "/a", "upstream": "orders", "rate_limit": limit})]
    settings = make_settings(routes=routes, limits=Limits(max_callers=100))
    part = RateLimitsPart(core_of(settings, FakeClock()))
    (route,) = RouteTable(settings.routes).routes
    assert part.guard.covers(route)
    admitted = Admitted(route, None, "", None)  # type: ignore[arg-type]

    def ask(client: str) -> None:
        part.guard.before(Run(None, None, None, Record(started=0, client=client), b"id"), admitted)  # type: ignore[arg-type]

    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        ask(client)
    with pytest.raises(GatewayError):
        ask("192.0.2.1")
    for number in range(99):
        ask(f"198.51.100.{number}")
    assert samples_of(part) == {
        ("gateway_rate_limit_requests_total", "/a", "address", "admitted"): 102,
        ("gateway_rate_limit_requests_total", "/a", "address", "limited"): 1,
        ("gateway_rate_limit_fallbacks_total",): 0,
        ("gateway_rate_limit_callers",): 100,
        ("gateway_rate_limit_forgotten_total",): 1,
    }
    assert part.status() == {"rate_limits": part.guard.status()}
    assert part.status()["rate_limits"]["callers"] == 100
