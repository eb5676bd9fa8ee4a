"""``gateway/jwt/issuers/tenants.py``: which tenants have keys, whichever client names them, and when they are given up.

The sources are scripts, not sockets: what is tested is who gets a place. The
same through the whole gateway is in ``tests/e2e/issuers/test_tenants.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway import tasks
from gateway.errors import GatewayError, Reasons
from gateway.jwt.issuers.key_sources import Fetched
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import FAILED_SIZE, MAX_STATUS_ENTRIES, SWEEP_SECONDS, Tenants
from gateway.jwt.jose.keys import import_jwks
from gateway.outbound.http import FetchError
from tests.support.clock import FakeClock, settle
from tests.support.issuers.fetching import ScriptedSource
from tests.support.issuers.identity_provider import issuer_settings
from tests.support.tokens.minting import SigningKey, jwks

REALMS = "https://idp.test/realms/{tenant}"
GOOD = Fetched(import_jwks(jwks(SigningKey.ec("a"))), 100)
DOWN = FetchError("status_404", "no such tenant")
CACHE_SECONDS = 300.0


class Table:
    """A table under a test's clock, whose tenants have keys unless their name begins with ``no``."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        self.clock = clock
        self.sources: dict[str, list[ScriptedSource]] = {}
        self.gate: asyncio.Event | None = None
        self._settings = issuer_settings(issuer=REALMS, **options)
        self.tenants = Tenants(self._settings, self._make, clock, CACHE_SECONDS)

    def _make(self, tenant: str) -> IssuerKeys:
        source = ScriptedSource(DOWN if tenant.startswith("no") else GOOD)
        source.gate = self.gate
        self.sources.setdefault(tenant, []).append(source)
        settings = self._settings.model_copy(update={"name": f"main/{tenant}"})
        return IssuerKeys(settings, source, self.clock, jitter=lambda: 0.5)

    async def begin(self, *names: str) -> None:
        """Let a plausible token of each tenant come."""
        for name in names:
            self.tenants.admit(name)
            await settle()

    async def use(self, *names: str) -> None:
        """Let a good token of each tenant come."""
        for name in names:
            self.tenants.admit(name)
            await settle()
            self.tenants.verified(name)

    def refusal(self, name: str) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.tenants.admit(name)
        return caught.value

    def known(self, *names: str) -> list[str]:
        """Return those of the tenants that have keys now."""
        return [name for name in names if self.tenants.get(name) is not None]


Make = Callable[..., Table]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Table] = []

    def build(**options: Any) -> Table:
        made.append(Table(FakeClock(), **options))
        made[-1].tenants.start()
        return made[-1]

    yield build
    for table in made:
        await table.tenants.stop()
    assert not [task for task in tasks.running() if "main" in task.get_name()]


LISTED: dict[str, Any] = {"tenants": ["acme", "other", "nobody"]}
ANY: dict[str, Any] = {"tenant_pattern": "[a-z0-9]+"}


@pytest.mark.parametrize("options", [LISTED, ANY], ids=["listed", "pattern"])
async def test_keys_begin_with_the_first_token_that_may_begin_them_and_are_then_shared(
    make: Make, options: dict[str, Any]
) -> None:
    """Looking begins nothing; of many tokens at a time one begins the only fetch (single flight)."""
    table = make(**options)
    assert table.tenants.get("acme") is None
    await settle()
    assert table.sources == {}
    table.gate = asyncio.Event()
    first = table.tenants.admit("acme")
    assert all(table.tenants.admit("acme") is first for _ in range(100))
    await settle()
    assert not first.loaded
    table.gate.set()
    await settle()
    assert first.loaded
    assert len(table.sources["acme"]) == table.tenants.begun == first.fetches == 1
    assert table.tenants.get("acme") is first


@pytest.mark.parametrize("options", [LISTED, ANY], ids=["listed", "pattern"])
@pytest.mark.rule("R172")
async def test_each_tenant_has_a_refresher_of_its_own(make: Make, options: dict[str, Any]) -> None:
    """What is wrong with one tenant's keys does not concern the others."""
    table = make(**options)
    await table.use("acme", "other")
    table.sources["acme"][0].steps = [DOWN]
    await table.clock.advance(85.1)
    states = table.tenants.status()["tenants"]
    assert (states["acme"]["failures"], states["other"]["failures"]) == (1, 0)
    assert states["other"]["fetches"] == 2
    assert table.tenants.status()["usable"]


async def test_listed_tenant_without_keys_keeps_its_place_and_backs_off(make: Make) -> None:
    """The list is the bound: there is no tenant whose slot it could take."""
    table = make(**LISTED)
    await table.use("nobody")
    await table.clock.advance(1)
    keys = table.tenants.get("nobody")
    assert keys is not None
    assert keys.usable() is Reasons.NO_KEYS
    assert keys.fetches == 2
    assert not table.tenants.status()["usable"]
    assert table.tenants.failed == 0


