"""Identity providers that are down, slow, hostile or hard to reach, and what clients and operators see of it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.discovering import OTHER_A, A, Scene, scene
from tests.support.gateways.running import configuration, request, until
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.issuers.identity_provider import Answer, FakeIdp
from tests.support.upstreams.recording import raw_upstream


def _down(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(b"", 500)


def _html(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(b"<html>maintenance</html>", 200, {"Content-Type": "text/html"})


def _cut(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(idp.keys_answer.body[:-20], 200)


def _empty(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(b'{"keys": []}', 200)


def _redirect(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(b"", 302, {"Location": idp.issuer})


def _wrong_issuer(idp: FakeIdp) -> None:
    idp.discovery_answer = Answer(idp.discovery_document(issuer=idp.issuer.rstrip("/")))


def _inside(idp: FakeIdp) -> None:
    idp.discovery_answer = Answer(idp.discovery_document(jwks_uri="file:///etc/passwd"))


def _no_object(idp: FakeIdp) -> None:
    idp.discovery_answer = Answer(b"[]")


LIES: list[Callable[[FakeIdp], None]] = [_down, _html, _cut, _empty, _redirect, _wrong_issuer, _inside, _no_object]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.rule("C30", "R113", "R140", "R150", "R153", "R154", "R155", "R166")
async def test_outage_keeps_good_keys_until_they_are_too_old(lie: Callable[[FakeIdp], None], tmp_path: Path) -> None:
    """200 while stale, then 503 with Retry-After; well again at once."""
    async with scene(tmp_path, A, jwks_max_stale_seconds=3600) as it:
        token = it.token(A, exp=int(it.gateway.clock.wall()) + 80_000)
        assert await it.status(token) == 200
        lie(it.idp)
        await it.refresh()
        assert (await it.gateway.admin("/status")).json["issuers"]["main"]["last_error"]
        assert await it.status(token) == 200
        assert await it.status(it.gateway.token_of(A, {"kid": "unknown"}, iss=it.idp.issuer)) == 401
        assert await it.status(token) == 200
        assert (await it.gateway.admin("/readyz")).status == 200
        while it.gateway.clock.monotonic() < it.keys.stale_at:
            await it.refresh()
        await _assert_cannot_decide(it, token, "stale_keys")
        it.idp.discovery_answer = None
        it.idp.publish(A)
        await it.refresh()
        assert await it.status(token) == 200
        assert (await it.gateway.admin("/readyz")).status == 200


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.rule("R113", "R140", "R142", "R150", "R153", "R154", "R155", "C32")
async def test_provider_that_lies_from_the_start_is_an_outage_and_never_401(
    lie: Callable[[FakeIdp], None], tmp_path: Path
) -> None:
    """503, Retry-After, red readiness; public routes serve; then 200."""
    async with FakeIdp("/") as idp:
        idp.publish(A)
        lie(idp)
        async with scene(tmp_path, idp=idp) as it:
            token = it.token(A)
            await _assert_cannot_decide(it, token, "no_keys")
            assert (await it.gateway.get("/public")).status == 200
            assert (await it.gateway.admin("/healthz")).status == 200
            idp.discovery_answer = None
            idp.publish(A)
            await it.refresh()
            assert await it.status(token) == 200
            assert (await it.gateway.admin("/readyz")).json["ready"] is True


async def _assert_cannot_decide(it: Scene, token: bytes, reason: str) -> None:
    forwarded = len(it.upstream.requests)
    for candidate in (token, it.token(A, jti="never seen"), it.token(OTHER_A)):
        answer = await it.gateway.get("/", token=candidate)
        assert (answer.status, answer.json["error"]) == (503, "unavailable")
        assert int(answer.one(b"retry-after") or b"0") >= 1
        assert answer.all(b"www-authenticate") == []
    assert len(it.upstream.requests) == forwarded
    ready = await it.gateway.admin("/readyz")
    assert (ready.status, ready.json["issuers"]["main"]) == (
        503 if reason == "no_keys" else 200,  # R442: a provider that goes away takes no gateway out of a load balancer
        {"ready": False, "reason": reason},
    )


@pytest.mark.rule("C32", "R172")
async def test_unreachable_provider_at_the_start_is_asked_again_soon(tmp_path: Path) -> None:
    """Refused connections at boot; served within one step of the back-off after it is up."""
    idp = FakeIdp("/")
    await idp.start()
    await idp.stop()
    idp.publish(A)
    async with scene(tmp_path, idp=idp) as it:
        for _ in range(3):
            await it.refresh()
        await _assert_cannot_decide(it, it.token(A), "no_keys")
        await eventually(lambda: it.gateway.clock.naps)
        assert it.gateway.clock.naps[0] <= 8
        await idp.start()
        await it.refresh()
        assert await it.status(it.token(A)) == 200
        await idp.stop()


@pytest.mark.rule("C29", "R164", "R165", "R174")
async def test_cold_start_under_load_fetches_once_and_serves_everybody(tmp_path: Path) -> None:
    """200 requests before the keys are there; the first client leaves meanwhile."""
    async with FakeIdp("/") as idp:
        gate = asyncio.Event()
        idp.publish(A, gate=gate)
        async with scene(tmp_path, idp=idp, wait=False) as it:
            clients = [await it.gateway.client() for _ in range(201)]
            for number, client in enumerate(clients):
                await client.send(request(b"GET", "/", token=it.token(A, jti=str(number))))
            await until(lambda: idp.key_fetches() == 1)
            await clients[0].close()
            gate.set()
            answers = [await client.response() for client in clients[1:]]
            assert (idp.discoveries(), idp.key_fetches()) == (1, 1)
    assert [answer.status for answer in answers] == [200] * 200


@pytest.mark.parametrize("missing", ["jwks_ca_file", "jwks_token_file", "jwks_url", ""])
@pytest.mark.rule("C100", "R157")
async def test_kubernetes_like_provider(missing: str, tmp_path: Path) -> None:
    """Own authority, bearer token from a file, keys past discovery; without one of them 503."""
    made = authority(tmp_path / "ca")
    signed = made.sign("api", "127.0.0.1")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(signed.cert, signed.key)
    file = tmp_path / "token"
    file.write_text("first-token\n")
    idp = _Cluster("first-token", tls)
    async with idp, raw_upstream() as upstream:
        idp.publish(A)
        issuer = {
            "issuer": "https://kubernetes.default.svc",
            "jwks_file": "",
            "jwks_url": idp.jwks_url,
            "jwks_ca_file": str(made.bundle),
            "jwks_token_file": str(file),
            "jwks_timeout_seconds": 2,
        }
        if missing == "jwks_url":  # discovery leads to a name that is not the node's
            idp.discovery_answer = Answer(
                json.dumps({"issuer": idp.issuer, "jwks_uri": "https://10.0.0.1:6443/x"}).encode()
            )
            issuer["issuer"] = idp.issuer
        if missing:
            del issuer[missing]
        settings = Settings.model_validate(configuration(upstream.url, tmp_path / "unused", issuer=issuer))
        async with timed_gateway(settings, A, FakeClock()) as gateway:
            subject = "system:serviceaccount:shop:orders"
            answer = await gateway.get("/", token=gateway.token(iss=issuer["issuer"], sub=subject))
            if missing:
                assert answer.status == 503
                return
            assert answer.status == 200
            assert upstream.requests[0].one(b"x-user-id") == subject.encode()
            file.write_text("second-token\n")
            idp.expected = "second-token"
            await _assert_token_file_is_read_again(gateway, idp)


async def _assert_token_file_is_read_again(gateway: TimedGateway, idp: _Cluster) -> None:
    keys = gateway.app.issuers["main"]
    await eventually(lambda: gateway.clock.naps)
    await gateway.clock.advance(gateway.clock.naps[0] + 0.001)
    await eventually(lambda: keys.fetches == 2)
    assert keys.failures == 0
    assert [seen.headers["Authorization"] for seen in idp.seen] == ["Bearer first-token", "Bearer second-token"]


class _Cluster(FakeIdp):
    """A provider that shows its keys only to bearers of a token."""

    def __init__(self, expected: str, tls: ssl.SSLContext) -> None:
        super().__init__(tls=tls)
        self.expected = expected

    async def _handle(self, request: Any) -> Any:
        answer = await super()._handle(request)
        if request.headers.get("Authorization") != f"Bearer {self.expected}":
            answer = type(answer)(status=403)
        return answer
