"""``gateway/jwt/authenticator.py``: the order of the steps, and what each outcome leaves behind."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt import authenticator as authenticate
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.registry import build_issuers
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Tokens
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import FakeIdp, gateway_settings, issuer_settings
from tests.support.tokens.minting import ABSENT, ISSUER, SigningKey, jwks

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES = {"algorithms": ["ES256"]}


async def test_a_good_token_gives_its_identity_and_the_next_time_the_same_one() -> None:
    """Design: step 5."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, jti="one")
        assert made.authenticator.cached(token) is None
        identity = await made.authenticator.authenticate(token)
        assert (identity.issuer_name, identity.issuer, identity.subject) == ("main", ISSUER, "alice")
        assert (identity.scopes, identity.token_id) == (("read", "write"), "one")
        assert made.authenticator.cached(token) is identity


IMPLAUSIBLE: dict[str, tuple[dict[str, Any], dict[str, Any], Reason]] = {
    "unknown issuer": ({"iss": "https://other.test/"}, {}, Reasons.UNKNOWN_ISSUER),
    "no issuer": ({"iss": ABSENT}, {}, Reasons.UNKNOWN_ISSUER),
    "issuer of another type": ({"iss": [ISSUER]}, {}, Reasons.UNKNOWN_ISSUER),
    "algorithm not allowed": ({}, {"alg": "ES384"}, Reasons.ALGORITHM_REFUSED),
    "other kind of token": ({}, {"typ": "logout+jwt"}, Reasons.TYPE_REFUSED),
    "expired": ({"exp": 1}, {}, Reasons.EXPIRED),
    "wrong audience": ({"aud": "other"}, {}, Reasons.WRONG_AUDIENCE),
    "no subject": ({"sub": ABSENT}, {}, Reasons.MISSING_CLAIM),
    "critical header": ({}, {"crit": ["x"]}, Reasons.CRITICAL_HEADER),
}


@pytest.mark.parametrize(("claims", "header", "reason"), IMPLAUSIBLE.values(), ids=IMPLAUSIBLE)
@pytest.mark.rule("R163")
async def test_only_a_plausible_token_causes_a_fetch(
    claims: dict[str, Any], header: dict[str, Any], reason: Reason
) -> None:
    """Whatever is wrong apart from the key is found before any key is asked for."""
    async with rig_with_idp(A, **ES) as (made, idp):
        assert await made.reason(made.mint(B, header, **claims)) is reason
        assert idp.key_fetches() == 1


@pytest.mark.rule("R113")
async def test_an_implausible_token_is_401_even_while_keys_are_missing() -> None:
    """ "no" needs no keys; only a token that could be good is answered 503."""
    async with FakeIdp() as idp, rig(issuer_settings(jwks_url=idp.jwks_url, **ES)) as made:
        assert await made.reason(made.mint(A, exp=1)) is Reasons.EXPIRED
        assert await made.reason(made.mint(A)) is Reasons.NO_KEYS
        assert await made.reason(b"junk") is Reasons.NOT_A_JWS