async def test_unlisted_tenant_without_keys_is_given_up_and_not_tried_again_for_a_while(make: Make) -> None:
    """503 with the time until the next try; one fetch for each cooldown, however many tokens come."""
    table = make(**ANY, jwks_cooldown_seconds=10)
    await table.begin("nobody")
    assert table.tenants.get("nobody") is None
    for _ in range(50):
        error = table.refusal("nobody")
        assert (error.reason, error.retry_after) == (Reasons.NO_KEYS, 10)
    assert len(table.sources["nobody"]) == table.sources["nobody"][0].closed == 1
    await table.clock.advance(10)
    await table.begin("nobody")
    assert len(table.sources["nobody"]) == table.tenants.failed == 2
    assert table.tenants.status()["failures"] == 2


@pytest.mark.rule("R162")
async def test_flood_of_tenants_without_keys_pushes_nobody_out(make: Make) -> None:
    """A good one keeps its place, its keys and its refresher; what is remembered has a bound."""
    table = make(**ANY, max_tenants=100)
    await table.use("acme")
    keys = table.tenants.get("acme")
    for second in range(40):
        for number in range(100):
            with contextlib.suppress(GatewayError):
                table.tenants.admit(f"no{second}x{number}")
                await settle(5)
            error = table.refusal(f"no{second}x{number}")
            assert error.reason in (Reasons.NO_KEYS, Reasons.TOO_MANY_TENANTS)
        await table.clock.advance(1)
    assert table.tenants.get("acme") is keys
    assert table.tenants.begun <= 100 + 40 * 100 / 60 + 1
    assert table.tenants.refused >= 3500
    assert len(table.tenants) == 1
    assert table.tenants.evicted == 0


async def test_memory_of_failed_tenants_is_bounded_and_ends(make: Make) -> None:
    table = make(**ANY, max_tenants=1000, jwks_cooldown_seconds=3600)
    for number in range(FAILED_SIZE + 200):
        await table.begin(f"no{number}")
        table.clock.jump(0.1)
    assert table.tenants.status()["failed_tenants"] == FAILED_SIZE
    await table.clock.advance(3600 + SWEEP_SECONDS)
    assert table.tenants.status()["failed_tenants"] == 0


async def test_unproven_tenants_have_few_places_and_take_them_from_each_other_only(make: Make) -> None:
    """Keys alone prove nothing: any client can name a tenant that exists. A verified token does."""
    table = make(**ANY, max_tenants=8)
    await table.use("acme")
    names = [f"real{number}" for number in range(7)]
    await table.begin(*names)
    assert table.known("acme", *names) == ["acme", *names[-4:]]
    assert (table.tenants.evicted, table.tenants.status()["new_tenants"]) == (3, 4)


async def test_no_fetch_under_way_is_cut_off_for_another_tenant(make: Make) -> None:
    """CWE-400: as many fetches run at a time as there are slots; what is over gets Retry-After."""
    table = make(**ANY, max_tenants=8)
    table.gate = asyncio.Event()
    await table.begin("a", "b", "c", "d")
    error = table.refusal("e")
    assert (error.reason, error.retry_after, error.reason.kind.status) == (Reasons.TOO_MANY_TENANTS, 1, 503)
    assert error.detail == "issuer main, tenant e"
    table.gate.set()
    await settle()
    await table.begin("e")
    assert table.known("a", "b", "c", "d", "e") == ["b", "c", "d", "e"]


async def test_least_recently_used_tenant_makes_room_for_one_that_has_proved_itself(make: Make) -> None:
    table = make(**ANY, max_tenants=2)
    await table.use("one")
    table.clock.jump(1)
    await table.use("two")
    table.clock.jump(CACHE_SECONDS + 1)
    await table.use("one", "three")
    assert table.known("one", "two", "three") == ["one", "three"]
    assert table.tenants.evicted == 1


async def test_tenant_in_use_is_never_given_up_for_another_one(make: Make) -> None:
    """Its tokens may be served from the cache, without a look here, for as long as ``cache_seconds``."""
    table = make(**ANY, max_tenants=2)
    await table.use("one", "two")
    table.clock.jump(CACHE_SECONDS)
    await table.use("three")
    assert table.known("one", "two", "three") == ["one", "two", "three"]
    assert table.tenants.status()["new_tenants"] == 1
    table.clock.jump(1)
    await table.use("three", "two")
    assert table.known("one", "two", "three") == ["two", "three"]


async def test_tenant_in_use_that_found_no_lasting_place_is_not_pushed_out_either(make: Make) -> None:
    """More tenants in use than ``max_tenants``: a new one is refused before one of them would be given up."""
    table = make(**ANY, max_tenants=1)
    await table.use("kept", "a", "b", "c", "d")
    table.clock.jump(60)
    assert table.refusal("e").reason is Reasons.TOO_MANY_TENANTS
    assert table.known("kept", "a", "b", "c", "d") == ["kept", "a", "b", "c", "d"]
    table.clock.jump(CACHE_SECONDS)
    await table.use("a", "e")
    assert table.known("kept", "a", "b", "c", "d", "e") == ["a", "b", "c", "d", "e"]


