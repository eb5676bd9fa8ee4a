"""Public bug reports about key sets, replayed through the authenticator over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from tests.support.clock import eventually
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import Answer, FakeIdp, issuer_settings
from tests.support.tokens.minting import SigningKey, jwks, mint

A, B = SigningKey.rsa("a"), SigningKey.rsa("b")
RS: dict[str, Any] = {"algorithms": ["RS256"]}


@pytest.mark.rule("C27", "R171")
async def test_a_token_of_a_rotated_key_is_accepted_at_once() -> None:
    """One forced fetch inside the request; the provider sees exactly one more GET."""
    async with rig_with_idp(A, **RS) as (made, idp):
        idp.publish(A, B)
        assert await made.reason(made.mint(B)) is None
        assert await made.reason(made.mint(A)) is None
        assert idp.key_fetches() == 2


@pytest.mark.rule("C28", "R162")
async def test_random_key_names_cause_one_fetch_per_cooldown() -> None:
    """Two hundred of them within one cooldown; good tokens are not hindered."""
    async with rig_with_idp(A, jwks_cooldown_seconds=10, **RS) as (made, idp):
        good = made.mint(A)
        assert await made.reason(good) is None
        forged = made.mint(SigningKey.ec("x"), {"alg": "RS256"})
        for number in range(200):
            token = mint(SigningKey.ec(f"k{number}"), {}, header={"alg": "RS256"}).split(b".")[0]
            assert await made.reason(token + forged[forged.index(b".") :]) is Reasons.UNKNOWN_KEY
            made.clock.jump(0.05)
            assert await made.reason(good) is None
        assert idp.key_fetches() == 2


@pytest.mark.rule("C29", "R164", "R165")
async def test_a_cold_start_makes_one_discovery_and_one_fetch() -> None:
    """Two hundred requests at once, all answered; the first client leaves."""
    gate = asyncio.Event()
    async with FakeIdp() as idp:
        idp.publish(A, gate=gate)
        settings = issuer_settings(issuer=idp.issuer, **RS)
        async with rig(settings, wait=False) as made:
            tokens = [made.mint(A, iss=idp.issuer, jti=str(number)) for number in range(200)]
            asks = [asyncio.ensure_future(made.reason(token)) for token in tokens]
            await eventually(lambda: idp.key_fetches() == 1)
            asks[0].cancel()
            await asyncio.sleep(0)
            gate.set()
            assert await asyncio.gather(*asks[1:]) == [None] * 199
            assert (idp.discoveries(), idp.key_fetches()) == (1, 1)


FAILING = {
    "500": Answer(b"", 500),
    "login page": Answer(b"<html>please log in</html>", 200, {"Content-Type": "text/html"}),
    "truncated": Answer(jwks(A)[:-30]),
    "empty list": Answer(b'{"keys":[]}'),
    "empty": Answer(b""),
    "quoted string": Answer(b'"keys"'),
    "redirect": Answer(b"", 302, {"Location": "http://127.0.0.1:1/"}),
    "nothing usable": Answer(jwks({"kty": "AKP"})),
}


@pytest.mark.parametrize("answer", FAILING.values(), ids=FAILING)
@pytest.mark.rule("C30", "R153", "R154", "R155")
async def test_a_failing_refresh_throws_no_good_key_away(answer: Answer) -> None:
    """Also when an unknown key triggers it; the next forced try waits for the cooldown."""
    async with rig_with_idp(A, jwks_cooldown_seconds=10, **RS) as (made, idp):
        idp.keys_answer = answer
        await made.refresh()
        assert made.keys.failures == 1
        assert await made.reason(made.mint(A)) is None
        fetches = made.keys.fetches
        assert await made.reason(made.mint(B)) is Reasons.UNKNOWN_KEY
        assert await made.reason(made.mint(B, jti="again")) is Reasons.UNKNOWN_KEY
        assert made.keys.fetches == fetches + 1
        assert await made.reason(made.mint(A, jti="cold")) is None
        assert made.keys.status()["last_error"] != ""


@pytest.mark.rule("C30", "R166")
async def test_an_outage_longer_than_the_stated_age_is_503() -> None:
    """Ten minutes pass, twenty-five hours do not."""
    async with rig_with_idp(A, jwks_refresh_seconds=86400, **RS) as (made, idp):
        await idp.stop()
        await made.refresh()
        assert await made.reason(made.mint(A)) is None
        made.clock.jump(25 * 3600)
        with pytest.raises(GatewayError) as caught:
            await made.ask(made.mint(A))
        assert (caught.value.reason, caught.value.reason.kind.status) == (Reasons.STALE_KEYS, 503)
        assert made.keys.status()["reason"] == "stale_keys"
        await idp.start()
        await made.refresh()
        assert await made.reason(made.mint(A)) is None


@pytest.mark.rule("C32")
async def test_a_provider_that_is_down_at_start_is_waited_for_outside_requests() -> None:
    """503 with Retry-After until it returns, then 200 within one retry step."""
    async with FakeIdp() as idp:
        idp.publish(A)
        await idp.stop()
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            begin = made.clock.monotonic()
            while made.clock.monotonic() < begin + 5:
                with pytest.raises(GatewayError) as caught:
                    await made.ask(made.mint(A))
                assert (caught.value.reason, caught.value.reason.kind.status) == (Reasons.NO_KEYS, 503)
                assert 1 <= (caught.value.retry_after or 0) <= 8
                assert made.keys.usable() is Reasons.NO_KEYS
                await made.refresh()
            await idp.start()
            await made.refresh()
            assert await made.reason(made.mint(A)) is None


NAMELESS_A, NAMELESS_B = SigningKey(None, A.private, "RS256"), SigningKey(None, B.private, "RS256")


@pytest.mark.parametrize(
    ("published", "token_key", "reason"),
    [
        ([A], A, None),
        ([A], NAMELESS_A, None),
        ([NAMELESS_A], A, None),
        ([NAMELESS_A], NAMELESS_A, None),
        ([A, B], NAMELESS_A, None),
        ([A, B], NAMELESS_B, None),
        ([NAMELESS_A, NAMELESS_B], NAMELESS_A, None),
        ([NAMELESS_A, NAMELESS_B], NAMELESS_B, None),
        ([NAMELESS_A, NAMELESS_B], B, None),
        ([A], NAMELESS_B, Reasons.BAD_SIGNATURE),
        ([A], B, Reasons.UNKNOWN_KEY),
    ],
)
@pytest.mark.rule("C33", "R031")
async def test_keys_and_tokens_with_and_without_names(
    published: list[SigningKey], token_key: SigningKey, reason: Reason | None
) -> None:
    """A nameless token tries every key that fits; a name that no key has may mean a nameless key."""
    async with rig_with_idp(*published, **RS) as (made, idp):
        assert await made.reason(made.mint(token_key)) is reason
        assert idp.key_fetches() == (2 if reason is Reasons.UNKNOWN_KEY else 1)


@pytest.mark.parametrize("kid", [None, "ABSENT"])
@pytest.mark.rule("C33", "C08")
async def test_a_nameless_token_never_causes_a_fetch(kid: str | None) -> None:
    """Null counts as absent."""
    async with rig_with_idp(A, **RS) as (made, idp):
        for number in range(5):
            header = {"kid": None} if kid is None else None
            assert await made.reason(made.mint(NAMELESS_B, header, jti=str(number))) is Reasons.BAD_SIGNATURE
        assert idp.key_fetches() == 1


@pytest.mark.rule("R032")
async def test_keys_of_one_name_are_all_tried() -> None:
    """The right one is the second."""
    twin = SigningKey.rsa("a", variant=1)
    async with rig_with_idp(A, twin, **RS) as (made, _):
        assert [await made.reason(made.mint(key)) for key in (A, twin)] == [None, None]


ODD: dict[str, Any] = {
    "kty AKP": {"kty": "AKP", "kid": "odd", "alg": "ML-DSA-44", "pub": "AAAA"},
    "no kty": {"kid": "odd", "n": "AQAB", "e": "AQAB"},
    "unknown curve": {"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA", "kid": "odd"},
    "point off the curve": SigningKey.ec("odd").public_jwk(y=SigningKey.ec("odd").public_jwk()["x"]),
    "no n": {"kty": "RSA", "kid": "odd", "e": "AQAB", "x5c": ["AAAA"]},
    "kid 123": SigningKey.rsa("odd").public_jwk(kid=123),
    "kid null": SigningKey.rsa("odd").public_jwk(kid=None),
    "RSA 1024": SigningKey.rsa("odd", 1024).public_jwk(),
    "oct": {"kty": "oct", "kid": "odd", "k": "AAAA"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.rule("C34", "R014")
async def test_one_odd_key_harms_only_itself(odd: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """It is skipped, and logged by its place."""
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(A, odd))
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert await made.reason(made.mint(A)) is None
            assert [key.index for key in made.keys.keys.rejected] == [1]
    (record,) = caplog.records
    assert record.getMessage().startswith("issuer main: key 1 (kid ")


@pytest.mark.parametrize("odd", ["x", 5, None, [], True])
@pytest.mark.rule("C34")
async def test_entries_that_are_no_objects_harm_only_themselves(odd: Any) -> None:
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(json.dumps({"keys": [odd, A.public_jwk()]}).encode())
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert await made.reason(made.mint(A)) is None


@pytest.mark.rule("C35")
async def test_a_key_without_algorithm_serves_what_the_issuer_allows() -> None:
    """Unknown members are ignored."""
    entry = A.public_jwk(use="sig", x5t="AAAA", x5c=["AAAA"], issuer="https://login.test/v2.0")
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(entry))
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert await made.reason(made.mint(A)) is None


@pytest.mark.rule("C38", "R007", "R008")
async def test_symmetric_and_private_material_is_of_no_use(caplog: pytest.LogCaptureFixture) -> None:
    """No HMAC with a published secret; private members are dropped, and nothing of them is logged."""
    secret = SigningKey.hmac("h", b"s" * 32)
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(A.private_jwk(), secret))
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert await made.reason(made.mint(A)) is None
            assert await made.reason(made.mint(secret)) is Reasons.ALGORITHM_REFUSED
            assert [key.kid for key in made.keys.keys.rejected] == ["a", "h"]
            shown = caplog.text + json.dumps(made.keys.status())
            private = A.private_jwk()
            assert not any(private[name] in shown for name in ("d", "p", "q", "n"))


@pytest.mark.parametrize(
    "content_type", ["application/jwk-set+json", "application/json; charset=UTF-8", "text/plain", "text/html"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.rule("C40")
async def test_any_content_type_with_a_right_body_loads(content_type: str, mark: bytes) -> None:
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(mark + jwks(A), 200, {"Content-Type": content_type})
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert await made.reason(made.mint(A)) is None
