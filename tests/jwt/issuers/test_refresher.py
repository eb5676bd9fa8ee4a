"""``gateway/jwt/issuers/refresher.py``: when keys are fetched, and whether they are believed.

The source is a script, not a socket: what is tested is the schedule. The same
over real sockets is in ``test_keys_in_use.py`` and ``test_keys_that_change.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway import tasks
from gateway.errors import Reasons
from gateway.jwt.issuers.key_sources import Fetched
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.jose.keys import KeySet, import_jwks
from gateway.outbound.http import FetchError
from tests.jwt.conftest import Make
from tests.support.clock import FakeClock, settle
from tests.support.tokens.minting import SigningKey, jwks

A = import_jwks(jwks(SigningKey.ec("a")))
AB = import_jwks(jwks(SigningKey.ec("a"), SigningKey.ec("b")))
ODD = import_jwks(jwks(SigningKey.ec("a"), {"kty": "AKP", "kid": "x\n"}))
GOOD = Fetched(A, 100)
DOWN = FetchError("connect", "nobody there")


async def _started(keys: IssuerKeys) -> None:
    keys.start()
    await settle()


@pytest.mark.parametrize(("jitter", "due"), [(0.0, 80), (0.5, 85), (0.999, 89.99)])
@pytest.mark.rule("R159", "R174")
async def test_the_next_fetch_is_before_the_lifetime_ends(
    clock: FakeClock, make: Make, jitter: float, due: float
) -> None:
    """Within 80 to 90 %, so that gateways started together drift apart."""
    keys, source = make(GOOD, jitter=jitter)
    await _started(keys)
    assert clock.naps == [pytest.approx(due)]
    await clock.advance(due - 0.1)
    assert keys.fetches == 1
    await clock.advance(0.2)
    assert keys.fetches == 2
    assert source.discovered == [True, True]


@pytest.mark.rule("R153", "C32")
async def test_back_off_doubles_from_one_second_to_thirty(clock: FakeClock, make: Make) -> None:
    """With jitter, and from the start again after a success."""
    keys, source = make(DOWN, jitter=1.0)
    await _started(keys)
    waits = []
    for _ in range(8):
        waits.append(clock.naps[0])
        await clock.advance(clock.naps[0])
    assert waits == [pytest.approx(wait) for wait in (1, 2, 4, 8, 16, 30, 30, 30)]
    source.steps = [GOOD, DOWN]
    await clock.advance(30)
    assert keys.loaded
    await clock.advance(clock.naps[0])
    assert clock.naps == [pytest.approx(1)]


@pytest.mark.rule("R153")
async def test_back_off_has_jitter(clock: FakeClock, make: Make) -> None:
    """Down to half of each step."""
    keys, _ = make(DOWN, jitter=0.0)
    await _started(keys)
    assert clock.naps == [pytest.approx(0.5)]


@pytest.mark.rule("R166")
async def test_back_off_stays_bounded_after_many_failures(clock: FakeClock, make: Make) -> None:
    """An outage of days overflows nothing."""
    keys, _ = make(DOWN, jitter=1.0)
    await _started(keys)
    for _ in range(1200):
        await clock.advance(30)
    assert keys.failures >= 1200
    assert clock.naps[0] <= 30


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        RecursionError(),
        ValueError("x"),
        KeyError("x"),
        MemoryError(),
        OSError(),
        AssertionError(),
        asyncio.CancelledError(),
        TimeoutError(),
        StopAsyncIteration(),
    ],
)
@pytest.mark.rule("R167")
async def test_no_error_ends_the_refresher(clock: FakeClock, make: Make, error: BaseException) -> None:
    """Each is a counted failure, also the cancellation of something inside a fetch."""
    keys, _ = make(GOOD, error, error, Fetched(AB, 100))
    await _started(keys)
    await clock.advance(85)
    assert (keys.failures, keys.keys) == (1, A)
    await clock.advance(0.75)
    assert keys.failures == 2
    await clock.advance(1.5)
    assert (keys.failures, keys.fetches, keys.keys) == (2, 4, AB)
    assert keys.usable() is None


@pytest.mark.parametrize("error", [RuntimeError("boom"), asyncio.CancelledError()])
@pytest.mark.rule("R167", "R406")
async def test_an_error_outside_a_fetch_does_not_end_the_refresher(
    clock: FakeClock, make: Make, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a cancellation that was not meant for the refresher itself."""
    broken, sleep = iter([True]), clock.sleep

    def nap(seconds: float) -> Coroutine[Any, Any, None]:
        if seconds and next(broken, False):
            raise error
        return sleep(seconds)

    monkeypatch.setattr(clock, "sleep", nap)
    keys, source = make(GOOD)
    await _started(keys)
    assert keys.failures == 1
    await clock.advance(clock.naps[0])
    assert len(source.discovered) == 2
    assert keys.usable() is None


@pytest.mark.rule("R167")
async def test_a_cancelled_fetch_is_begun_again(clock: FakeClock, make: Make) -> None:
    """Whatever cancels the task of a fetch, before or while it runs."""
    keys, source = make(GOOD)
    source.gate = asyncio.Event()
    keys.start()
    (flight,) = (task for task in tasks.running() if task.get_name() == "jwks main fetch")
    flight.cancel()
    await settle()
    source.gate.set()
    await clock.advance(1)
    assert keys.loaded


