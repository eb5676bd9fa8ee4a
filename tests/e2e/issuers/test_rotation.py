"""Keys that change under a running gateway: rotation, withdrawal, new material.

Real HTTP on both sides; time is a test's own. The schedule itself is tested in
``tests/jwt/issuers``; here counts what clients and operators see of it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.gateways.discovering import OTHER_A, A, B, scene
from tests.support.gateways.running import request, until
from tests.support.tokens.minting import SigningKey


@pytest.mark.rule("C27", "R030", "R171")
async def test_new_key_is_accepted_at_its_first_token(tmp_path: Path) -> None:
    """One more fetch, inside the request; old tokens go on."""
    async with scene(tmp_path, A) as it:
        old = it.token(A)
        assert await it.status(old) == 200
        it.idp.publish(A, B)
        assert await it.status(it.token(B)) == 200
        assert it.idp.key_fetches() == 2
        assert await it.status(old) == 200
        assert await it.status(it.token(B, jti="2")) == 200
        assert it.idp.key_fetches() == 2
        status = (await it.gateway.admin("/status")).json["issuers"]["main"]
    assert (status["key_ids"], status["unknown_keys"], status["last_error"]) == (["a", "b"], 1, "")


@pytest.mark.rule("R164", "R165", "C27")
async def test_tokens_of_one_new_key_that_come_together_cause_one_fetch(tmp_path: Path) -> None:
    """Fifty requests at once, the first client leaves; all others are served after that one fetch."""
    async with scene(tmp_path, A) as it:
        gate = asyncio.Event()
        it.idp.publish(A, B, gate=gate)
        clients = [await it.gateway.client() for _ in range(50)]
        for number, client in enumerate(clients):
            await client.send(request(b"GET", "/", token=it.token(B, jti=str(number))))
        await until(lambda: it.idp.key_fetches() == 2)
        await clients[0].close()
        await until(lambda: "client_gone" in it.gateway.out.getvalue())
        gate.set()
        answers = [await client.response() for client in clients[1:]]
        assert it.idp.key_fetches() == 2
    assert {answer.status for answer in answers} == {200}


@pytest.mark.rule("R162", "R163", "R033", "C30")
async def test_unknown_keys_that_nobody_publishes_do_not_flood_the_provider(tmp_path: Path) -> None:
    """One fetch per cooldown, none for implausible tokens; good tokens are not touched."""
    async with scene(tmp_path, A, jwks_cooldown_seconds=10) as it:
        good = it.token(A)
        forged = SigningKey.ed25519("zz")
        for number in range(30):
            token = it.gateway.token_of(A, {"kid": f"../../{number}"}, iss=it.idp.issuer)
            assert await it.status(token) == 401
            assert await it.status(it.gateway.token_of(A, {"kid": "q"}, iss="https://elsewhere.test/")) == 401
            assert await it.status(it.gateway.token_of(forged, iss=it.idp.issuer)) == 401
            assert await it.status(good) == 200
        assert it.idp.key_fetches() == 2
        await it.gateway.clock.advance(10)
        assert await it.status(it.gateway.token_of(A, {"kid": "other"}, iss=it.idp.issuer)) == 401
        assert it.idp.key_fetches() == 3


@pytest.mark.rule("C78", "R169", "R185")
async def test_withdrawn_key_ends_its_tokens_at_the_next_refresh(tmp_path: Path) -> None:
    """Cached ones too; the new key's go on, also from the cache."""
    async with scene(tmp_path, A, B) as it:
        old, new = it.token(A), it.token(B)
        for token in (old, new, old, new):
            assert await it.status(token) == 200
        it.idp.publish(B)
        await it.refresh()
        assert await it.status(old) == 401
        assert await it.status(it.token(A, jti="never seen")) == 401
        hits = it.gateway.app.authenticator.cache.hits
        assert await it.status(new) == 200
        assert it.gateway.app.authenticator.cache.hits == hits + 1
    assert len(it.upstream.requests) == 5


@pytest.mark.rule("C78", "R170")
async def test_new_material_under_the_same_name_replaces_the_old(tmp_path: Path) -> None:
    """The old key's tokens end, cached or not; the new key's are accepted."""
    async with scene(tmp_path, A) as it:
        old = it.token(A)
        assert await it.status(old) == 200
        assert await it.status(it.token(OTHER_A)) == 401
        it.idp.publish(OTHER_A)
        await it.refresh()
        assert await it.status(old) == 401
        assert await it.status(it.token(A, jti="never seen")) == 401
        assert await it.status(it.token(OTHER_A)) == 200


@pytest.mark.rule("C77", "R189")
async def test_temporary_failure_is_not_remembered(tmp_path: Path) -> None:
    """503 while the provider is down, 401 while the key is not published; 200 for the same tokens then."""
    async with scene(tmp_path, A, jwks_cooldown_seconds=5) as it:
        token = it.token(B)
        assert await it.status(token) == 401
        it.idp.publish(A, B)
        assert await it.status(token) == 401
        await it.gateway.clock.advance(5)
        assert await it.status(token) == 200
