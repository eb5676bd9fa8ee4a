"""Rules on the token cache, through the authenticator.

What each rule means for the cache alone is in ``tests/jwt/test_cache.py``;
revocation is in ``tests/features/revocation/test_revoked_tokens.py``, R194 in
``tests/features/sender_constrained/test_whole_gateway.py``. R195: the cache shares nothing between
processes; what introspection shares is sealed (``tests/features/introspection/test_shared_answers.py``).
R198: nothing here is a metric label.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.jwt.cache import BYTES_PER_ENTRY
from tests.support.composed import Route, Tokens
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey, jwks, mint_raw

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES: dict[str, Any] = {"algorithms": ["ES256"]}


@pytest.mark.rule("R180")
async def test_tokens_of_one_name_subject_and_key_are_separate_entries() -> None:
    """The key is the full SHA-256 of the whole token."""
    async with rig_with_idp(A, **ES) as (made, _):
        tokens = [made.mint(A, jti="same", scope=scope) for scope in ("read", "write")]
        identities = [await made.ask(token) for token in tokens]
        assert [identity.scopes for identity in identities] == [("read",), ("write",)]
        cache = made.authenticator.cache
        assert [cache.get(hashlib.sha256(token).digest()) for token in tokens] == identities
        assert len(cache) == 2
        assert [await made.ask(token) for token in tokens] == identities


@pytest.mark.rule("R181")
async def test_expiry_is_checked_on_each_hit() -> None:
    """A token with exp and no iat, against the wall clock."""
    async with rig_with_idp(A, leeway_seconds=30, **ES) as (made, _):
        now = made.clock.wall()
        token = mint_raw(
            A,
            b'{"alg":"ES256","kid":"a"}',
            json.dumps({"iss": "https://idp.test/", "aud": "api", "sub": "x", "exp": int(now) + 10}).encode(),
        )
        assert await made.reason(token) is None
        made.clock.step_wall(39.5)
        assert await made.reason(token) is None
        made.clock.step_wall(1)
        assert await made.reason(token) is Reasons.EXPIRED


@pytest.mark.rule("R182")
async def test_not_before_is_checked_on_each_hit() -> None:
    """The wall clock is stepped back."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, nbf=made.clock.wall())
        assert await made.reason(token) is None
        made.clock.step_wall(-60)
        assert await made.reason(token) is Reasons.NOT_YET_VALID


@pytest.mark.rule("R183", "R184")
async def test_an_entry_is_verified_anew_after_cache_seconds() -> None:
    """Whatever exp says; this bounds what a revocation elsewhere can miss."""
    async with FakeIdp() as idp:
        idp.publish(A)
        settings = issuer_settings(jwks_url=idp.jwks_url, max_lifetime_seconds=0, **ES)
        async with rig(settings, tokens=Tokens(cache_seconds=60)) as made:
            token = made.mint(A, exp=made.clock.wall() + 10 * 365 * 86400)
            first = await made.ask(token)
            await made.pass_time(59)
            assert await made.ask(token) is first
            await made.pass_time(2)
            assert await made.ask(token) is not first


