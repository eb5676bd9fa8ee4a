"""The watch for abuse through a whole gateway: what is found, what is refused, and that no other caller notices."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.discovering import A
from tests.support.gateways.running import configuration, request
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.parts import abuse_watch
from tests.support.tokens.api_keys import KEY, entry
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/public", "auth": "public"},
    {"path": "/optional", "auth": "optional"},
    {"path": "/observed", "observe": True},
    {"path": "/keys", "credentials": ["api_key", "jwt"]},
)


@contextlib.asynccontextmanager
async def watched(folder: Path, *, log: str = "json", **watch: Any) -> AsyncIterator[tuple[TimedGateway, RawUpstream]]:
    """Run a gateway behind a trusted proxy, so that clients have the address that they are given."""
    file = folder / "jwks.json"
    file.write_bytes(jwks(A))
    server = {"trusted_proxies": ["127.0.0.0/8"], "access_log": log}
    async with raw_upstream() as upstream:
        made = configuration(upstream.url, file, routes=ROUTES, server=server, watch=watch, api_keys=[entry()])
        async with timed_gateway(Settings.model_validate(made), A, FakeClock()) as gateway:
            yield gateway, upstream


def at(address: str) -> tuple[bytes, bytes]:
    return b"X-Forwarded-For", address.encode()


ONE, OTHER = at("192.0.2.1"), at("192.0.2.2")


async def test_flags_are_on_by_default_and_refuse_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(tmp_path) as (gateway, _):
        client = await gateway.client()
        for number in range(150):
            bad = gateway.token(jti=str(number))[:-8] + b"AAAAAAAA"
            assert (await client.exchange(request(b"GET", "/", ONE, token=bad))).status == 401
        for number in range(30):
            unknown = gateway.token_of(A, {"kid": f"k{number}"})
            assert (await client.exchange(request(b"GET", "/", OTHER, token=unknown))).status == 401
        assert (await gateway.get("/", ONE, token=gateway.token())).status == 200
        page = (await gateway.admin("/metrics")).body.decode()
        assert (await gateway.admin("/status")).json["watch"]["flags"]["unknown_kids"] == 1
    assert '\ngateway_abuse_flags_total{kind="bad_signatures"} 1.0\n' in page
    assert '\ngateway_abuse_flags_total{kind="unknown_kids"} 1.0\n' in page
    assert '\ngateway_abuse_refused{what="addresses"} 0.0\n' in page
    lines = [line for line in caplog.messages if line.startswith("abuse: ")]
    assert [line.partition(" most=")[0] for line in lines] == ["abuse: kind=bad_signatures", "abuse: kind=unknown_kids"]
    assert [line.rpartition("client=")[2] for line in lines] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("log", ["json", "off"])
@pytest.mark.rule("R332")
async def test_an_address_is_refused_before_its_credential_is_looked_at(log: str, tmp_path: Path) -> None:
    """Also on a kept connection whose requests the gateway knows by heart, and with a good token."""
    async with watched(tmp_path, log=log, bad_signatures=5, refuse_seconds=30) as (gateway, upstream):
        good, bad = gateway.token(), gateway.token()[:-8] + b"AAAAAAAA"
        one, other = await gateway.client(), await gateway.client()

        async def status(client: Any, token: bytes, address: tuple[bytes, bytes] = ONE, target: str = "/") -> int:
            return int((await client.exchange(request(b"GET", target, address, token=token))).status)

        for _ in range(3):
            assert await status(one, good) == 200
            assert await status(other, good, OTHER) == 200
        assert [await status(one, bad) for _ in range(6)] == [401] * 6
        before = len(upstream.requests)
        cache = gateway.app.authenticator.cache
        looked_up = cache.hits + cache.misses
        for token in (good, bad, b"", good):
            refused = await one.exchange(request(b"GET", "/", ONE, token=token))
            assert (refused.status, refused.one(b"retry-after")) == (429, b"30")
            assert refused.json["error"] == "rate_limited"
            assert refused.all(b"www-authenticate") == []
        assert cache.hits + cache.misses == looked_up
        assert await status(one, good, ONE, "/keys") == 429
        assert (await gateway.get("/optional", ONE)).status == 429
        assert len(upstream.requests) == before
        # No other caller notices, nor do routes that look at no credential; an observed one notes it.
        assert await status(other, good, OTHER) == 200
        assert await status(one, good, ONE, "/public") == 200
        assert await status(one, good, ONE, "/observed") == 200
        await gateway.settled()
        assert gateway.app.telemetry.observed == {("/observed", "watched_address"): 1}
        assert gateway.app.telemetry.refusals["watched_address"] == 6
        gateway.clock.jump(30)
        for _ in range(3):
            assert await status(one, good) == 200
        assert not abuse_watch(gateway.app).barring
        assert await status(one, bad) == 401


async def test_guessed_api_keys_are_found(tmp_path: Path) -> None:
    async with watched(tmp_path, unknown_api_keys=3, refuse_seconds=30) as (gateway, _):

        async def status(key: bytes, address: tuple[bytes, bytes]) -> int:
            return (await gateway.get("/keys", address, (b"X-Api-Key", key))).status

        assert [await status(b"guess%d" % number, ONE) for number in range(5)] == [401] * 4 + [429]
        assert [await status(KEY, address) for address in (ONE, OTHER)] == [429, 200]


async def test_what_an_observed_route_lets_pass_is_found_too(tmp_path: Path) -> None:
    async with watched(tmp_path, bad_signatures=3) as (gateway, _):
        bad = gateway.token()[:-8] + b"AAAAAAAA"
        assert [(await gateway.get("/observed", ONE, token=bad)).status for _ in range(5)] == [200] * 5
        assert abuse_watch(gateway.app).flags["bad_signatures"] == 1


async def test_a_sweep_of_unknown_kids_is_found_and_one_old_key_is_not(tmp_path: Path) -> None:
    old = SigningKey.rsa("old")
    async with watched(tmp_path, unknown_kids=5, refuse_seconds=30) as (gateway, _):
        for number in range(20):
            token = gateway.token_of(old, jti=str(number))
            assert (await gateway.get("/", OTHER, token=token)).status == 401
        for number in range(6):
            token = gateway.token_of(A, {"kid": f"guess-{number}"})
            assert (await gateway.get("/", ONE, token=token)).status == 401
        assert (await gateway.get("/", ONE, token=gateway.token())).status == 429
        assert (await gateway.get("/", OTHER, token=gateway.token())).status == 200


async def test_a_stolen_token_is_found_by_the_places_that_it_is_used_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path, token_addresses=2, refuse_seconds=30) as (gateway, upstream):
        token = gateway.token(jti="the-id-of-it")
        client = await gateway.client()

        async def status(address: str) -> int:
            return (await client.exchange(request(b"GET", "/", at(address), token=token))).status

        assert [await status(f"192.0.2.{number}") for number in (1, 2, 1, 2, 1)] == [200] * 5
        refused = await client.exchange(request(b"GET", "/", at("192.0.2.3"), token=token))
        assert (refused.status, refused.one(b"retry-after"), refused.json["error"]) == (429, b"30", "rate_limited")
        assert [await status(f"192.0.2.{number}") for number in (1, 2)] == [429, 429]
        assert (await gateway.get("/", at("192.0.2.1"), token=gateway.token(jti="other"))).status == 200
        assert len(upstream.requests) == 6
        gateway.clock.jump(30)
        assert await status("192.0.2.1") == 200
        log = await gateway.log(10)
    assert {line.get("reason") for line in log} == {None, "watched_token"}
    (line,) = [line for line in caplog.messages if line.startswith("abuse: ")]
    assert "kind=token_addresses" in line
    assert f"subject_hash={log[0]['subject_hash']}" in line
    assert "the-id-of-it" not in line
    assert token.decode() not in line


async def test_a_subject_at_too_many_places_is_found_whatever_its_tokens(tmp_path: Path) -> None:
    async with watched(tmp_path, subject_addresses=2) as (gateway, _):
        for number in range(4):
            token = gateway.token(jti=str(number))
            assert (await gateway.get("/", at(f"192.0.2.{number}"), token=token)).status == 200
            assert (await gateway.get("/public", at(f"192.0.2.{number}"), token=token)).status == 200
        assert abuse_watch(gateway.app).flags == {
            **dict.fromkeys(("bad_signatures", "unknown_kids", "unknown_api_keys", "token_addresses"), 0),
            "subject_addresses": 1,
        }
