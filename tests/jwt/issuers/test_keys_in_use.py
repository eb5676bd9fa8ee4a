"""Rules on keys and their fetching, through the authenticator over real sockets.

The same rules at the level of one module are in ``tests/jwt/issuers/test_jwks_*``,
where R140 to R143, R150 to R161, R164 to R168 and R175 are looked at case by case.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from gateway.errors import Reason, Reasons
from tests.support.clock import eventually
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import Answer, FakeIdp, issuer_settings, raw_server
from tests.support.tokens.minting import SigningKey, good_claims, mint

A, B = SigningKey.ec("a"), SigningKey.ec("b")
ES: dict[str, Any] = {"algorithms": ["ES256"]}
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.rule("R026")
async def test_the_signature_twin_has_the_same_identity_for_revocation() -> None:
    """(r, n - s) verifies as well; what revocation looks at (jti, sub) is the same in both."""
    async with rig_with_idp(A, **ES) as (made, _):
        token = made.mint(A, jti="one")
        head, _, signature = token.rpartition(b".")
        raw = base64.urlsafe_b64decode(signature + b"==")
        twin_s = (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
        twin = head + b"." + base64.urlsafe_b64encode(raw[:32] + twin_s).rstrip(b"=")
        first, second = await made.ask(token), await made.ask(twin)
        assert twin != token
        assert (first.token_id, first.subject) == (second.token_id, second.subject) == ("one", "alice")


@pytest.mark.rule("R028", "R029")
async def test_keys_of_one_issuer_are_no_good_for_another() -> None:
    """The issuer is chosen first; both have a key of the same name."""
    a_twin = SigningKey.ec("a", variant=1)
    async with FakeIdp() as one, FakeIdp() as two:
        one.publish(A)
        two.publish(a_twin)
        issuers = [
            issuer_settings(name="one", issuer="https://one.test", jwks_url=one.jwks_url, **ES),
            issuer_settings(name="two", issuer="https://two.test", jwks_url=two.jwks_url, **ES),
        ]
        async with rig(*issuers) as made:
            assert (await made.ask(made.mint(A, iss="https://one.test"))).issuer_name == "one"
            assert (await made.ask(made.mint(a_twin, iss="https://two.test"))).issuer_name == "two"
            assert await made.reason(made.mint(A, iss="https://two.test")) is Reasons.BAD_SIGNATURE
            assert await made.reason(made.mint(a_twin, iss="https://one.test")) is Reasons.BAD_SIGNATURE


KIDS = ["../../dev/null", "' OR 1=1", "k" * 1500, "a\x00", "\U0001f511", "http://127.0.0.1/", ""]


@pytest.mark.parametrize("kid", KIDS)
@pytest.mark.rule("R030", "R033")
async def test_a_key_name_is_a_look_up_string_and_causes_at_most_one_fetch(kid: str) -> None:
    async with rig_with_idp(A, **ES) as (made, idp):
        for number in range(3):
            assert await made.reason(made.mint(A, {"kid": kid}, jti=str(number))) is Reasons.UNKNOWN_KEY
        assert [seen.path for seen in idp.seen] == ["/jwks", "/jwks"]


@pytest.mark.parametrize("kid", [1, [], {}, True, 1.5])
@pytest.mark.rule("R034")
async def test_a_key_name_of_another_type_causes_no_fetch(kid: object) -> None:
    async with rig_with_idp(A, **ES) as (made, idp):
        assert await made.reason(made.mint(A, {"kid": kid})) is Reasons.BAD_HEADER
        assert len(idp.seen) == 1


@pytest.mark.parametrize("member", ["jku", "x5u", "jwks_uri", "iss"])
@pytest.mark.rule("R035")
async def test_no_address_in_a_token_is_ever_fetched(member: str) -> None:
    """The listener sees nothing, whether the token is good or bad."""
    async with FakeIdp() as listener, rig_with_idp(A, **ES) as (made, idp):
        listener.publish(B)
        header = {member: listener.jwks_url}
        assert await made.reason(made.mint(A, header)) is None
        assert await made.reason(made.mint(B, header)) is Reasons.UNKNOWN_KEY
        assert await made.reason(made.mint(B, header, iss=listener.issuer)) is Reasons.UNKNOWN_ISSUER
        assert listener.seen == []
        assert {seen.path for seen in idp.seen} == {"/jwks"}


@pytest.mark.rule("R036")
async def test_a_key_inside_a_token_is_never_used() -> None:
    async with rig_with_idp(A, **ES) as (made, _):
        for kid in ("a", "b"):
            header = {"kid": kid, "jwk": B.public_jwk(), "x5c": ["AAAA"]}
            assert await made.reason(made.mint(B, header)) in (Reasons.BAD_SIGNATURE, Reasons.UNKNOWN_KEY)


@pytest.mark.parametrize("header", [b'{"alg":"dir","enc":"A256GCM"}', b'{"alg":"dir","enc":"A256GCM","zip":"DEF"}'])
@pytest.mark.rule("R037", "R038")
async def test_encrypted_tokens_are_refused_before_any_key(header: bytes) -> None:
    """Nothing is decrypted or expanded, nothing is fetched."""
    async with rig_with_idp(A, **ES) as (made, idp):
        token = base64.urlsafe_b64encode(header).rstrip(b"=") + b"..AAAA.AAAA.AAAA"
        assert await made.reason(token) is Reasons.ENCRYPTED_TOKEN
        assert len(idp.seen) == 1


@pytest.mark.rule("R140")
async def test_a_discovery_document_for_another_issuer_keeps_old_keys_and_is_seen() -> None:
    """At start there are no keys then; later the old ones stay."""
    async with FakeIdp() as idp:
        idp.publish(A)
        async with rig(issuer_settings(issuer=idp.issuer, **ES)) as made:
            token = made.mint(A, iss=idp.issuer)
            assert await made.reason(token) is None
            idp.publish(B)
            idp.discovery_answer = Answer(idp.discovery_document(issuer="https://evil.test"))
            await made.refresh()
            assert made.keys.status()["last_error"].startswith("issuer_mismatch:")
            assert made.keys.keys.kids == ("a",)
            assert await made.reason(token) is None


@pytest.mark.rule("R143")
async def test_a_changed_key_address_is_picked_up_by_the_next_refresh_but_by_no_request() -> None:
    async with FakeIdp() as idp, FakeIdp() as moved:
        idp.publish(A)
        moved.publish(B)
        async with rig(issuer_settings(issuer=idp.issuer, **ES)) as made:
            idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=moved.jwks_url))
            assert await made.reason(made.mint(B, iss=idp.issuer)) is Reasons.UNKNOWN_KEY
            assert (idp.discoveries(), moved.key_fetches()) == (1, 0)
            await made.refresh()
            assert await made.reason(made.mint(B, iss=idp.issuer)) is None
            assert (idp.discoveries(), moved.key_fetches()) == (2, 1)


@pytest.mark.rule("R150")
async def test_a_redirected_key_address_keeps_old_keys() -> None:
    """The target is never asked."""
    async with FakeIdp() as elsewhere, rig_with_idp(A, **ES) as (made, idp):
        elsewhere.publish(B)
        idp.keys_answer = Answer(b"", 302, {"Location": elsewhere.jwks_url})
        await made.refresh()
        assert elsewhere.seen == []
        assert (made.keys.failures, await made.reason(made.mint(A))) == (1, None)


@pytest.mark.rule("R162", "R190")
async def test_a_flood_of_unknown_keys_does_not_evict_or_hinder_good_tokens() -> None:
    """All in one moment, while the forced fetch hangs."""
    gate = asyncio.Event()
    async with rig_with_idp(A, **ES) as (made, idp):
        good = made.mint(A)
        await made.ask(good)
        idp.publish(A, gate=gate)
        _, payload, signature = good.split(b".")
        flood = []
        for number in range(500):
            header = json.dumps({"alg": "ES256", "kid": f"k{number}"}).encode()
            token = base64.urlsafe_b64encode(header).rstrip(b"=") + b"." + payload + b"." + signature
            flood.append(asyncio.ensure_future(made.reason(token)))
        await eventually(lambda: idp.key_fetches() == 2)
        assert made.authenticator.cached(good) is not None
        assert await made.reason(made.mint(A, jti="cold")) is None
        gate.set()
        assert set(await asyncio.gather(*flood)) == {Reasons.UNKNOWN_KEY}
        assert idp.key_fetches() == 2


@pytest.mark.rule("R164", "R171")
async def test_a_thousand_tokens_of_one_new_key_share_one_fetch() -> None:
    """All are answered after it."""
    async with rig_with_idp(A, **ES) as (made, idp):
        gate = asyncio.Event()
        idp.publish(A, B, gate=gate)
        token = made.mint(B)
        asks = [asyncio.ensure_future(made.reason(token)) for _ in range(1000)]
        await eventually(lambda: idp.key_fetches() == 2)
        gate.set()
        assert set(await asyncio.gather(*asks)) == {None}
        assert idp.key_fetches() == 2


HOSTILE = [
    b"[" * 200_000,
    b'{"keys":' + b"[" * 100_000,
    b'{"keys":[' + b"9" * 200_000 + b"]}",
    b"\x00" * 1000,
    b'"\\ud800"',
]


@pytest.mark.rule("R167")
async def test_no_answer_of_any_kind_ends_the_refresher() -> None:
    """Deep nesting, endless numbers, garbage; the next cycle runs and its age is shown."""
    async with rig_with_idp(A, **ES) as (made, idp):
        for number, body in enumerate(HOSTILE, 1):
            idp.keys_answer = Answer(body)
            await made.refresh()
            assert made.keys.failures == number
        idp.publish(B)
        await made.refresh()
        assert made.keys.keys.kids == ("b",)
        assert made.keys.status()["age_seconds"] < 1


@pytest.mark.rule("R169")
async def test_a_removed_key_is_refused_within_one_refresh_warm_and_cold() -> None:
    async with rig_with_idp(A, B, **ES) as (made, idp):
        warm, cold = made.mint(A, jti="warm"), made.mint(A, jti="cold")
        assert await made.reason(warm) is None
        idp.publish(B)
        await made.refresh()
        assert [await made.reason(token) for token in (warm, cold)] == [Reasons.UNKNOWN_KEY] * 2


@pytest.mark.rule("R170")
async def test_new_material_under_an_old_name_replaces_it_for_warm_and_cold() -> None:
    renewed = SigningKey.ec("a", variant=1)
    async with rig_with_idp(A, **ES) as (made, idp):
        warm, cold = made.mint(A, jti="warm"), made.mint(A, jti="cold")
        assert await made.reason(warm) is None
        idp.publish(renewed)
        await made.refresh()
        assert [await made.reason(token) for token in (warm, cold)] == [Reasons.BAD_SIGNATURE] * 2
        assert await made.reason(made.mint(renewed)) is None


@pytest.mark.rule("R172")
async def test_one_issuer_that_hangs_does_not_hold_up_another() -> None:
    """Each has its own client, schedule and flight."""

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(hang) as origin, FakeIdp() as idp:
        idp.publish(A)
        issuers = [
            issuer_settings(name="hangs", issuer="https://hangs.test", jwks_url=origin + "/jwks", **ES),
            issuer_settings(name="works", jwks_url=idp.jwks_url, **ES),
        ]
        async with rig(*issuers, wait=False) as made:
            waiting = asyncio.ensure_future(made.reason(made.mint(B, iss="https://hangs.test")))
            await eventually(lambda: made.issuers["works"].loaded)
            idp.publish(A, B)
            assert await made.reason(made.mint(A)) is None
            assert await made.reason(made.mint(B)) is None
            assert not waiting.done()
            waiting.cancel()


@pytest.mark.rule("R173")
async def test_swapping_under_load_refuses_no_good_token() -> None:
    """No request sees a half-loaded set."""
    async with rig_with_idp(A, **ES) as (made, idp):
        done = False
        reasons: set[Reason | None] = set()

        async def ask_for_ever(number: int) -> None:
            while not done:
                reasons.add(await made.reason(mint(A, good_claims(made.clock.wall(), jti=str(number)))))
                await asyncio.sleep(0)

        asking = [asyncio.ensure_future(ask_for_ever(number)) for number in range(5)]
        for extra in range(6):
            idp.publish(*(SigningKey.ec(f"x{number}") for number in range(extra)), A)
            await made.refresh()
        done = True
        await asyncio.gather(*asking)
        assert reasons == {None}
        assert made.keys.fetches == 7


@pytest.mark.rule("R174")
async def test_gateways_that_start_together_drift_apart() -> None:
    """Each draws its own moment within 80 to 90 % of the lifetime; the first fetch is at once, for readiness."""
    async with FakeIdp() as idp:
        idp.publish(A)
        moments = set()
        for _ in range(8):
            async with rig(issuer_settings(jwks_url=idp.jwks_url, **ES), jitter=None) as made:
                moments.add(made.keys.status()["next_refresh_seconds"])
        assert len(moments) > 4  # shown in milliseconds, of which two may be the same by chance
        assert all(240 <= moment <= 270 for moment in moments)