async def test_few_tenants_may_still_begin_as_often_as_ten_a_minute(make: Make) -> None:
    """One tenant that the provider forgets for a moment must not have to wait a minute for its turn."""
    table = make(**ANY, max_tenants=1)
    await table.begin(*(f"no{number}" for number in range(10)))
    assert table.tenants.failed == 10
    assert table.refusal("acme").reason is Reasons.TOO_MANY_TENANTS
    table.clock.jump(6.01)
    await table.begin("acme")
    assert table.known("acme") == ["acme"]


async def test_idle_tenant_is_given_up_and_comes_back_with_its_next_token(make: Make) -> None:
    """Its keys are believed no longer from that moment on, since they are not kept fresh."""
    table = make(**ANY, tenant_idle_seconds=600)
    await table.use("acme")
    await table.begin("unproven")
    keys = table.tenants.get("acme")
    assert keys is not None
    before = keys.keys
    await table.clock.advance(600 + CACHE_SECONDS - SWEEP_SECONDS)
    assert table.known("acme", "unproven") == ["acme", "unproven"]
    await table.clock.advance(2 * SWEEP_SECONDS)
    assert table.known("acme", "unproven") == []
    assert table.tenants.idle == 2
    assert keys.usable() is Reasons.NO_KEYS
    assert keys.keys is not before
    assert keys.keys.keys == ()
    assert table.sources["acme"][0].closed == 1
    fetches = table.tenants.status()["fetches"]
    await table.clock.advance(600)
    assert keys.fetches == table.sources["acme"][0].discovered.count(True)
    assert table.tenants.status()["fetches"] == fetches, "counters never go back, and nothing is fetched any more"
    await table.use("acme")
    assert table.known("acme") == ["acme"]


async def test_tenant_that_is_used_is_not_idle(make: Make) -> None:
    table = make(**LISTED, tenant_idle_seconds=600)
    for _ in range(10):
        await table.use("acme")
        await table.clock.advance(300)
    assert table.tenants.begun == 1


async def test_token_of_a_tenant_that_was_given_up_meanwhile_changes_nothing(make: Make) -> None:
    table = make(**ANY)
    table.tenants.verified("gone")
    assert len(table.tenants) == 0


async def test_keys_that_were_given_up_fetch_no_more(make: Make) -> None:
    """A request may still hold them: it learns that nothing can be decided."""
    table = make(**ANY, tenant_idle_seconds=60)
    table.gate = asyncio.Event()
    keys = table.tenants.admit("acme")
    await settle()
    await table.clock.advance(60 + CACHE_SECONDS + SWEEP_SECONDS)
    assert table.known("acme") == []
    table.gate.set()
    await keys.wait_until_loaded()
    assert not await keys.refetch_for_unknown_key()
    await settle()
    assert keys.usable() is Reasons.NO_KEYS
    assert len(table.sources["acme"][0].discovered) == 1
    assert table.tenants.failed == 0


async def test_status_shows_sums_and_a_bounded_list(make: Make) -> None:
    table = make(**ANY, max_tenants=MAX_STATUS_ENTRIES + 50)
    for number in range(MAX_STATUS_ENTRIES + 20):
        await table.use(f"t{number}")
        table.clock.jump(1)
    status = table.tenants.status()
    assert len(status["tenants"]) == MAX_STATUS_ENTRIES
    assert status["tenant_count"] == status["keys"] == status["fetches"] == MAX_STATUS_ENTRIES + 20
    assert status["source"] == REALMS
    assert status["tenants"]["t0"]["key_ids"] == ["a"]
    assert status["age_seconds"] == MAX_STATUS_ENTRIES + 20
    assert status["rejected_keys"] == []
    assert table.tenants.usable() is None
    await table.tenants.wait_until_loaded()


async def test_status_names_the_odd_keys_of_tenants(make: Make) -> None:
    table = make(**LISTED)
    assert table.tenants.status()["age_seconds"] is None
    await table.use("acme")
    table.sources["acme"][0].steps = [Fetched(import_jwks(jwks(SigningKey.ec("a"), {"kty": "AKP", "kid": "x"})), 100)]
    await table.clock.advance(85.1)
    [odd] = table.tenants.status()["rejected_keys"]
    assert (odd["tenant"], odd["index"], odd["kid"]) == ("acme", 1, "x")


async def test_stop_ends_every_fetch_and_refresher(make: Make) -> None:
    table = make(**ANY)
    await table.use("acme")
    table.gate = asyncio.Event()
    await table.begin("waiting")
    await table.tenants.stop()
    assert len(table.tenants) == 0
    assert table.sources["acme"][0].closed == table.sources["waiting"][0].closed == 1


async def test_table_that_was_never_started_can_be_stopped() -> None:
    table = Table(FakeClock(), **ANY)
    await table.tenants.stop()
    assert len(table.tenants) == 0
