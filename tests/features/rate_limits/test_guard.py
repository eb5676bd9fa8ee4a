"""``gateway/features/rate_limits/guard.py``: which buckets a request takes from, and what the answers say of it."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.rate_limits.guard import RateLimitGuard
from gateway.features.rate_limits.reasons import RATE_LIMITED
from gateway.identity import Identity
from gateway.policy.routes import Route, RouteTable
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.tokens.api_keys import entry

UPSTREAM = {"name": "main", "urls": ["http://127.0.0.1:9"]}
ALICE = Identity("main", "https://idp.test/", "alice", (), MappingProxyType({"tenant": "a"}), b"", 0.0, 0.0, None)

TOKEN = Shown(b"t")


class Asked:
    """A guard without a listener, asked as the pipeline asks it."""

    def __init__(self, *routes: dict[str, Any]) -> None:
        made: dict[str, Any] = {"upstreams": [UPSTREAM], "api_keys": [entry()]}
        made["routes"] = [{"upstream": "main", **route} for route in routes]
        settings = Settings.model_validate(made)
        self.clock = FakeClock()
        self.guard = RateLimitGuard(settings, self.clock, None)
        self.routes = RouteTable(settings.routes).routes
        self.covered = [self.guard.covers(route) for route in self.routes]

    def run(self, client: str = "192.0.2.1") -> Run:
        return Run(None, None, Record(started=0, client=client), b"id")  # type: ignore[arg-type]

    def admitted(self, route: Route) -> Admitted:
        return Admitted(route, None, "", None)  # type: ignore[arg-type]

    def ask(self, number: int = 0, identity: Identity | None = ALICE, shown: Shown | None = TOKEN) -> Run:
        """Ask about one request from beginning to end.

        Raises:
            GatewayError: it is refused.
        """
        run, admitted = self.run(), self.admitted(self.routes[number])
        assert self.guard.before(run, admitted) is None
        assert self.guard.after(run, admitted, shown, identity) is None
        return run


def limit(requests: int = 1, seconds: float = 10, by: str = "sub", **more: Any) -> dict[str, Any]:
    return {"requests": requests, "seconds": seconds, "by": by, **more}


def test_only_routes_with_limits_are_covered() -> None:
    asked = Asked({"path": "/a", "rate_limit": limit()}, {"path": "/b"})
    assert asked.covered == [True, False]
    assert asked.ask(0).answer_fields != []
    assert asked.ask(1).answer_fields == []
    assert asked.guard.status()["limits"] == 1


def test_refusals_say_when_and_why() -> None:
    asked = Asked({"path": "/a", "rate_limit": [limit(5), limit(1, 30), limit(9, 9, by="address", burst=9)]})
    asked.ask()
    with pytest.raises(GatewayError) as caught:
        asked.ask()
    error = caught.value
    assert (error.reason, error.detail, error.retry_after) == (RATE_LIMITED, "by sub, sub-2", 30)
    assert (error.reason.kind.status, error.reason.kind.error) == (429, "rate_limited")


def test_the_worker_s_own_buckets_decide_at_once() -> None:
    """Nothing to wait for: memory answers, so no task is needed."""
    asked = Asked({"path": "/a", "rate_limit": [limit(3), limit(1, by="address")]})
    run, admitted = asked.run(), asked.admitted(asked.routes[0])
    assert asked.guard.before(run, admitted) is None
    with pytest.raises(GatewayError):
        asked.guard.before(run, admitted)
    asked.guard.refused(run, admitted, GatewayError(Reasons.BAD_SIGNATURE))
    assert asked.guard.counts == {("/a", "address", "admitted"): 1, ("/a", "address", "limited"): 1}


def test_limits_that_are_not_about_a_caller_say_nothing() -> None:
    asked = Asked({"path": "/a", "credentials": ["api_key", "jwt"], "rate_limit": limit(by="api_key")})
    for _ in range(3):
        assert asked.ask().answer_fields == []
    key = ALICE._replace(credential="api_key")
    assert asked.ask(0, key, Shown(b"key")).answer_fields[1] == (b"RateLimit", b'"api_key";r=0;t=10')
    with pytest.raises(GatewayError):
        asked.ask(0, key, Shown(b"key"))
    asked.ask(0, key, Shown(b"another"))
    asked.ask(0, None, None)