@pytest.mark.rule("R167", "R370")
async def test_stop_ends_everything(make: Make) -> None:
    """Refresher, nap and fetch; the source is closed; nothing is logged as a failure."""
    keys, source = make(GOOD)
    source.gate = asyncio.Event()
    await _started(keys)
    assert any(task.get_name().startswith("jwks main") for task in tasks.running())
    await keys.stop()
    assert not any(task.get_name().startswith("jwks main") for task in tasks.running())
    assert (source.closed, keys.failures) == (1, 0)


@pytest.mark.rule("R166", "R168", "C30")
async def test_keys_are_believed_up_to_the_stated_age(clock: FakeClock, make: Make) -> None:
    """Measured by the monotonic clock alone."""
    keys, source = make(GOOD, DOWN, jwks_max_stale_seconds=3600)
    await _started(keys)
    clock.step_wall(-86400)
    assert keys.usable() is None
    clock.step_wall(10 * 86400)
    assert keys.usable() is None
    await clock.advance(3600)
    assert (keys.usable(), keys.keys) == (None, A)
    await clock.advance(1)
    assert keys.usable() is Reasons.STALE_KEYS
    source.steps = [Fetched(None, 100)]
    await clock.advance(30)
    assert keys.usable() is None


@pytest.mark.rule("R168")
async def test_wall_clock_steps_do_not_move_the_schedule(clock: FakeClock, make: Make) -> None:
    keys, _ = make(GOOD)
    await _started(keys)
    for step in (-86400, 2 * 86400):
        clock.step_wall(step)
        await settle()
        assert clock.naps == [pytest.approx(85)]
    assert keys.fetches == 1


@pytest.mark.rule("R166")
async def test_keys_are_fetched_before_they_are_too_old_to_be_believed(clock: FakeClock, make: Make) -> None:
    """A lifetime above jwks_max_stale_seconds must not cause an outage of its own."""
    keys, _ = make(Fetched(A, 86400), jwks_max_stale_seconds=60)
    await _started(keys)
    for _ in range(10):
        await clock.advance(20)
        assert keys.usable() is None


@pytest.mark.rule("R160", "C98")
async def test_not_modified_keeps_the_set_and_renews_it(clock: FakeClock, make: Make) -> None:
    """It counts as success."""
    keys, _ = make(GOOD, Fetched(None, 200), jwks_max_stale_seconds=150)
    await _started(keys)
    await clock.advance(100)
    assert (keys.keys, keys.failures, keys.fetches) == (A, 0, 2)
    assert keys.status()["age_seconds"] == 15
    await clock.advance(100)
    assert keys.usable() is None


@pytest.mark.rule("R153")
async def test_not_modified_before_anything_was_loaded_is_a_failure(make: Make) -> None:
    keys, _ = make(Fetched(None, 100))
    await _started(keys)
    assert (keys.loaded, keys.failures, keys.usable()) == (False, 1, Reasons.NO_KEYS)


async def test_status_shows_what_an_operator_needs(clock: FakeClock, make: Make) -> None:
    """Contract: /status, issuers."""
    keys, _ = make(Fetched(ODD, 100), DOWN)
    assert keys.status()["next_refresh_seconds"] is None
    assert keys.status()["age_seconds"] is None
    await _started(keys)
    first = keys.status()
    assert first == {
        "usable": True,
        "reason": "",
        "source": "script",
        "key_ids": ["a"],
        "keys": 1,
        "rejected_keys": [{"index": 1, "kid": "x\\n", "problem": first["rejected_keys"][0]["problem"]}],
        "age_seconds": 0,
        "next_refresh_seconds": 85,
        "last_error": "",
        "fetches": 1,
        "failures": 0,
        "unknown_keys": 0,
    }
    await clock.advance(85)
    later = keys.status()
    assert (later["age_seconds"], later["last_error"], later["failures"]) == (85, "connect: nobody there", 1)
    assert 0 < later["next_refresh_seconds"] <= 1


@pytest.mark.rule("C30", "C34", "R197")
async def test_failures_and_odd_keys_are_logged_without_repetition(
    clock: FakeClock, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A rejected key once per change, a failure once per try, and the recovery."""
    caplog.set_level(logging.INFO, "gateway.jwks")
    keys, _ = make(Fetched(ODD, 100), Fetched(ODD, 100), DOWN, Fetched(ODD, 100), Fetched(A, 100), Fetched(ODD, 100))
    await _started(keys)
    for _ in range(5):
        await clock.advance(clock.naps[0])
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[1].strip() for text in texts] == [
        "key 1 (kid x\\n)",
        "key fetch failed",
        "key fetch succeeded after 1 failure",
        "key 1 (kid x\\n)",
    ]
    assert all(text.startswith("issuer main: ") and text.isprintable() for text in texts)


@pytest.mark.rule("R173")
async def test_the_set_is_swapped_whole(make: Make) -> None:
    """Readers hold one immutable set or the other, never a part."""
    keys, _ = make(GOOD, Fetched(AB, 100))
    await _started(keys)
    held = keys.keys
    await keys.refetch_for_unknown_key()
    assert held is A
    assert held.kids == ("a",)
    assert keys.keys is AB
    assert isinstance(keys.keys, KeySet)
