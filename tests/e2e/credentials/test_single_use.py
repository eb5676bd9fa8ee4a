"""Routes that accept each token for one request."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.proving import bound_token, proved
from tests.support.composed import Settings
from tests.support.gateways.fleet import remembering_server
from tests.support.gateways.running import configuration, request, running, running_gateway
from tests.support.pace import paced
from tests.support.tokens.minting import ABSENT, SigningKey, jwks
from tests.support.upstreams.recording import Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/once", "single_use": True},
    {"path": "/scoped", "single_use": True, "scopes": ["admin"]},
    {"path": "/observed", "single_use": True, "observe": True},
)


@pytest.mark.rule("R137")
async def test_a_token_passes_once_on_such_routes(tmp_path: Path) -> None:
    """Also on a kept connection, with the token known; other routes do not spend it."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token, other = gateway.token(jti="one"), gateway.token(jti="two")
        client = await gateway.client()
        assert [(await client.exchange(request(b"GET", "/", token=token))).status for _ in range(2)] == [200, 200]
        answers = [await client.exchange(request(b"GET", "/once", token=token)) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 401, 401]
        assert answers[1].json["error"] == "invalid_token"
        assert (await client.exchange(request(b"GET", "/once/again", token=token))).status == 401
        assert (await client.exchange(request(b"GET", "/", token=token))).status == 200
        assert (await client.exchange(request(b"GET", "/once", token=other))).status == 200
        log = await gateway.log(8)
    assert [line.get("reason", "") for line in log if line["status"] == 401] == ["replayed_token"] * 3
    assert len(upstream.requests) == 5


@pytest.mark.rule("R133", "R137")
async def test_the_error_is_about_the_scheme_that_was_used(tmp_path: Path) -> None:
    """Both the proof and the token must be unused."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token = bound_token(gateway, jti="one")
        assert (await gateway.exchange(proved(token, "/once"))).status == 200
        again = await gateway.exchange(proved(token, "/once"))
        assert (again.status, again.all(b"www-authenticate")[0][:5]) == (401, b"DPoP ")
        assert (await gateway.log(2))[1]["reason"] == "replayed_token"


@pytest.mark.rule("R137")
async def test_another_token_with_the_same_id_is_the_same_token(tmp_path: Path) -> None:
    """An ECDSA twin, and a token that was renewed under its old id."""
    key = SigningKey.ec("a")
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, key=key, routes=ROUTES, issuer={"algorithms": ["ES256"]}) as gateway,
    ):
        assert [(await gateway.get("/once", token=gateway.token(jti="x"))).status for _ in range(2)] == [200, 401]


@pytest.mark.rule("R137")
async def test_a_token_that_cannot_be_told_from_others_is_refused(tmp_path: Path) -> None:
    """No id, or no end of the time for which it must be remembered."""
    issuer = {"required_claims": ["sub"]}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, issuer=issuer) as gateway,
    ):
        for token in (gateway.token(), gateway.token(jti=7), gateway.token(jti="x", exp=ABSENT)):
            assert (await gateway.get("/once", token=token)).status == 401
        assert {line["reason"] for line in await gateway.log(3)} == {"no_token_id"}
        assert upstream.connections == 0


@pytest.mark.rule("R311")
async def test_a_refused_request_spends_nothing_and_a_failed_one_does(tmp_path: Path) -> None:
    """What may have had an effect is not repeated with the same token."""

    async def break_off(received: Received, *_: Any) -> bytes | None:
        return None if received.target == b"/once" else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async with raw_upstream(break_off) as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token = gateway.token(jti="x")
        assert (await gateway.get("/scoped", token=token)).status == 403
        assert (await gateway.exchange(request(b"POST", "/once", token=token))).status == 502
        assert (await gateway.exchange(request(b"POST", "/once", token=token))).status == 401
        assert len(upstream.requests) == 1


async def test_an_observed_route_notes_a_second_use(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token = gateway.token(jti="x")
        assert [(await gateway.get("/observed", token=token)).status for _ in range(2)] == [200, 200]
        assert (await gateway.get("/observed")).status == 200
        observed = [line.get("observed", "") for line in await gateway.log(3)]
    assert observed == ["", "replayed_token", "no_credential"]


@pytest.mark.rule("R137")
async def test_a_full_memory_admits_no_token(tmp_path: Path) -> None:
    """Proofs have room of their own."""
    options: dict[str, Any] = {"routes": ROUTES, "tokens": {"replay_size": 1}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        statuses = [(await gateway.get("/once", token=gateway.token(jti=name))).status for name in "ab"]
        assert statuses == [200, 503]
        bound = bound_token(gateway)
        assert (await gateway.exchange(proved(bound))).status == 200


@pytest.mark.rule("R130", "R137")
async def test_two_gateways_share_what_was_used_in_redis(tmp_path: Path) -> None:
    """Tokens and proofs; while Redis is away neither is admitted, and no request waits long."""
    key, file = SigningKey.rsa("a"), tmp_path / "jwks.json"
    file.write_bytes(jwks(key))
    async with raw_upstream() as upstream, remembering_server(tmp_path / "redis") as redis:
        options = configuration(upstream.url, file, routes=ROUTES, redis={"url": redis.url, "timeout_seconds": 0.3})
        settings = Settings.model_validate(options)
        async with running(settings, key) as one, running(settings, key) as two:
            token = one.token(jti="x")
            assert (await one.get("/once", token=token)).status == 200
            assert (await two.get("/once", token=token)).status == 401
            raced = one.token(jti="raced")
            both = await asyncio.gather(
                *(gateway.get("/once", token=raced) for gateway in (one, two) for _ in range(5))
            )
            assert sorted(answer.status for answer in both) == [200] + [401] * 9
            bound = bound_token(one)
            same = proved(bound)
            assert (await one.exchange(same)).status == 200
            assert (await two.exchange(same)).status == 401
            redis.pause()
            for data in (request(b"GET", "/once", token=one.token(jti="y")), proved(bound)):
                began = time.monotonic()
                answer = await one.exchange(data)
                assert (answer.status, answer.one(b"retry-after")) == (503, b"1")
                assert time.monotonic() - began < paced(1)
            assert (await one.get("/", token=one.token())).status == 200
            redis.resume()
        assert all(b"raced" not in name and b"proof-" not in name for name in redis.run("KEYS", "*"))
