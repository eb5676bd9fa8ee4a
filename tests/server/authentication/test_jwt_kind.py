"""JWTs as a kind of credential: what is found without waiting, what needs keys, and what is held."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity
from gateway.policy.routes import RouteTable
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.seam.credential import SOON, Outcome, Shown
from gateway.settings.tables.routes import RouteSettings
from gateway.telemetry.record import Record
from tests.support.gateways.authenticating import rig_with_idp
from tests.support.tokens.minting import SigningKey

KEY, LATER = SigningKey.ec("a"), SigningKey.ec("later")
(ROUTE,) = RouteTable([RouteSettings(path="/", upstream="u")]).routes


async def test_a_token_is_verified_once_and_found_from_then_on() -> None:
    async with rig_with_idp(KEY) as (rig, _):
        kind, shown = JwtKind(rig.authenticator, rig.clock), Shown(rig.mint(KEY))
        first, second = Record(0.0), Record(0.0)
        identity = kind.lookup(shown, first)
        assert isinstance(identity, Identity)
        assert (identity.subject, identity.credential) == ("alice", "jwt")
        assert (first.cache_hit, first.verify_seconds is None) == (False, False)
        assert kind.lookup(shown, second) == identity
        assert (second.cache_hit, second.verify_seconds) == (True, None)
        assert kind.lookups == 2


async def test_a_token_whose_key_is_not_there_has_to_wait_for_it() -> None:
    async with rig_with_idp(KEY) as (rig, idp):
        kind, shown, record = JwtKind(rig.authenticator, rig.clock), Shown(rig.mint(LATER)), Record(0.0)
        assert kind.lookup(shown, record) is None
        assert (record.cache_hit, record.verify_seconds is None) == (False, False)
        idp.publish(KEY, LATER)
        assert (await kind.resolve(shown)).subject == "alice"


@pytest.mark.parametrize(("token", "reason"), [(b"opaque", Reasons.NOT_A_JWS), (b"a.b.c.d.e", Reasons.ENCRYPTED_TOKEN)])
async def test_what_no_other_kind_takes_is_refused_as_no_jwt(token: bytes, reason: object) -> None:
    async with rig_with_idp(KEY) as (rig, _):
        kind, record = JwtKind(rig.authenticator, rig.clock), Record(0.0)
        assert kind.verifier(Shown(token), ROUTE) is kind
        with pytest.raises(GatewayError) as caught:
            kind.lookup(Shown(token), record)
        assert caught.value.reason is reason
        assert record.verify_seconds is not None
        with pytest.raises(GatewayError):
            await kind.resolve(Shown(token))


@pytest.mark.rule("C65")
async def test_a_held_token_ends_and_one_that_was_never_good_is_not_held() -> None:
    async with rig_with_idp(KEY) as (rig, _):
        kind = JwtKind(rig.authenticator, rig.clock)
        shown = Shown(rig.mint(KEY, exp=rig.clock.wall() + 100))
        identity = kind.lookup(shown, Record(0.0))
        held = kind.in_use(shown)
        assert (held.identity, held.ended()) == (identity, None)
        rig.clock.step_wall(200)
        assert held.ended() is Reasons.EXPIRED
        with pytest.raises(GatewayError):
            kind.in_use(Shown(b"junk"))


async def test_it_stands_in_no_field_and_leaves_nothing_to_others() -> None:
    async with rig_with_idp(KEY) as (rig, _):
        kind = JwtKind(rig.authenticator, rig.clock)
        assert (kind.field(ROUTE), kind.challenge, kind.is_remote, kind.knows_revocations) == (b"", "", False, True)
        assert not kind.owns(rig.mint(KEY))
        assert not kind.overrides(ROUTE)


async def test_who_can_wait_for_the_end_of_the_turn_hears_of_a_new_token_then() -> None:
    """Of one that is known, or bad at first sight, at once and only once."""
    async with rig_with_idp(KEY) as (rig, _):
        kind, heard = JwtKind(rig.authenticator, rig.clock), list[Outcome]()
        good, forged = Shown(rig.mint(KEY)), Shown(rig.mint(KEY)[:-8] + b"AAAAAAAA")
        for shown in (good, forged):
            assert kind.lookup(shown, Record(0.0), heard.append) is SOON
        assert heard == []
        await asyncio.sleep(0)
        identity, refusal = heard
        assert isinstance(identity, Identity)
        assert isinstance(refusal, GatewayError)
        assert (identity.subject, refusal.reason) == ("alice", Reasons.BAD_SIGNATURE)
        known = Record(0.0)
        assert kind.lookup(good, known, heard.append) == identity
        assert (known.cache_hit, known.verify_seconds) == (True, None)
        for bad, reason in ((forged, Reasons.BAD_SIGNATURE), (Shown(b"junk"), Reasons.NOT_A_JWS)):
            with pytest.raises(GatewayError) as caught:
                kind.lookup(bad, Record(0.0), heard.append)
            assert caught.value.reason is reason
        await asyncio.sleep(0)
        assert len(heard) == 2


@pytest.mark.rule("R389")
@pytest.mark.parametrize("waits", [True, False])
async def test_the_time_that_a_look_at_a_bad_token_took_is_noted_either_way(waits: bool) -> None:
    async with rig_with_idp(KEY) as (rig, _):
        kind, record = JwtKind(rig.authenticator, rig.clock), Record(0.0)
        with pytest.raises(GatewayError):
            kind.lookup(Shown(b"junk"), record, (lambda outcome: None) if waits else None)
        assert (record.cache_hit, record.verify_seconds is None) == (False, False)
