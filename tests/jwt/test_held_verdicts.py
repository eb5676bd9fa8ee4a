"""Verdicts that are used for longer than one request: what they rest on, and when they end."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError, Reasons
from tests.support.clock import eventually
from tests.support.composed import Tokens
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES = {"algorithms": ["ES256"], "leeway_seconds": 10}


@pytest.mark.parametrize("cache_size", [0, 1, 1000])
@pytest.mark.rule("C65")
async def test_verdict_can_be_held_whatever_the_cache_keeps(cache_size: int) -> None:
    """Pushed out or never kept, it rests on the same."""
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), tokens=Tokens(cache_size=cache_size)) as made:
            token = made.mint(A)
            identity = await made.authenticator.authenticate(token)
            await made.ask(made.mint(A, jti="another"))
            held = made.authenticator.hold(token)
            assert (held.identity, held.key.kid) == (identity, "a")
            assert made.authenticator.still_good(held) is None


@pytest.mark.rule("C65", "R073")
async def test_held_verdict_ends_with_its_token() -> None:
    """At exp plus leeway, as for a request."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, exp=made.clock.wall() + 20)
        await made.ask(token)
        held = made.authenticator.hold(token)
        await made.clock.advance(29)
        assert made.authenticator.still_good(held) is None
        await made.clock.advance(1)
        assert made.authenticator.still_good(held) is Reasons.EXPIRED


@pytest.mark.rule("C65", "R169")
async def test_held_verdict_ends_with_its_key() -> None:
    """And with no other one."""
    async with rig_with_idp(A, B, **ES) as (made, idp):
        old, new = made.mint(A), made.mint(B)
        held = []
        for token in (old, new):
            await made.ask(token)
            held.append(made.authenticator.hold(token))
        idp.publish(B)
        fetches = idp.key_fetches()
        await made.clock.advance(400)
        await eventually(lambda: idp.key_fetches() > fetches)
        await eventually(lambda: made.authenticator.still_good(held[0]) is Reasons.UNKNOWN_KEY)
        assert made.authenticator.still_good(held[1]) is None


@pytest.mark.rule("C65", "R154")
async def test_held_verdict_ends_when_the_keys_are_too_old_to_be_believed() -> None:
    """It is not known then, as for a request."""
    async with rig_with_idp(A, jwks_max_stale_seconds=1000, **ES) as (made, _):
        token = made.mint(A)
        await made.ask(token)
        held = made.authenticator.hold(token)
        made.clock.jump(1001)
        assert made.authenticator.still_good(held) is Reasons.STALE_KEYS


@pytest.mark.rule("R322")
async def test_verdict_that_would_not_be_given_again_cannot_be_held() -> None:
    """A token that ended between its check and the upstream's answer, and that the cache has forgotten."""
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), tokens=Tokens(cache_size=0)) as made:
            token = made.mint(A, exp=made.clock.wall() + 1)
            await made.ask(token)
            made.clock.jump(11)
            with pytest.raises(GatewayError) as refusal:
                made.authenticator.hold(token)
            assert refusal.value.reason is Reasons.EXPIRED
            with pytest.raises(GatewayError) as refusal:
                made.authenticator.hold(made.mint(B))
            assert refusal.value.reason is Reasons.UNKNOWN_KEY
