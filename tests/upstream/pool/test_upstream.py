"""Which URL a request goes to: turns, URLs that cannot be connected to, trials, checks, and both lanes' ways to ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError, Reasons
from gateway.tasks import spawn
from gateway.upstream.pool.dialer import Dialer
from gateway.upstream.pool.upstream import Upstream, open_upstreams
from tests.support.clock import FakeClock, eventually, settle
from tests.support.upstreams.coming_and_going import Service, services
from tests.support.upstreams.recording import Received
from tests.upstream.pools import served, settings


@contextlib.asynccontextmanager
async def balanced(members: list[Service], clock: Clock | None = None, **options: Any) -> AsyncIterator[Upstream]:
    """One upstream with these services as its URLs, its checks begun."""
    configured = settings(*(service.url for service in members), **options)
    upstream = Upstream(configured, clock or FakeClock(), jitter=lambda: 0.5)
    upstream.start_checks()
    try:
        yield upstream
    finally:
        await upstream.close()


async def asked(upstream: Upstream, count: int = 1) -> list[int]:
    """Run some exchanges; the numbers of the URLs that served them."""
    numbers = []
    for _ in range(count):
        origin, lease = await upstream.lease()
        assert await served(lease) == b"ok"
        numbers.append(upstream.origins.index(origin))
    return numbers


def asked_now(upstream: Upstream) -> int | None:
    """Take an idle connection as the express lane does, and put it back."""
    if (leased := upstream.lease_now()) is None:
        return None
    leased[1].release()
    return upstream.origins.index(leased[0])


def failures(upstream: Upstream) -> list[int]:
    return [origin.connect_failures for origin in upstream.origins]


def healths(upstream: Upstream) -> list[str]:
    return [origin.state().health for origin in upstream.origins]


async def test_urls_take_turns() -> None:
    """Contract: round robin, also where one lane leases what the other has given back."""
    async with services(3) as members, balanced(members) as upstream:
        assert await asked(upstream, 7) == [0, 1, 2, 0, 1, 2, 0]
        assert [asked_now(upstream) for _ in range(4)] == [1, 2, 0, 1]
        assert await asked(upstream, 2) == [2, 0]


async def test_lane_that_cannot_wait_leaves_the_turn_to_the_one_that_can() -> None:
    """A URL without an idle connection keeps its turn: else only those that have one would be asked."""
    async with services(2) as members, balanced(members) as upstream:
        assert asked_now(upstream) is None
        assert await asked(upstream, 1) == [0]
        assert [asked_now(upstream) for _ in range(3)] == [None] * 3
        assert await asked(upstream, 1) == [1]
        assert [asked_now(upstream) for _ in range(4)] == [0, 1, 0, 1]


async def test_request_moves_on_from_a_url_that_cannot_be_connected_to() -> None:
    """Nothing was sent, so any request may: every one is served, and after 3 failures the URL is left alone."""
    async with services(3) as members, balanced(members) as upstream:
        members[1].off()
        assert 1 not in await asked(upstream, 30)
        assert failures(upstream) == [0, 3, 0]
        assert healths(upstream) == ["healthy", "ejected", "healthy"]
        assert await asked(upstream, 4) in ([0, 2, 0, 2], [2, 0, 2, 0])


async def test_one_request_tries_after_the_back_off_and_brings_the_url_back() -> None:
    """Half-open: 1 s, 2 s, 4 s between the tries of single requests, which are served elsewhere."""
    clock = FakeClock()
    async with services(2) as members, balanced(members, clock) as upstream:
        members[0].off()
        await asked(upstream, 8)
        for back_off in (1, 2, 4):
            before = failures(upstream)[0]
            clock.jump(back_off - 0.01)
            assert await asked(upstream, 4) == [1, 1, 1, 1]
            assert failures(upstream)[0] == before
            clock.jump(0.02)
            assert await asked(upstream, 4) == [1, 1, 1, 1]
            assert failures(upstream)[0] == before + 1
        await members[0].on()
        clock.jump(8)
        assert sorted(await asked(upstream, 4)) == [0, 0, 1, 1]
        assert healths(upstream) == ["healthy", "healthy"]


async def test_trial_is_a_new_connection_that_only_one_request_makes() -> None:
    """Idle connections prove nothing; and what is being tried is passed over."""
    clock = FakeClock()
    async with services(2) as members, balanced(members, clock, eject_after_failures=1) as upstream:
        await asked(upstream, 2)
        members[0].off()
        with pytest.raises(GatewayError):
            await upstream.origins[0].open()
        assert [asked_now(upstream) for _ in range(2)] == [1, 1]
        clock.jump(2)
        assert asked_now(upstream) is None  # a caller that can connect must try
        trial = spawn(upstream.lease(), "trial", awaited=True)
        await settle(1)
        assert await asked(upstream, 3) == [1, 1, 1]
        origin, lease = await trial
        assert origin is upstream.origins[1]
        lease.release()
        assert failures(upstream) == [2, 0]
        assert upstream.origins[0].state().idle == 1


async def test_trial_that_its_client_leaves_is_made_by_the_next() -> None:
    clock = FakeClock()
    async with services(2) as members, balanced(members, clock, eject_after_failures=1) as upstream:
        members[0].off()
        await asked(upstream, 2)
        await members[0].on()
        clock.jump(2)
        trial = spawn(upstream.lease(), "trial", awaited=True)
        await settle(1)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert healths(upstream) == ["ejected", "healthy"]
        assert 0 in await asked(upstream, 2)


async def test_nobody_is_refused_only_because_every_url_is_ejected() -> None:
    """The one whose back-off ends first is asked first, then the others; a service that is back is found at once."""
    clock = FakeClock()
    async with services(3, on=False) as members, balanced(members, clock) as upstream:
        for _ in range(3):
            with pytest.raises(GatewayError, match="upstream_connect"):
                await upstream.lease()
            clock.jump(0.1)
        assert failures(upstream) == [3, 3, 3]
        await members[2].on()
        assert await asked(upstream, 2) == [2, 2]
        assert healths(upstream) == ["ejected", "ejected", "healthy"]
        members[2].off()
        await members[0].on()
        origin, lease = await upstream.lease(fresh=True)
        assert origin is upstream.origins[0]
        lease.release()


async def test_last_resorts_are_tried_for_one_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """URLs that answer nothing at all cost a request one connect timeout more, however many there are."""
    clock, options = FakeClock(), {"eject_after_failures": 1, "connect_timeout_seconds": 0.5}
    async with services(3, on=False) as members, balanced(members, clock, **options) as upstream:
        with pytest.raises(GatewayError):
            await upstream.lease()
        connect = Dialer.connect

        async def slow_connect(dialer: Dialer) -> Any:
            if dialer.url == upstream.origins[0].url:
                clock.jump(0.5)
            return await connect(dialer)

        monkeypatch.setattr(Dialer, "connect", slow_connect)
        with pytest.raises(GatewayError):
            await upstream.lease()
        assert failures(upstream) == [2, 1, 1]


async def test_single_url_is_always_tried() -> None:
    async with services(1, on=False) as (service,), balanced([service]) as upstream:
        for _ in range(5):
            with pytest.raises(GatewayError, match="upstream_connect"):
                await upstream.lease()
        await service.on()
        assert await asked(upstream, 2) == [0, 0]


async def test_ejection_can_be_switched_off() -> None:
    """Every request then finds out for itself, and still moves on."""
    async with services(2) as members, balanced(members, eject_after_failures=0) as upstream:
        members[0].off()
        assert await asked(upstream, 10) == [1] * 10
        assert failures(upstream)[0] >= 9
        assert healths(upstream) == ["healthy", "healthy"]


@pytest.mark.rule("R314")
async def test_full_pool_is_passed_over_while_another_has_a_place() -> None:
    """Each URL has its own pool; only when all are full a request waits, and then 503."""
    async with (
        services(2) as members,
        balanced(members, SystemClock(), pool_size=1, pool_wait_seconds=0.01) as upstream,
    ):
        held = [await upstream.lease() for _ in range(2)]
        with pytest.raises(GatewayError, match="pool_exhausted"):
            await upstream.lease()
        assert upstream.lease_now() is None
        held[1][1].release()
        assert await asked(upstream, 3) == [1, 1, 1]
        assert asked_now(upstream) == 1
        held[0][1].release()
        assert healths(upstream) == ["healthy", "healthy"]


@pytest.mark.rule("R314")
async def test_request_waits_for_one_pool_only_but_takes_a_place_that_came_free_elsewhere() -> None:
    """The wait is `pool_wait_seconds`, not that for each URL."""
    options: dict[str, Any] = {"pool_size": 1, "pool_wait_seconds": 0.05}
    async with services(2) as members, balanced(members, SystemClock(), **options) as upstream:
        held = [await upstream.lease() for _ in range(2)]
        waiting = [0, 0]
        refused = spawn(upstream.lease(), "waits", awaited=True)
        while not refused.done():
            await asyncio.sleep(0)
            waiting = [max(most, state.waiting) for most, state in zip(waiting, upstream.states(), strict=True)]
        with pytest.raises(GatewayError, match="pool_exhausted"):
            await refused
        assert waiting == [1, 0]
        lucky = spawn(upstream.lease(), "waits", awaited=True)
        await settle()
        waits = [state.waiting for state in upstream.states()]
        waited_for = upstream.origins[waits.index(1)]
        busy, free = sorted(held, key=lambda leased: leased[0] is not waited_for)
        free[1].release()
        origin, lease = await lucky
        assert origin is free[0]
        lease.release()
        busy[1].release()


async def test_last_resort_begins_where_the_back_off_ends_first() -> None:
    clock, options = FakeClock(), {"eject_after_failures": 1}
    async with services(2, on=False) as members, balanced(members, clock, **options) as upstream:
        with pytest.raises(GatewayError):
            await upstream.origins[1].open()
        clock.jump(0.5)
        with pytest.raises(GatewayError):
            await upstream.origins[0].open()
        for member in members:
            await member.on()
        assert (await asked(upstream))[0] == 1


async def test_health_checks_take_urls_out_and_put_them_back() -> None:
    """Two bad answers in a row, one good one; the lanes agree; all bad means that all are asked in turn."""
    bad: set[bytes] = set()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        status = b"500 No" if received.target == b"/up" and received.one(b"host") in bad else b"200 OK"
        return b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status

    clock = FakeClock()
    async with services(2, respond=respond) as members, balanced(members, clock, health_path="/up") as upstream:

        async def checks(count: int) -> None:
            """Let each URL be asked so many times more."""
            for _ in range(count):
                assert clock.naps == [5, 5]
                await clock.advance(5)
                await eventually(lambda: len(clock.naps) == 2)

        await eventually(lambda: len(clock.naps) == 2)
        assert sorted(await asked(upstream, 4)) == [0, 0, 1, 1]
        bad.add(upstream.origins[0].host)
        await checks(1)
        assert healths(upstream) == ["healthy", "healthy"]
        await checks(1)
        assert healths(upstream) == ["unhealthy", "healthy"]
        assert await asked(upstream, 3) == [1, 1, 1]
        assert [asked_now(upstream) for _ in range(3)] == [1, 1, 1]
        bad.add(upstream.origins[1].host)
        await checks(2)
        assert healths(upstream) == ["unhealthy", "unhealthy"]
        assert asked_now(upstream) is None
        assert Counter(await asked(upstream, 6)) == {0: 3, 1: 3}
        bad.clear()
        await checks(1)
        assert healths(upstream) == ["healthy", "healthy"]


@pytest.mark.rule("R431")
async def test_checks_that_could_not_be_made_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a file to spare could not ask, which is not a bad answer."""
    clock = FakeClock()
    async with services(1) as members, balanced(members, clock, health_path="/up") as upstream:
        (origin,) = upstream.origins
        made: list[None] = []

        async def probe() -> bool | None:
            made.append(None)
            return None

        monkeypatch.setattr(type(origin), "probe", lambda self: probe())
        for count in range(1, 5):
            await eventually(lambda: len(clock.naps) == 1)
            await clock.advance(5)
            await eventually(lambda count=count: len(made) >= count)  # type: ignore[misc]
        assert (healths(upstream), origin.health.last_check) == (["healthy"], None)


async def test_failures_are_counted_by_reason() -> None:
    """Contract: /status shows failures."""
    upstream = open_upstreams([settings("http://127.0.0.1:1")])["main"]
    for reason in (Reasons.UPSTREAM_TIMEOUT, Reasons.UPSTREAM_TIMEOUT, Reasons.UPSTREAM_NAME):
        upstream.failed(reason)
    assert upstream.failures == {"upstream_timeout": 2, "upstream_name": 1}
    await upstream.close()


async def test_checks_come_at_their_interval_give_or_take_a_tenth() -> None:
    """So that many gateways do not ask together."""
    async with services(1) as (member,):
        clock, jitters = FakeClock(), iter([0.0, 1.0, 0.5])
        upstream = Upstream(
            settings(member.url, health_path="/up", health_interval_seconds=10), clock, jitter=lambda: next(jitters)
        )
        upstream.start_checks()
        try:
            for seconds in (9, 11, 10):
                await eventually(lambda: clock.naps)
                assert clock.naps == [pytest.approx(seconds)]
                await clock.advance(seconds)
        finally:
            await upstream.close()
