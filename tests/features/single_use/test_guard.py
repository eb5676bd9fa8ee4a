"""The guard of routes that accept a token once."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.single_use.guard import SingleUse
from gateway.features.single_use.reasons import NO_TOKEN_ID, REPLAYED_TOKEN
from gateway.identity import Identity
from gateway.policy.routes import Route, RouteTable
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.store.one_time_ids import Once, ReplayMemory
from tests.support.clock import FakeClock
from tests.support.composed import Route as RouteSettings
from tests.support.tokens.verifying import make_settings

#: The guard does not look at it.
RUN = cast(Run, None)


def routes(*made: RouteSettings) -> tuple[Route, ...]:
    return RouteTable(made).routes


def admitted(**options: Any) -> Admitted:
    """What the guard looks at: the route."""
    (route,) = routes(RouteSettings(path="/once", upstream="a", single_use=True, **options))
    return cast(Admitted, SimpleNamespace(route=route))


def identity(clock: FakeClock, **fields: Any) -> Identity:
    made = Identity("main", "https://idp.test/", "alice", (), {}, b"", clock.wall() + 60, -math.inf, "id")
    return made._replace(**fields)


def guard(clock: FakeClock, leeway: float = 30) -> SingleUse:
    settings = make_settings({"leeway_seconds": leeway})
    return SingleUse(settings, ReplayMemory(10, clock), clock)


async def outcome(made: SingleUse, who: Identity | None, **options: Any) -> Reason | None:
    """Return why a caller is refused; None when it may pass. ``options`` are the route's."""
    try:
        if (waiting := made.after(RUN, admitted(**options), Shown(b"token"), who)) is not None:
            await waiting
    except GatewayError as error:
        return error.reason
    return None


def test_it_watches_the_routes_that_say_so() -> None:
    made = guard(FakeClock())
    once, plain = routes(
        RouteSettings(path="/once", upstream="a", single_use=True), RouteSettings(path="/", upstream="a")
    )
    assert made.covers(once)
    assert not made.covers(plain)


@pytest.mark.rule("R129")
async def test_a_token_is_remembered_as_long_as_it_could_be_used() -> None:
    """To its expiry, and the leeway behind it."""
    clock = FakeClock()
    made, who = guard(clock), identity(clock)
    assert await outcome(made, who) is None
    clock.jump(89.9)
    assert await outcome(made, who) is REPLAYED_TOKEN
    clock.jump(0.2)
    assert made.used.entries == 1
    assert await outcome(made, identity(clock)) is None
    assert made.used.entries == 1


@pytest.mark.rule("R354")
async def test_two_issuers_may_use_the_same_id() -> None:
    clock = FakeClock()
    made = guard(clock)
    assert await outcome(made, identity(clock)) is None
    assert await outcome(made, identity(clock, issuer="https://other.test/")) is None
    assert await outcome(made, identity(clock, subject="bob")) is REPLAYED_TOKEN


class Recorder(ReplayMemory):
    """Remembers what it was asked."""

    async def use(self, once: Once, *, undecided_passes: bool = False) -> bool:
        self.asked = once, undecided_passes
        return await super().use(once, undecided_passes=undecided_passes)


@pytest.mark.parametrize(
    ("fields", "longest", "earliest"),
    [
        ({"issued_at": 900.0}, 3600, 900.0),
        ({"issued_at": 900.0, "not_before": 950.0}, 3600, 950.0),
        ({"not_before": 950.0}, 0, 950.0),
        ({"expires_at": 4000.0}, 3600, 400.0),  # accepted from then on only
        ({"expires_at": 4000.0}, 0, 0.0),
    ],
)
@pytest.mark.rule("R439", "R440")
async def test_a_token_says_when_it_can_have_been_used_first(
    fields: dict[str, Any], longest: float, earliest: float
) -> None:
    """And it is kept for the greatest leeway that any gateway may have, and a margin for clocks."""
    clock = FakeClock(1000)
    settings = make_settings({"leeway_seconds": 2, "max_lifetime_seconds": longest})
    used = Recorder(10, clock)
    who = identity(clock, **fields)
    assert await outcome(SingleUse(settings, used, clock), who, single_use_failure="open") is None
    once, passes = used.asked
    assert (once.earliest, once.here, once.anywhere) == (earliest, who.expires_at + 2, who.expires_at + 300 + 120)
    assert passes


@pytest.mark.rule("R439")
async def test_a_full_memory_decides_by_the_route() -> None:
    """``closed`` is the default."""
    clock = FakeClock()
    made = SingleUse(make_settings(), ReplayMemory(1, clock), clock)
    assert await outcome(made, identity(clock)) is None
    assert await outcome(made, identity(clock, token_id="b")) is Reasons.REPLAY_STORE
    assert await outcome(made, identity(clock, token_id="b"), single_use_failure="open") is None
    assert await outcome(made, identity(clock), single_use_failure="open") is REPLAYED_TOKEN
    assert (made.used.undecided, made.used.passed) == (2, 1)


@pytest.mark.parametrize("fields", [{"token_id": None}, {"expires_at": math.inf}])
async def test_a_token_that_nobody_can_remember_is_refused(fields: dict[str, Any]) -> None:
    clock = FakeClock()
    assert await outcome(guard(clock), identity(clock, **fields)) is NO_TOKEN_ID


async def test_without_a_caller_and_before_it_is_known_there_is_nothing_to_spend() -> None:
    made = guard(FakeClock())
    assert made.before(RUN, admitted()) is None
    assert await outcome(made, None) is None
    made.refused(RUN, admitted(), GatewayError(Reasons.EXPIRED))
    assert made.used.entries == 0