@pytest.mark.parametrize(
    "change",
    [{"audience": ["other"]}, {"algorithms": ["RS256"]}, {"issuer": "https://new.test"}, {"claims": {"tier": "gold"}}],
    ids=["audience", "algorithms", "issuer", "claims"],
)
@pytest.mark.rule("R185", "R186")
async def test_a_changed_configuration_starts_with_an_empty_cache(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    options: dict[str, Any] = {"jwks_file": str(file)} | ES
    async with rig(issuer_settings(**options)) as before, rig(issuer_settings(**options | change)) as after:
        token = before.mint(A)
        assert await before.reason(token) is None
        assert await after.reason(token) is not None


@pytest.mark.rule("R187")
async def test_nothing_of_a_route_is_in_an_entry() -> None:
    """One entry serves every route; each judges the same frozen identity."""
    async with rig_with_idp(A, **ES) as (made, _):
        identity = await made.ask(made.mint(A))
        assert set(identity._fields) == {
            "issuer_name",
            "issuer",
            "subject",
            "scopes",
            "claims",
            "expires_at",
            "not_before",
            "token_id",
            "lines",
            "credential",
            "session_id",
            "issued_at",
            "confirmation",
            "tenant",
            "has_issuer",
        }


@pytest.mark.rule("R188")
async def test_a_bad_token_then_the_good_one() -> None:
    """One byte differs; the good one is accepted at once."""
    async with rig_with_idp(A, **ES) as (made, _):
        good = made.mint(A)
        flipped = b"A" if good[-10:-9] != b"A" else b"B"
        bad = good[:-10] + flipped + good[-9:]
        for _ in range(3):
            assert await made.reason(bad) is Reasons.BAD_SIGNATURE
            assert await made.reason(good) is None


@pytest.mark.rule("R189", "C77")
async def test_a_transient_error_is_not_remembered() -> None:
    """The fetch fails at first, the second try is verified."""
    async with FakeIdp() as idp, rig(issuer_settings(jwks_url=idp.jwks_url, **ES)) as made:
        token = made.mint(A)
        assert await made.reason(token) is Reasons.NO_KEYS
        idp.publish(A)
        await made.refresh()
        assert await made.reason(token) is None


@pytest.mark.rule("R190")
async def test_random_tokens_do_not_lower_the_hit_rate_of_good_ones() -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        good = [made.mint(A, jti=str(number)) for number in range(10)]
        for token in good:
            await made.ask(token)
        forged = made.mint(B, {"kid": "a"})
        for number in range(2000):
            assert await made.reason(b"%s%d" % (forged[:-4], 1000 + number)) is not None
        assert all(made.authenticator.cached(token) is not None for token in good)


@pytest.mark.rule("R191")
async def test_memory_is_bounded_and_claims_are_trimmed_to_what_routes_look_at() -> None:
    routes = [Route(path="/", upstream="default", claims={"role": "admin", "groups": "x"})]
    tokens = Tokens(cache_size=1000, max_bytes=65536)
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), routes=routes, tokens=tokens) as made:
            small = await made.ask(made.mint(A, role="admin", padding="x" * 16_000))
            assert dict(small.claims) == {"role": "admin"}
            assert made.authenticator.cache.bytes_used < 4096
            for number in range(400):
                await made.ask(made.mint(A, groups=["r" * 100] * 150, jti=str(number)))
            assert made.authenticator.cache.bytes_used <= 1000 * BYTES_PER_ENTRY
            assert len(made.authenticator.cache) < 400


@pytest.mark.rule("R192")
async def test_a_cached_identity_cannot_be_changed() -> None:
    routes = [Route(path="/", upstream="default", claims={"role": "admin", "tree": "x"})]
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), routes=routes) as made:
            identity: Any = await made.ask(made.mint(A, role=["a"], tree={"deep": {"x": 1}}))
            with pytest.raises(TypeError):
                identity.claims["role"] = "admin"
            with pytest.raises(TypeError):
                identity.claims["tree"]["deep"]["x"] = 2
            with pytest.raises(AttributeError):
                identity.claims["role"].append("b")
            with pytest.raises((AttributeError, TypeError)):
                identity.subject = "root"


@pytest.mark.rule("R199")
async def test_a_changed_case_is_another_token() -> None:
    """The bytes as received are hashed."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A)
        assert await made.reason(token) is None
        for other in (token.swapcase(), token.upper(), token[:-1] + token[-1:].swapcase()):
            if other != token:
                assert made.authenticator.cache.get(hashlib.sha256(other).digest()) is None
                assert await made.reason(other) is not None


@pytest.mark.rule("R196", "R197")
async def test_no_part_of_a_token_is_logged_or_carried_by_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """At debug level, on the good path and on every kind of refusal."""
    caplog.set_level(logging.DEBUG)
    async with rig_with_idp(A, **ES) as (made, idp):
        marker = "MARKERqX7\n\x1b"
        tokens = [
            made.mint(A, note=marker),
            made.mint(B, note=marker),
            made.mint(B, {"kid": "a"}, note=marker),
            made.mint(A, note=marker, exp=1),
            made.mint(A, note=marker, aud="x"),
            made.mint(A, sub=marker),
            b"MARKERqX7.MARKERqX7.MARKERqX7",
            b"MARKERqX7",
        ]
        shown = []
        for token in tokens:
            try:
                await made.ask(token)
            except GatewayError as error:
                shown.append(f"{error} {error.detail} {error.__cause__}")
        idp.keys_answer.status = 500
        await made.refresh()
        shown.append(json.dumps(made.keys.status()))
    text = caplog.text + "".join(shown)
    assert "MARKERqX7" not in text
    assert not any(part.decode() in text for token in tokens[:6] for part in token.split(b"."))
