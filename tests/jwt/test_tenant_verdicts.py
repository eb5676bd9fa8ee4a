"""What a verified token of a tenant rests on, and what becomes of it when the tenant's keys change or are given up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import pytest

from gateway.errors import Reasons
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.registry import build_tenants
from gateway.jwt.issuers.tenants import SWEEP_SECONDS, Tenants
from tests.support.clock import FakeClock, eventually, settle
from tests.support.gateways.authenticating import Rig
from tests.support.issuers.identity_provider import FakeIdp, gateway_settings, issuer_settings
from tests.support.tokens.minting import SigningKey, good_claims, mint

A, B = SigningKey.ec("a"), SigningKey.ec("b")
#: The provider has keys at ``/jwks`` only, so that is the tenant that has any.
TENANT = "https://idp.test/jwks"


@asynccontextmanager
async def tenant_rig(**options: Any) -> AsyncIterator[tuple[Rig, Tenants, FakeIdp]]:
    """A provider whose only tenant is ``jwks``, and an authenticator that knows it by a template."""
    async with FakeIdp() as idp:
        idp.publish(A)
        issuer = issuer_settings(
            issuer="https://idp.test/{tenant}",
            jwks_url=idp.jwks_url.removesuffix("jwks") + "{tenant}",
            algorithms=["ES256"],
            **{"tenant_pattern": "[a-z]+", **options},
        )
        clock, settings = FakeClock(), gateway_settings(issuer)
        tables = build_tenants(settings, clock)
        table = tables["main"]
        table.start()
        try:
            yield Rig(Authenticator(settings, tables, clock), clock, {}), table, idp
        finally:
            await table.stop()


def token(made: Rig, key: SigningKey = A, **claims: Any) -> bytes:
    now = made.clock.wall()
    return mint(key, good_claims(now, **{"iss": TENANT, "exp": now + 80_000, **claims}))


@pytest.mark.rule("R169", "R185")
async def test_withdrawn_key_of_a_tenant_ends_its_cached_tokens() -> None:
    """As for any issuer, within one refresh."""
    async with tenant_rig() as (made, table, idp):
        shown = token(made)
        identity = await made.ask(shown)
        assert made.authenticator.cached(shown) is identity
        assert (identity.issuer_name, identity.issuer, identity.tenant) == ("main", TENANT, "jwks")
        idp.publish(B)
        await made.clock.advance(310)
        await eventually(lambda: table.status()["fetches"] == 2)
        await settle()
        assert await made.reason(shown) is Reasons.UNKNOWN_KEY
        assert await made.reason(token(made, B)) is None


@pytest.mark.rule("R185")
async def test_cached_token_of_a_tenant_that_was_given_up_is_verified_with_keys_of_now() -> None:
    """The old keys are not refreshed, so nothing is believed on their word."""
    async with tenant_rig(tenant_idle_seconds=60) as (made, table, idp):
        shown = token(made)
        await made.ask(shown)
        held = made.authenticator.hold(shown)
        idp.publish(B)
        keys = table.get("jwks")
        await table.stop()
        assert keys is not None
        assert keys.usable() is Reasons.NO_KEYS
        assert made.authenticator.recall(sha256(shown).digest()) is None
        assert made.authenticator.still_good(held) is Reasons.STALE_KEYS
        assert await made.reason(shown) is Reasons.UNKNOWN_KEY
        assert table.begun == 2


@pytest.mark.rule("C65")
async def test_held_verdict_keeps_its_tenant_in_use() -> None:
    """A WebSocket of a tenant without other traffic is no reason to give up the keys that it rests on."""
    async with tenant_rig(tenant_idle_seconds=60) as (made, table, _):
        shown = token(made)
        await made.ask(shown)
        held = made.authenticator.hold(shown)
        for _ in range(100):
            await made.clock.advance(10)
            await settle()
            assert made.authenticator.still_good(held) is None
        assert len(table) == 1
        await made.clock.advance(60 + 300 + 2 * SWEEP_SECONDS)
        assert len(table) == 0
        assert made.authenticator.still_good(held) is Reasons.STALE_KEYS
        assert await made.reason(token(made)) is None, "its next token begins it anew"


async def test_unverified_tokens_do_not_keep_a_tenant_in_use() -> None:
    """Or any client that can write an ``iss`` could decide which tenant is pushed out."""
    async with tenant_rig(tenant_idle_seconds=60) as (made, table, _):
        await made.ask(token(made))
        forged = SigningKey.ec("a", variant=1)
        for _ in range(45):
            await made.clock.advance(10)
            await settle()
            await made.reason(token(made, forged))
        assert table.idle == 1


@pytest.mark.rule("R354")
async def test_two_tokens_of_one_subject_at_two_tenants_are_two_callers() -> None:
    """The cache and the identity keep the tenants apart."""
    async with tenant_rig(tenants=["jwks", "other"], tenant_pattern="") as (made, table, _):
        assert (await made.ask(token(made))).tenant == "jwks"
        assert await made.reason(token(made, iss="https://idp.test/other")) is Reasons.NO_KEYS
        assert len(table) == 2
