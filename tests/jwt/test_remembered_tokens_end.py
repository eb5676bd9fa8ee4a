"""Public bug reports about token caches, replayed through the authenticator."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType, MethodType

import pytest

from gateway.errors import Reasons
from tests.support.clock import eventually
from tests.support.composed import Route, Tokens
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import FakeIdp, issuer_settings
from tests.support.tokens.minting import ABSENT, SigningKey, jwks

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES = {"algorithms": ["ES256"]}


@pytest.mark.rule("C73", "R181")
async def test_an_entry_does_not_outlive_its_token() -> None:
    """Two seconds left, no leeway."""
    async with rig_with_idp(A, leeway_seconds=0, **ES) as (made, _):
        token = made.mint(A, exp=made.clock.wall() + 2)
        assert await made.reason(token) is None
        await made.pass_time(3)
        assert await made.reason(token) is Reasons.EXPIRED
        assert len(made.authenticator.cache) == 0


@pytest.mark.rule("C73")
async def test_leeway_is_all_the_extra_life_there_is() -> None:
    """exp + leeway, on a hit as on a miss."""
    async with rig_with_idp(A, leeway_seconds=30, **ES) as (made, _):
        warm, cold = (made.mint(A, exp=made.clock.wall() + 2, jti=name) for name in ("warm", "cold"))
        assert await made.reason(warm) is None
        await made.pass_time(31)
        assert (await made.reason(warm), await made.reason(cold)) == (None, None)
        await made.pass_time(2)
        assert (await made.reason(warm), await made.reason(cold)) == (Reasons.EXPIRED, Reasons.EXPIRED)


@pytest.mark.rule("C73", "R183")
async def test_a_token_without_exp_is_verified_anew_after_the_maximum_age() -> None:
    async with rig_with_idp(A, required_claims=["sub"], jwks_refresh_seconds=86400, **ES) as (made, _):
        token = made.mint(A, exp=ABSENT)
        assert await made.reason(token) is None
        await made.pass_time(299)
        assert await made.reason(token) is None
        assert made.authenticator.cache.hits == 1
        await made.pass_time(2)
        assert await made.reason(token) is None
        assert made.authenticator.cache.hits == 1


@pytest.mark.rule("C75", "R187")
async def test_what_is_cached_depends_on_no_route() -> None:
    """A hit gives the same identity, from which each route's own rules are judged."""
    routes = [
        Route(path="/a", upstream="default", scopes=["foo"], claims={"role": "admin"}),
        Route(path="/b", upstream="default", scopes=["bar"]),
    ]
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), routes=routes) as made:
            token = made.mint(A, scope="foo", role="clerk", other="x")
            first = await made.ask(token)
            assert await made.ask(token) is first
            assert (first.scopes, dict(first.claims)) == (("foo",), {"role": "clerk"})


@pytest.mark.rule("C77")
async def test_an_unknown_key_is_not_remembered_against_the_token() -> None:
    """The key is published later; the cooldown is all there is to wait for."""
    async with rig_with_idp(A, jwks_cooldown_seconds=10, **ES) as (made, idp):
        token = made.mint(B)
        assert await made.reason(token) is Reasons.UNKNOWN_KEY
        idp.publish(A, B)
        assert await made.reason(token) is Reasons.UNKNOWN_KEY
        await made.pass_time(10)
        assert await made.reason(token) is None


