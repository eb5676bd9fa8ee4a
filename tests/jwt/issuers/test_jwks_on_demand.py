"""``gateway/jwt/issuers/refresher.py``: what requests wait for and cause. The source is a script."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import Reasons
from gateway.jwt.issuers.key_sources import Fetched
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.jose.keys import import_jwks
from gateway.outbound.http import FetchError
from tests.jwt.conftest import Make
from tests.support.clock import FakeClock, settle
from tests.support.issuers.fetching import ScriptedSource
from tests.support.issuers.identity_provider import issuer_settings
from tests.support.tokens.minting import SigningKey, jwks

A = import_jwks(jwks(SigningKey.ec("a")))
AB = import_jwks(jwks(SigningKey.ec("a"), SigningKey.ec("b")))
GOOD = Fetched(A, 100)
DOWN = FetchError("connect", "nobody there")


async def _started(keys: IssuerKeys) -> None:
    keys.start()
    await settle()


@pytest.mark.rule("C29", "R164", "R165")
async def test_everybody_waits_for_the_one_first_fetch(make: Make) -> None:
    """From the very start, and a caller that leaves does not end it."""
    keys, source = make(GOOD)
    source.gate = asyncio.Event()
    keys.start()
    waiters = [asyncio.ensure_future(keys.wait_until_loaded()) for _ in range(200)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert not any(waiter.done() for waiter in waiters[1:])
    source.gate.set()
    await asyncio.gather(*waiters[1:])
    assert (keys.loaded, keys.fetches, len(source.discovered)) == (True, 1, 1)


@pytest.mark.rule("C32")
async def test_nobody_waits_while_backing_off(clock: FakeClock, make: Make) -> None:
    """The answer is at once, with the seconds until the next try."""
    keys, source = make(DOWN, jitter=1.0)
    await _started(keys)
    await clock.advance(1 + 2 + 4)
    assert keys.failures == 4
    await asyncio.wait_for(keys.wait_until_loaded(), 1)
    assert len(source.discovered) == 4
    assert (keys.usable(), keys.retry_after()) == (Reasons.NO_KEYS, 8)
    clock.jump(7.5)
    assert keys.retry_after() == 1
    clock.jump(100)
    assert keys.retry_after() == 1


async def test_keys_come_on_demand_when_no_refresher_runs(make: Make) -> None:
    """``wait_until_loaded`` without ``start``."""
    keys, _ = make(GOOD)
    assert keys.retry_after() == 1
    await keys.wait_until_loaded()
    await keys.wait_until_loaded()
    assert (keys.loaded, keys.fetches) == (True, 1)


@pytest.mark.rule("R164", "C27", "R143")
async def test_an_unknown_key_causes_one_shared_fetch(make: Make) -> None:
    """All are answered after it, and it does not run discovery."""
    keys, source = make(GOOD, Fetched(AB, 100))
    await _started(keys)
    source.gate = asyncio.Event()
    waiters = [asyncio.ensure_future(keys.refetch_for_unknown_key()) for _ in range(1000)]
    await settle()
    source.gate.set()
    assert await asyncio.gather(*waiters) == [True] * 1000
    assert (keys.keys, source.discovered, keys.unknown_key_refetches) == (AB, [True, False], 1)


@pytest.mark.rule("R165")
async def test_a_caller_that_leaves_does_not_cancel_the_shared_fetch(make: Make) -> None:
    keys, source = make(GOOD, Fetched(AB, 100))
    await _started(keys)
    source.gate = asyncio.Event()
    first, second = (asyncio.ensure_future(keys.refetch_for_unknown_key()) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    source.gate.set()
    assert await second
    assert first.cancelled()
    assert keys.keys is AB


@pytest.mark.rule("R030", "R162")
async def test_a_flood_of_unknown_keys_causes_one_fetch_per_cooldown(clock: FakeClock, make: Make) -> None:
    """Counted from the start of the last one; no request sleeps."""
    keys, source = make(Fetched(A, 86400), jwks_cooldown_seconds=10)
    await _started(keys)
    outcomes = []
    for _ in range(300):
        outcomes.append(await keys.refetch_for_unknown_key())
        clock.jump(0.1)
    assert len(source.discovered) == 1 + 3
    assert sum(outcomes) == 3


@pytest.mark.rule("R162")
async def test_the_cooldown_counts_from_the_start_of_the_fetch(clock: FakeClock, make: Make) -> None:
    keys, source = make(GOOD, jwks_cooldown_seconds=10)
    await _started(keys)
    source.gate = asyncio.Event()
    waiter = asyncio.ensure_future(keys.refetch_for_unknown_key())
    await settle()
    clock.jump(4)
    source.gate.set()
    await waiter
    clock.jump(5.9)
    assert not await keys.refetch_for_unknown_key()
    clock.jump(0.2)
    assert await keys.refetch_for_unknown_key()


@pytest.mark.rule("C30")
async def test_the_cooldown_holds_after_a_failed_fetch_too(clock: FakeClock, make: Make) -> None:
    """The set is unchanged, the next forced try comes only after the cooldown."""
    keys, source = make(GOOD, DOWN, jwks_cooldown_seconds=10)
    await _started(keys)
    assert await keys.refetch_for_unknown_key()
    assert not await keys.refetch_for_unknown_key()
    assert (keys.keys, keys.usable(), keys.failures, len(source.discovered)) == (A, None, 1, 2)


@pytest.mark.rule("R162")
async def test_a_fetch_that_is_running_is_joined(clock: FakeClock, make: Make) -> None:
    """A scheduled one serves as well, and counts for the cooldown."""
    keys, source = make(GOOD, Fetched(AB, 100))
    await _started(keys)
    source.gate = asyncio.Event()
    await clock.advance(85)
    clock.jump(2)
    waiter = asyncio.ensure_future(keys.refetch_for_unknown_key())
    await settle()
    source.gate.set()
    assert await waiter
    assert (keys.keys, source.discovered, keys.unknown_key_refetches) == (AB, [True, True], 0)
    clock.jump(7.9)
    assert not await keys.refetch_for_unknown_key()
    clock.jump(0.2)  # ten seconds after that fetch began
    assert await keys.refetch_for_unknown_key()


@pytest.mark.rule("R143")
async def test_forced_fetches_never_put_off_scheduled_ones(clock: FakeClock, make: Make) -> None:
    """Else a flood of unknown keys would keep a changed jwks_uri from being found."""
    keys, source = make(GOOD, jwks_cooldown_seconds=1)
    await _started(keys)
    for _ in range(84):
        await clock.advance(1)
        await keys.refetch_for_unknown_key()
    assert True not in source.discovered[1:]
    await clock.advance(1.5)
    assert source.discovered[-1] is True


@pytest.mark.rule("C98")
async def test_a_forced_fetch_may_bring_the_schedule_forward(clock: FakeClock, make: Make) -> None:
    """The answer that it got is fresh for a shorter time."""
    keys, _ = make(Fetched(A, 86400), Fetched(A, 15))
    await _started(keys)
    assert await keys.refetch_for_unknown_key()
    await settle()
    assert clock.naps == [pytest.approx(12.75)]


@pytest.mark.rule("R174")
async def test_first_fetch_waits_its_turn_and_so_does_who_needs_it(clock: FakeClock) -> None:
    """Workers that start together ask one after the other; no request is refused for it, and later none waits."""
    source = ScriptedSource(GOOD)
    keys = IssuerKeys(issuer_settings(), source, clock, jitter=lambda: 0.0, first_wait=0.25)
    keys.start()
    waiter = asyncio.ensure_future(keys.wait_until_loaded())
    await clock.advance(0.2)
    assert (len(source.discovered), waiter.done()) == (0, False)
    await clock.advance(0.1)
    await asyncio.wait_for(waiter, 1)
    assert (keys.loaded, len(source.discovered)) == (True, 1)
    await clock.advance(80)  # 0.8 of the lifetime
    assert len(source.discovered) == 2
    await keys.stop()