@pytest.mark.rule("C25")
async def test_a_token_over_the_limit_is_refused_unread() -> None:
    """It is not even hashed, and nothing is remembered of it."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = b"x" * 8193
        assert await made.reason(token) is Reasons.TOKEN_TOO_LONG
        with pytest.raises(GatewayError) as caught:
            await made.authenticator.authenticate(token)
        assert caught.value.reason is Reasons.TOKEN_TOO_LONG
        assert made.authenticator.cache.bad(b"") is None


FORMS = [b"junk", b"a.b.c.d.e", b"a.b.", b"!!.!!.!!", b"e30.e30.eA", b"bnVsbA.e30.eA"]


@pytest.mark.parametrize("token", FORMS)
@pytest.mark.rule("C77", "R188")
async def test_what_is_wrong_for_ever_is_not_looked_at_again(token: bytes) -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        first = await made.reason(token)
        assert first is not None
        assert await made.reason(token) is first
        assert made.authenticator.cache.bad_hits == 1


@pytest.mark.rule("C77", "R189")
async def test_verdicts_that_time_or_keys_can_change_are_looked_at_again() -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        now = made.clock.wall()
        for token in (made.mint(B), made.mint(A, exp=1), made.mint(A, nbf=now + 99), made.mint(A, iat=now + 99)):
            assert await made.reason(token) is not None
            assert await made.reason(token) is not None
        assert made.authenticator.cache.bad_hits == 0


@pytest.mark.rule("R346", "R188")
async def test_a_claim_that_cannot_be_a_header_is_remembered_with_the_keys() -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, sub="a\nb")
        assert await made.reason(token) is Reasons.UNSAFE_CLAIM
        assert await made.reason(token) is Reasons.UNSAFE_CLAIM
        assert made.authenticator.cache.bad_hits == 1


@pytest.mark.parametrize("error", [RuntimeError("secret"), RecursionError(), KeyError("secret"), MemoryError()])
@pytest.mark.rule("R094")
async def test_an_unforeseen_fault_is_a_refusal_that_quotes_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the token is looked at again the next time."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A)
        with monkeypatch.context() as patch:
            patch.setattr(authenticate, "make_identity", lambda *_: (_ for _ in ()).throw(error))
            with pytest.raises(GatewayError) as caught:
                await made.ask(token)
        assert caught.value.reason is Reasons.VERIFICATION_FAILED
        assert caught.value.detail == type(error).__name__
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert await made.reason(token) is None


@pytest.mark.rule("R285")
async def test_cancellation_passes() -> None:
    """A client that leaves is no refused token."""
    async with FakeIdp() as idp:
        idp.publish(A, gate=asyncio.Event())
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), wait=False) as made:
            asking = asyncio.ensure_future(made.ask(made.mint(A)))
            await eventually(lambda: idp.key_fetches() == 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking


@pytest.mark.rule("R166", "C30", "R113")
async def test_stale_keys_are_503_for_warm_and_cold_tokens() -> None:
    """With the seconds until the next try."""
    async with rig_with_idp(A, jwks_max_stale_seconds=280, **ES) as (made, idp):
        warm, cold = made.mint(A, jti="warm"), made.mint(A, jti="cold")
        assert await made.reason(warm) is None
        idp.keys_answer.status = 500
        await made.refresh()
        assert await made.reason(warm) is None
        made.clock.jump(60)
        for token in (warm, cold):
            with pytest.raises(GatewayError) as caught:
                await made.ask(token)
            assert caught.value.reason is Reasons.STALE_KEYS
            assert caught.value.reason.kind.status == 503
            assert 1 <= (caught.value.retry_after or 0) <= 30


@pytest.mark.rule("R181")
async def test_a_token_that_expires_while_keys_are_fetched_is_refused() -> None:
    """The time is looked at again after waiting."""
    gate = asyncio.Event()
    async with rig_with_idp(A, leeway_seconds=0, **ES) as (made, idp):
        idp.publish(A, B, gate=gate)
        asking = asyncio.ensure_future(made.reason(made.mint(B, exp=made.clock.wall() + 2)))
        await eventually(lambda: idp.key_fetches() == 2)
        made.clock.jump(3)
        gate.set()
        assert await asking is Reasons.EXPIRED


@pytest.mark.rule("C27", "C33")
async def test_a_missing_name_beside_nameless_keys_is_still_looked_for() -> None:
    """Nameless keys are tried first, but when they did not sign, the named one may be new."""
    nameless = SigningKey.ec(None, variant=7)
    async with rig_with_idp(nameless, **ES) as (made, idp):
        assert await made.reason(made.mint(nameless, {"kid": "elsewhere"})) is None
        assert idp.key_fetches() == 1
        idp.publish(nameless, B)
        assert await made.reason(made.mint(B)) is None
        assert idp.key_fetches() == 2


@pytest.mark.rule("R163", "R010")
async def test_a_known_name_that_does_not_fit_causes_no_fetch() -> None:
    """The key is there, it just is not for this algorithm."""
    async with rig_with_idp(A, algorithms=["ES256", "ES384"]) as (made, idp):
        other = SigningKey.ec("a", "P-384")
        assert await made.reason(made.mint(other)) is Reasons.UNKNOWN_KEY
        assert idp.key_fetches() == 1


@pytest.mark.rule("C94", "R197")
async def test_an_unknown_issuer_is_told_from_a_similar_one_in_the_log(tmp_path: Path) -> None:
    """Both values, escaped and short, however many issuers there are."""
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    issuers = [issuer_settings(name=f"i{n}", issuer=f"https://t{n}.test", jwks_file=str(file), **ES) for n in range(50)]
    async with rig(*issuers) as made:
        for value, shown in (
            ("https://t7.test/", "'https://t7.test/', configured is 'https://t7.test'"),
            ("x\n\x1b" + "y" * 5000, "'x\\n\\x1by"),
        ):
            with pytest.raises(GatewayError) as caught:
                await made.ask(made.mint(A, iss=value))
            assert caught.value.reason is Reasons.UNKNOWN_ISSUER
            assert shown in caught.value.detail
            assert caught.value.detail.isprintable()
            assert len(caught.value.detail) < 500


async def test_issuers_are_built_from_settings(tmp_path: Path) -> None:
    """Design: build once. What is fetched can wait at first, and a file does not."""
    file, clock = tmp_path / "keys", FakeClock()
    file.write_bytes(jwks(A))
    settings = gateway_settings(
        issuer_settings(name="file", jwks_file=str(file), **ES),
        issuer_settings(name="net", issuer="https://b.test", jwks_url="https://b.test/keys"),
    )
    built = build_issuers(settings, clock, 0.2)
    assert list(built) == ["file", "net"]
    assert [each.status()["source"] for each in built.values()] == [str(file), "https://b.test/keys"]
    try:
        for each in built.values():
            each.start()
        await eventually(lambda: built["file"].fetches == 1)
        assert built["file"].usable() is None
        assert clock.naps[0] == pytest.approx(0.2)
        assert built["net"].fetches == 0
    finally:
        for each in built.values():
            await each.stop()


async def test_a_cache_of_size_zero_verifies_each_time() -> None:
    """Contract: cache_size = 0 switches it off."""
    async with FakeIdp() as idp:
        idp.publish(A)
        settings = issuer_settings(jwks_url=idp.jwks_url, **ES)
        async with rig(settings, tokens=Tokens(cache_size=0)) as made:
            token = made.mint(A)
            assert await made.ask(token) is not await made.ask(token)
            assert isinstance(made.authenticator, Authenticator)


BOUND_TO = {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}


@pytest.mark.rule("R096")
async def test_a_bound_token_comes_out_of_no_step_that_looks_for_bearer_tokens() -> None:
    """Only ``authenticate`` gives it out, and its callers ask for the proof."""
    async with rig_with_idp(A, **ES) as (made, _):
        authenticator, token = made.authenticator, made.mint(A, cnf=BOUND_TO)
        digest = sha256(token).digest()
        identity = await authenticator.authenticate(token)
        assert identity.confirmation == (BOUND_TO["jkt"], None)
        for _ in range(2):
            assert authenticator.recall(digest) is None
            assert authenticator.cached(token) is None
            assert authenticator.verify_now(token) is None
            assert authenticator.knows_bound(digest)
        fresh = made.mint(A, cnf=BOUND_TO, jti="fresh")
        found = authenticator.verify_now(fresh)
        assert found is not None
        assert found.confirmation is not None
        assert authenticator.recall(sha256(fresh).digest()) is None


@pytest.mark.rule("R169", "R181")
async def test_a_bound_token_is_remembered_and_looked_at_again_like_any_other() -> None:
    """Its signature is checked once; its key and its times each time."""
    async with rig_with_idp(A, **ES) as (made, _):
        authenticator, token = made.authenticator, made.mint(A, cnf=BOUND_TO)
        identity = await authenticator.authenticate(token)
        hits, misses = authenticator.cache.hits, authenticator.cache.misses
        authenticator.refuse_unread(token, sha256(token).digest())
        assert await authenticator.authenticate(token) is identity
        assert (authenticator.cache.hits, authenticator.cache.misses) == (hits + 1, misses)
        assert authenticator.hold(token).identity is identity
        made.clock.jump(700)
        assert await made.reason(token) is Reasons.EXPIRED
        assert not authenticator.knows_bound(sha256(token).digest())


@pytest.mark.rule("R164", "R096")
async def test_many_requests_with_a_bound_token_share_the_wait_for_its_key() -> None:
    async with rig_with_idp(A, **ES) as (made, idp):
        idp.publish(A, B)
        await made.clock.advance(10)
        token = made.mint(B, cnf=BOUND_TO)
        found = await asyncio.gather(*(made.authenticator.authenticate(token) for _ in range(5)))
        assert {identity.confirmation for identity in found} == {(BOUND_TO["jkt"], None)}
        assert made.authenticator.recall(sha256(token).digest()) is None
