"""Tokens that are bound to a client certificate, over TLS and behind a proxy that ends it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.certificates import Authority, Certificate, authority
from tests.support.clients.proving import CLIENT, bound_token, proved
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.parts import proofs
from tests.support.tokens.minting import b64
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/certificate", "sender_constrained": "mtls"},
    {"path": "/forward", "forward_authorization": True},
    {"path": "/public", "auth": "public"},
)


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.cert.read_text())


def bound_to_certificate(certificate: Certificate) -> dict[str, str]:
    return {"x5t#S256": b64(hashlib.sha256(der(certificate)).digest()).decode()}


class Secure:
    """A gateway that asks for certificates, and clients with and without one."""

    def __init__(self, gateway: RunningGateway, upstream: RawUpstream, ca: Authority) -> None:
        self.gateway, self.upstream, self.ca = gateway, upstream, ca
        self.alice, self.bob = ca.sign("alice", "alice.test"), ca.sign("bob", "bob.test")

    def show(self, certificate: Certificate | None) -> None:
        """Let further clients show a certificate."""
        context = ssl.create_default_context(cafile=str(self.ca.bundle))
        if certificate is not None:
            context.load_cert_chain(certificate.cert, certificate.key)
        self.gateway.tls = context


@contextlib.asynccontextmanager
async def secure(directory: Path, **server: Any) -> AsyncIterator[Secure]:
    ca = authority(directory / "tls")
    own = ca.sign("server", "localhost")
    files = {"tls_cert": str(own.cert), "tls_key": str(own.key), "tls_client_ca": str(ca.bundle)}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, directory, routes=ROUTES, server={**files, **server}) as gateway,
    ):
        yield Secure(gateway, upstream, ca)


@pytest.mark.rule("R139")
async def test_a_token_passes_only_beside_its_certificate(tmp_path: Path) -> None:
    """RFC 8705 section 3, on the first request and on later ones of a kept connection."""
    async with secure(tmp_path, tls_client_auth="optional") as scene:
        gateway = scene.gateway
        token = gateway.token(cnf=bound_to_certificate(scene.alice))
        for shown, status in ((scene.alice, 200), (scene.bob, 401), (None, 401)):
            scene.show(shown)
            client = await gateway.client()
            for _ in range(3):
                answer = await client.exchange(request(b"GET", "/", token=token))
                assert answer.status == status
                if status == 401:
                    challenge = answer.one(b"www-authenticate") or b""
                    assert challenge.startswith(b'Bearer realm="gateway", error="invalid_token"')
        assert len(scene.upstream.requests) == 3
        assert proofs(gateway.app).outcomes == {("mtls", "accepted"): 3, ("mtls", "wrong_certificate"): 6}


@pytest.mark.rule("R139")
async def test_who_need_show_none_passes_with_a_bearer_token(tmp_path: Path) -> None:
    """Optional certificates; a route may still want tokens that are bound to one."""
    async with secure(tmp_path, tls_client_auth="optional") as scene:
        scene.show(None)
        token = scene.gateway.token()
        assert (await scene.gateway.get("/", token=token)).status == 200
        assert (await scene.gateway.get("/certificate", token=token)).status == 401
        scene.show(scene.alice)
        assert (await scene.gateway.get("/certificate", token=token)).status == 401
        bound = scene.gateway.token(cnf=bound_to_certificate(scene.alice))
        assert (await scene.gateway.get("/certificate", token=bound)).status == 200


@pytest.mark.rule("R139")
async def test_a_certificate_of_a_foreign_authority_ends_the_handshake_all_the_same(tmp_path: Path) -> None:
    """Optional is whether one is shown, not whose."""
    foreign = authority(tmp_path / "foreign", "another authority").sign("mallory", "mallory.test")
    async with secure(tmp_path, tls_client_auth="optional") as scene:
        scene.show(foreign)
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await scene.gateway.get("/public")


@pytest.mark.rule("R139")
async def test_a_self_signed_certificate_passes_where_it_is_an_authority_itself(tmp_path: Path) -> None:
    """RFC 8705 section 2.2: the bundle names the certificates of the clients."""
    ca = authority(tmp_path / "tls")
    alone = ca.self_signed("alone", "alone.test")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(ca.bundle.read_bytes() + alone.cert.read_bytes())
    own = ca.sign("server", "localhost")
    files = {"tls_cert": str(own.cert), "tls_key": str(own.key), "tls_client_ca": str(bundle)}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=files) as gateway,
    ):
        gateway.tls = ssl.create_default_context(cafile=str(ca.bundle))
        gateway.tls.load_cert_chain(alone.cert, alone.key)
        token = gateway.token(cnf=bound_to_certificate(alone))
        assert (await gateway.get("/", token=token)).status == 200


@pytest.mark.rule("R096", "R139")
async def test_a_token_that_is_bound_to_both_needs_both(tmp_path: Path) -> None:
    """Neither proof stands for the other."""
    async with secure(tmp_path, tls_client_auth="optional") as scene:
        gateway = scene.gateway
        cnf = {**bound_to_certificate(scene.alice), "jkt": CLIENT.jwk_thumbprint}
        token = bound_token(gateway, cnf=cnf)
        for shown, status in ((scene.alice, 200), (scene.bob, 401), (None, 401)):
            scene.show(shown)
            assert (await gateway.exchange(proved(token, base="https://gateway.test"))).status == status
        scene.show(scene.alice)
        assert (await gateway.get("/", token=token)).status == 401


@pytest.mark.rule("R139")
async def test_a_forged_certificate_field_counts_for_nothing_and_goes_nowhere(tmp_path: Path) -> None:
    """From the Internet, in every spelling, with and without the option that names it."""
    names = (b"Client-Cert", b"X-Forwarded-Client-Cert", b"X-SSL-Client-Cert", b"X-Amzn-Mtls-Clientcert")
    certificate = authority(tmp_path / "tls").sign("alice", "alice.test")
    value = b":" + base64.b64encode(der(certificate)) + b":"
    for name in ("", "client-cert", "x-amzn-mtls-clientcert"):
        server = {"client_certificate_header": name, "trusted_proxies": ["192.0.2.1"]}
        async with (
            raw_upstream() as upstream,
            running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server if name else {}) as gateway,
        ):
            token = gateway.token(cnf=bound_to_certificate(certificate))
            for field in names:
                assert (await gateway.get("/", (field, value), token=token)).status == 401
            spelled = [(field.replace(b"-", b"_"), value) for field in names]
            fields = [(field, value) for field in names]
            for path in ("/public", "/forward"):
                assert (await gateway.get(path, *fields, *spelled, token=gateway.token())).status == 200
            for received in upstream.requests:
                kept = {key.lower().replace(b"_", b"-") for key, _ in received.headers}
                assert kept & {field.lower() for field in names} <= ({names[3].lower()} if name[:1] != "x" else set())


@pytest.mark.rule("R139")
async def test_a_trusted_proxys_word_counts_in_its_field(tmp_path: Path) -> None:
    """RFC 9440; exactly one certificate, in exactly one field, and it is not sent on."""
    ca = authority(tmp_path / "tls")
    alice, bob = ca.sign("alice", "alice.test"), ca.sign("bob", "bob.test")
    server = {"client_certificate_header": "x-client-tls", "trusted_proxies": ["127.0.0.1"]}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server) as gateway,
    ):
        token = gateway.token(cnf=bound_to_certificate(alice))
        client = await gateway.client()

        async def status(*values: bytes, name: bytes = b"X-Client-TLS") -> int:
            fields = [(name, value) for value in values]
            return (await client.exchange(request(b"GET", "/", *fields, token=token))).status

        good = b":" + base64.b64encode(der(alice)) + b":"
        other = b":" + base64.b64encode(der(bob)) + b":"
        escaped = quote(alice.cert.read_text(), safe="").encode()
        envoy = b"By=x;Hash=" + hashlib.sha256(der(alice)).hexdigest().encode() + b';Subject="CN=alice"'
        assert [await status(value) for value in (good, escaped, envoy, good)] == [200] * 4
        assert [await status(value) for value in (other, b"", b":AAAA:", good + b", " + other)] == [401] * 4
        assert await status() == await status(good, good) == await status(good, other) == 401
        assert await status(good, name=b"Client-Cert") == await status(good, name=b"X_Client_TLS") == 401
        assert {key.lower() for received in upstream.requests for key, _ in received.headers}.isdisjoint(
            {b"x-client-tls", b"x_client_tls", b"client-cert"}
        )


@pytest.mark.rule("R139")
async def test_the_proxys_own_certificate_is_not_the_clients(tmp_path: Path) -> None:
    """Where a trusted proxy speaks for its clients, its connection says nothing about them."""
    server = {"client_certificate_header": "client-cert", "trusted_proxies": ["127.0.0.1"]}
    async with secure(tmp_path, **server) as scene:
        scene.show(scene.alice)
        token = scene.gateway.token(cnf=bound_to_certificate(scene.alice))
        assert (await scene.gateway.get("/", token=token)).status == 401
        field = (b"Client-Cert", b":" + base64.b64encode(der(scene.alice)) + b":")
        assert (await scene.gateway.get("/", field, token=token)).status == 200
