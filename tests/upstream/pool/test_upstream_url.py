"""The pool of one URL: reuse, what ends a connection, and what failures to connect leave behind.

Who gets a place when is in test_upstream_places.py.
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.tasks import spawn
from gateway.upstream.pool.upstream_url import Origin
from tests.support.clock import FakeClock, eventually, settle
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.coming_and_going import services
from tests.support.upstreams.recording import Received, raw_upstream
from tests.upstream.pools import opened, refusal, served, settings


@pytest.mark.rule("R312")
async def test_connection_is_used_again_and_state_tells_of_it() -> None:
    """In use, idle, waiting."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        first = await origin.lease()
        assert (first.reused, origin.state().in_use, origin.state().idle) == (False, 1, 0)
        assert await served(first) == b"ok"
        assert (origin.state().in_use, origin.state().idle) == (0, 1)
        second = await origin.lease()
        assert (second.reused, origin.state().idle) == (True, 0)
        assert await served(second) == b"ok"
        assert origin.state().url == upstream.url
    assert upstream.connections == 1


async def test_lease_ends_once_however_often_it_is_told() -> None:
    """Release after discard, discard after release: the place is given back once."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        for first, second in (("discard", "release"), ("discard", "discard"), ("release", "discard")):
            lease = await origin.lease()
            getattr(lease, first)()
            getattr(lease, second)()
            assert origin.state().in_use == 0


@pytest.mark.rule("R326")
async def test_connection_that_leaves_the_pool_frees_its_place_and_stays_open() -> None:
    """What a tunnel keeps for hours is no place that requests wait for."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        lease = await origin.lease()
        connection = lease.detach()
        lease.release()
        lease.discard()
        assert (origin.state().in_use, origin.state().idle) == (0, 0)
        assert await served(await origin.lease()) == b"ok"
        assert upstream.open_connections == 2
        assert lease.protocol.is_connected()
        connection.close()
        await eventually(lambda: upstream.open_connections == 1)
        kept = (await origin.lease()).detach()
    await eventually(lambda: upstream.open_connections == 0)  # the end of the pool ends all of them
    kept.close()


@pytest.mark.rule("R310")
async def test_fresh_lease_is_never_a_used_connection() -> None:
    """What is sent again goes over a connection that cannot have been closed meanwhile."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        leases = [await origin.lease() for _ in range(3)]
        for lease in leases:
            await served(lease)
        fresh = await origin.lease(fresh=True)
        assert not fresh.reused
        assert await served(fresh) == b"ok"
    assert upstream.connections == 4


async def test_connection_that_spoke_unasked_is_not_used_again() -> None:
    """Response smuggling (RFC 9112 section 9.2): closed, and a new one is made."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writers.append(writer)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    writers: list[asyncio.StreamWriter] = []
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        protocol = lease.protocol
        await served(lease)
        writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await eventually(lambda: protocol.should_close)
        second = await origin.lease()
        assert not second.reused
        assert await served(second) == b"ok"
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 1)


async def test_close_ends_leased_and_idle_connections_and_later_leases_are_refused() -> None:
    """Stop with requests running: no connection survives, and the numbers still come out right."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=2) as origin:
        idle, leased = await origin.lease(), await origin.lease()
        await served(idle)
        await eventually(lambda: upstream.open_connections == 2)
        await origin.close()
        await eventually(lambda: upstream.open_connections == 0)
        leased.release()
        assert origin.state().in_use == 0
        assert await refusal(origin) is Reasons.UPSTREAM_CONNECT
        await origin.close()


async def test_connection_that_is_old_enough_serves_no_further_request() -> None:
    """Busy connections must end some time, to follow a name whose address has changed; 0 is no limit."""
    for limit, reused in ((60, False), (0, True)):
        async with raw_upstream() as upstream, opened(upstream.url, pool_max_age_seconds=limit) as origin:
            lease = await origin.lease()
            await served(lease)
            lease = await origin.lease()
            assert lease.reused
            lease.protocol.opened_at -= 61
            await served(lease)
            lease = await origin.lease()
            assert lease.reused is reused
            lease.release()


async def test_idle_connection_is_had_at_once_but_not_before_those_who_wait() -> None:
    """What the express lane asks: never waiting, never a slot that another request is owed."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        assert origin.lease_now() is None
        await served(await origin.lease())
        lease = origin.lease_now()
        assert lease is not None
        assert (lease.reused, origin.has_place, origin.lease_now()) == (True, False, None)
        waiting = spawn(origin.lease(), "waits", awaited=True)
        await settle()
        await served(lease)
        assert (origin.has_place, origin.lease_now()) == (False, None)
        await served(await waiting)
        assert origin.has_place


async def test_failures_to_connect_are_counted_and_an_ejection_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line when a URL goes and one when it comes back."""
    clock = FakeClock()
    async with services(1, on=False) as (service,):
        origin = Origin(service.url, settings(service.url), clock=clock)
        with caplog.at_level(logging.INFO, "gateway.upstreams"):
            for _ in range(5):
                assert await refusal(origin) is Reasons.UPSTREAM_CONNECT
            state = origin.state()
            assert (state.health, state.connect_failures, state.ejections) == ("ejected", 5, 1)
            assert state.back_off_seconds == 1
            assert [record.getMessage() for record in caplog.records] == [
                f"upstream main, {service.url}: ejected for 1 s after 3 failed connects, "
                "the last one: connection refused"
            ]
            await service.on()
            await served(await origin.lease())
        state = origin.state()
        assert (state.health, state.connect_failures, state.back_off_seconds) == ("healthy", 5, 0)
        assert caplog.records[1].getMessage() == f"upstream main, {service.url}: connected again after an ejection"
        await origin.close()


async def test_full_pool_and_a_client_that_leaves_are_no_failures_to_connect() -> None:
    """They say nothing about the service."""
    async with raw_upstream() as upstream:
        options = {"pool_size": 1, "pool_wait_seconds": 0.01, "eject_after_failures": 1}
        async with opened(upstream.url, **options) as origin:
            lease = await origin.lease()
            with pytest.raises(GatewayError, match="pool_exhausted"):
                await origin.lease()
            lease.discard()
            connecting = spawn(origin.lease(), "connects", awaited=True)
            await settle(1)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert (origin.state().health, origin.state().connect_failures) == ("healthy", 0)


async def test_health_checks_that_change_something_are_said(caplog: pytest.LogCaptureFixture) -> None:
    async with opened("http://127.0.0.1:1") as origin:
        assert origin.state().last_check is None
        for good in (True, False, False, False, True, True):
            origin.checked(good)
            assert origin.state().last_check is good
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "health check: now unhealthy",
        "health check: now healthy",
    ]


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.rule("R427")
async def test_connection_with_unsent_bytes_serves_no_other_exchange(reads: bool) -> None:
    """An answer came early; its service gets the rest if it takes it, and the connection is closed behind it."""
    size, go = most_buffered(1) + 8 * MIB, asyncio.Event()
    got = 0

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await go.wait()
        while data := await reader.read(1 << 20):
            got += len(data)

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url, idle_timeout_seconds=1) as origin:
        lease = await origin.lease()
        transport = lease.protocol.transport
        assert transport is not None
        transport.write(b"POST / HTTP/1.1\r\n\r\n" + b"x" * size)
        await eventually(lambda: upstream.requests)
        lease.release()
        assert (origin.state().in_use, origin.state().idle) == (0, 0)
        if not reads:
            await eventually(lambda: not transport.get_write_buffer_size())  # given up after the idle timeout
        go.set()
        await eventually(lambda: upstream.open_connections == 0)
        assert (got == size) is reads