@pytest.mark.rule("C77")
async def test_a_bad_signature_is_remembered_apart() -> None:
    """Only permanent verdicts are."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(B, {"kid": "a"})
        assert await made.reason(token) is Reasons.BAD_SIGNATURE
        assert await made.reason(token) is Reasons.BAD_SIGNATURE
        assert made.authenticator.cache.bad_hits == 1
        early = made.mint(A, nbf=made.clock.wall() + 40)
        assert await made.reason(early) is Reasons.NOT_YET_VALID
        await made.pass_time(11)
        assert await made.reason(early) is None


@pytest.mark.rule("C78", "R169")
async def test_a_withdrawn_key_ends_warm_tokens_at_the_refresh() -> None:
    async with rig_with_idp(A, B, **ES) as (made, idp):
        of_a, of_b = made.mint(A), made.mint(B)
        kept = await made.ask(of_b)
        assert await made.reason(of_a) is None
        idp.publish(B)
        await made.refresh()
        assert await made.reason(of_a) is Reasons.UNKNOWN_KEY
        assert await made.ask(of_b) is kept


@pytest.mark.rule("C78", "R170")
async def test_new_material_under_the_old_name_ends_warm_tokens() -> None:
    renewed = SigningKey.ec("a", variant=1)
    async with rig_with_idp(A, **ES) as (made, idp):
        old, new = made.mint(A), made.mint(renewed)
        assert await made.reason(old) is None
        assert await made.reason(new) is Reasons.BAD_SIGNATURE
        idp.publish(renewed)
        await made.refresh()
        assert await made.reason(old) is Reasons.BAD_SIGNATURE
        assert await made.reason(new) is None


@pytest.mark.rule("C78", "C30")
async def test_a_failed_refresh_drops_nothing() -> None:
    async with rig_with_idp(A, **ES) as (made, idp):
        token = made.mint(A)
        warm = await made.ask(token)
        idp.keys_answer.status = 500
        await made.refresh()
        assert made.keys.failures == 1
        assert await made.ask(token) is warm


@pytest.mark.rule("C79", "R026")
async def test_other_spellings_of_a_token_are_no_second_entries() -> None:
    """One token has one accepted spelling, but for the signature twin of ECDSA, a token of its own hash.

    Revocation is by claims, not by hash, so the twin does not evade it.
    """
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, jti="one")
        identity = await made.ask(token)
        for spelling in (token + b"=", token + b"==", token[:-1] + bytes([token[-1] + 1]), token + b"\n"):
            assert await made.reason(spelling) is not None
        assert len(made.authenticator.cache) == 1
        assert identity.token_id == "one"


@pytest.mark.rule("C81", "R190")
async def test_growth_is_bounded_and_garbage_never_evicts_hot_tokens() -> None:
    """Ten times the cap of each."""
    tokens = Tokens(cache_size=30)
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), tokens=tokens) as made:
            cache = made.authenticator.cache
            hot = [made.mint(A, jti=f"hot {number}") for number in range(10)]
            for token in hot:
                await made.ask(token)
            for number in range(300):
                assert await made.reason(b"%d.garbage.x" % number) is not None
            before = cache.hits
            assert [await made.reason(token) for token in hot] == [None] * 10
            assert cache.hits == before + 10
            for number in range(300):
                await made.ask(made.mint(A, jti=str(number)))
                assert len(cache) <= 30


def texts_in(root: object) -> Iterator[bytes]:
    """Return every text that an object of ours holds, in the objects that it is made of."""
    seen, ahead = set[int](), [root]
    while ahead:
        one = ahead.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str | bytes):
            yield one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
        elif isinstance(one, dict | list | tuple | set | frozenset | MappingProxyType | MethodType) or (
            type(one).__module__.startswith("gateway.")
        ):
            ahead += gc.get_referents(one)


@pytest.mark.rule("C81", "R196")
async def test_no_token_text_is_kept() -> None:
    """The key of an entry is a hash, and nothing in the entry quotes the token."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A)
        await made.ask(token)
        texts = [*texts_in(made.authenticator.cache)]
        assert sha256(token).digest() in texts
        assert not any(part in text for part in token.split(b".") for text in texts)


@pytest.mark.rule("R185", "R186")
async def test_a_removed_issuer_takes_its_entries_along(tmp_path: Path) -> None:
    """Each configuration has its own cache."""
    file = tmp_path / "keys.json"
    file.write_bytes(jwks(A))
    wide = issuer_settings(jwks_file=str(file), audience=["api", "other"], **ES)
    async with rig(wide) as made:
        token = made.mint(A, aud="other")
        assert await made.reason(token) is None
        async with rig(issuer_settings(jwks_file=str(file), **ES)) as tightened:
            assert await tightened.reason(token) is Reasons.WRONG_AUDIENCE


@pytest.mark.rule("R193")
async def test_concurrent_misses_of_one_token_verify_once() -> None:
    """A hundred callers wait for the first keys with one token."""
    gate = asyncio.Event()
    async with FakeIdp() as idp:
        idp.publish(A, gate=gate)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), wait=False) as made:
            token = made.mint(A)
            asks = asyncio.gather(*(made.ask(token) for _ in range(100)))
            await eventually(lambda: idp.key_fetches() == 1)
            gate.set()
            identities = await asks
            assert len({id(identity) for identity in identities}) == 1
            assert made.authenticator.cache.hits == 99
