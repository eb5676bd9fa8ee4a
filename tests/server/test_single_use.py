"""The guard of routes that accept a token once."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.policy.routes import Route, RouteTable
from gateway.server.request import Admitted
from gateway.server.run import Run
from gateway.server.single_use import SingleUse
from gateway.settings import schema
from gateway.tokens.replay import ReplayMemory
from tests.support.clock import FakeClock
from tests.support.verifying import make_settings

#: The guard looks at neither.
RUN, ADMITTED = cast(Run, None), cast(Admitted, None)


def routes(*made: schema.Route) -> tuple[Route, ...]:
    return RouteTable(made).routes


def identity(clock: FakeClock, **fields: Any) -> Identity:
    made = Identity("main", "https://idp.test/", "alice", (), {}, b"", clock.wall() + 60, -math.inf, "id")
    return made._replace(**fields)


def guard(clock: FakeClock, leeway: float = 30) -> SingleUse:
    settings = make_settings({"leeway_seconds": leeway})
    return SingleUse(settings, ReplayMemory(10, clock.monotonic), clock)


async def outcome(made: SingleUse, who: Identity | None) -> Reason | None:
    """Return why a caller is refused; None when it may pass."""
    try:
        if (waiting := made.after(RUN, ADMITTED, b"token", who)) is not None:
            await waiting
    except GatewayError as error:
        return error.reason
    return None


def test_it_watches_the_routes_that_say_so() -> None:
    made = guard(FakeClock())
    once, plain = routes(
        schema.Route(path="/once", upstream="a", single_use=True), schema.Route(path="/", upstream="a")
    )
    assert made.covers(once)
    assert not made.covers(plain)


async def test_a_token_is_remembered_as_long_as_it_could_be_used() -> None:
    """R129: to its expiry, and the leeway behind it."""
    clock = FakeClock()
    made, who = guard(clock), identity(clock)
    assert await outcome(made, who) is None
    clock.jump(89.9)
    assert await outcome(made, who) is Reason.REPLAYED_TOKEN
    clock.jump(0.2)
    assert made.used.entries == 1
    assert await outcome(made, identity(clock)) is None
    assert made.used.entries == 1


async def test_two_issuers_may_use_the_same_id() -> None:
    """R354."""
    clock = FakeClock()
    made = guard(clock)
    assert await outcome(made, identity(clock)) is None
    assert await outcome(made, identity(clock, issuer="https://other.test/")) is None
    assert await outcome(made, identity(clock, subject="bob")) is Reason.REPLAYED_TOKEN


@pytest.mark.parametrize("fields", [{"token_id": None}, {"expires_at": math.inf}])
async def test_a_token_that_nobody_can_remember_is_refused(fields: dict[str, Any]) -> None:
    clock = FakeClock()
    assert await outcome(guard(clock), identity(clock, **fields)) is Reason.NO_TOKEN_ID


async def test_without_a_caller_and_before_it_is_known_there_is_nothing_to_spend() -> None:
    made = guard(FakeClock())
    assert made.before(RUN, ADMITTED) is None
    assert await outcome(made, None) is None
    made.refused(RUN, ADMITTED, GatewayError(Reason.EXPIRED))
    assert made.used.entries == 0
