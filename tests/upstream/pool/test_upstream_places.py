"""Slots in an upstream's pool: none is lost and none is made, whichever request leaves at whatever moment."""

from __future__ import annotations

import asyncio
import random
import socket

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.tasks import spawn
from gateway.upstream.pool.upstream_url import Lease
from tests.support.clock import eventually, settle
from tests.support.upstreams.recording import raw_upstream
from tests.upstream.pools import opened


@pytest.mark.rule("R314")
async def test_places_are_handed_on_in_order() -> None:
    """Who waited longest is next; in_use never leaves the limit meanwhile."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        held = await origin.lease()
        order: list[int] = []

        async def wait(number: int) -> None:
            lease = await origin.lease()
            order.append(number)
            assert origin.state().in_use == 1
            lease.release()

        waiting = [spawn(wait(number), "waits", awaited=True) for number in range(5)]
        await settle()
        assert origin.state().waiting == 5
        held.release()
        await asyncio.gather(*waiting)
        assert order == [0, 1, 2, 3, 4]
        assert (origin.state().in_use, origin.state().waiting) == (0, 0)


async def test_waiter_cancelled_just_before_a_place_comes_free_takes_none() -> None:
    """The waiter is cancelled but has not run yet when the place passes over it."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        held = await origin.lease()
        waiting = spawn(origin.lease(), "waits", awaited=True)
        await settle()
        waiting.cancel()
        held.release()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (origin.state().in_use, origin.state().waiting) == (0, 0)


async def test_waiter_cancelled_just_after_its_place_came_hands_it_on() -> None:
    """The place was given and the waiter cancelled before it ran: the next one gets it."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        held = await origin.lease()
        first, second = (spawn(origin.lease(), "waits", awaited=True) for _ in range(2))
        await settle()
        held.release()
        first.cancel()
        lease = await second
        assert first.cancelled()
        assert origin.state().in_use == 1
        lease.release()
        assert origin.state().in_use == 0


async def test_waiter_whose_time_is_up_as_the_place_comes_free_is_refused_in_order() -> None:
    """The same moment by timeout: POOL_EXHAUSTED, no other fault, and no place is lost."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1, pool_wait_seconds=0.01) as origin:
        for _ in range(20):
            held = await origin.lease()
            waiting = [spawn(origin.lease(), "waits", awaited=True) for _ in range(3)]
            asyncio.get_running_loop().call_later(0.01, held.release)
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                if isinstance(outcome, Lease):
                    outcome.release()
                else:
                    assert isinstance(outcome, GatewayError), outcome
                    assert outcome.reason is Reasons.POOL_EXHAUSTED
            await eventually(lambda: origin.state().in_use == 0)
            assert origin.state().waiting == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.rule("R314", "R393")
async def test_no_place_is_lost_or_made_under_random_cancels(seed: int) -> None:
    """150 users of 3 places that leave at any moment; afterwards every place is free."""
    choice = random.Random(seed)
    most = 0
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=3, pool_wait_seconds=5) as origin:
        holders = 0

        async def use() -> None:
            nonlocal holders, most
            lease = await origin.lease()
            holders += 1
            most = max(most, holders, origin.state().in_use)
            try:
                for _ in range(choice.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                holders -= 1
                (lease.release if choice.random() < 0.8 else lease.discard)()

        users = []
        for _ in range(150):
            users.append(spawn(use(), "uses", awaited=True))
            if choice.random() < 0.5:
                choice.choice(users).cancel()
            if choice.random() < 0.4:
                await asyncio.sleep(0)
        for user in users:
            if choice.random() < 0.3:
                user.cancel()
        outcomes = await asyncio.gather(*users, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert most == 3
        assert (origin.state().in_use, origin.state().waiting) == (0, 0)
        leases = [await origin.lease() for _ in range(3)]
        for lease in leases:
            lease.release()


async def test_cancelled_connecting_gives_its_place_back() -> None:
    """A client that leaves while its upstream connection is made."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        async with opened(url, pool_size=1) as origin:  # the TLS handshake is never answered
            connecting = spawn(origin.lease(), "connects", awaited=True)
            await settle()
            assert origin.state().in_use == 1
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert origin.state().in_use == 0
