"""oidc-provider binds tokens to a key or a certificate; the gateway asks for proofs, and nginx behind it sees none."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app import GatewayApp
from tests.peers.nginx import Nginx, seen
from tests.peers.oidc_provider import CLIENT_ID, OidcProvider, require_oidc_provider, signing_key
from tests.support.certificates import Authority, Certificate, authority
from tests.support.composed import Settings
from tests.support.tokens.minting import ABSENT, SigningKey
from tests.support.tokens.proofs import make_proof

API = "urn:api"
KEY = SigningKey.ec("client")


class Scene:
    """The provider, nginx, the gateway between, and clients with and without a certificate. All of them speak HTTPS."""

    def __init__(self, ca: Authority, provider: OidcProvider, nginx: Nginx, session: aiohttp.ClientSession) -> None:
        self.ca, self.provider, self.nginx, self.session = ca, provider, nginx, session
        self.shop, self.other = ca.sign("shop", "shop.test"), ca.sign("other", "other.test")
        self.url = ""

    def tls(self, shown: Certificate | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca.bundle))
        if shown is not None:
            context.load_cert_chain(shown.cert, shown.key)
        return context

    async def token_by_dpop(self) -> str:
        """Return a token that is bound to ``KEY``, after the provider's nonce was asked for."""
        uri, nonce, status = f"{self.provider.issuer}/token", "", 0
        answer: dict[str, Any] = {}
        for _ in range(2):
            more: dict[str, Any] = {"nonce": nonce} if nonce else {}
            proof = make_proof(KEY, b"", time.time(), method="POST", uri=uri, ath=ABSENT, **more)
            status, nonce, answer = await self.provider.ask(
                self.session, API, "orders:read", proof=proof, tls=self.tls()
            )
        assert (status, answer["token_type"]) == (200, "DPoP"), answer
        token: str = answer["access_token"]
        return token

    async def get(
        self, headers: dict[str, str], shown: Certificate | None = None
    ) -> tuple[int, str, aiohttp.ClientResponse]:
        async with self.session.get(self.url, headers=headers, ssl=self.tls(shown)) as answer:
            return answer.status, await answer.text(), answer

    def proved(self, token: str, nonce: str = "") -> dict[str, str]:
        more: dict[str, Any] = {"nonce": nonce} if nonce else {}
        proof = make_proof(KEY, token.encode(), time.time(), uri=self.url, **more)
        return {"Authorization": f"DPoP {token}", "DPoP": proof.decode()}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    require_oidc_provider()
    ca = authority(tmp_path / "tls")
    own = ca.sign("servers", "127.0.0.1")
    (tmp_path / "nginx").mkdir()
    async with (
        OidcProvider(tmp_path, {API: "orders:read"}, [signing_key()], (own, ca.bundle)) as provider,
        Nginx(tmp_path / "nginx") as nginx,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session,
    ):
        made = Scene(ca, provider, nginx, session)
        settings = Settings.model_validate(
            {
                "server": {
                    "listen": "127.0.0.1:0",
                    "admin_listen": "127.0.0.1:0",
                    "access_log": "off",
                    "tls_cert": str(own.cert),
                    "tls_key": str(own.key),
                    "tls_client_ca": str(ca.bundle),
                    "tls_client_auth": "optional",
                },
                "dpop": {"nonce_seconds": 60},
                "issuers": [
                    {
                        "name": "peer",
                        "issuer": provider.issuer,
                        "audience": [API],
                        "token_type": "at+jwt",
                        "jwks_ca_file": str(ca.bundle),
                    }
                ],
                "upstreams": [{"name": "nginx", "urls": [nginx.url]}],
                "routes": [
                    {
                        "path": "/orders",
                        "upstream": "nginx",
                        "scopes": ["orders:read"],
                        "sender_constrained": "required",
                    }
                ],
            }
        )
        app = GatewayApp(settings)
        await app.start()
        made.url = f"https://127.0.0.1:{app.port}/orders"
        try:
            yield made
        finally:
            await app.stop()


@pytest.mark.rule("R133", "R136", "R138")
async def test_a_token_that_the_provider_bound_to_a_key_passes_with_a_proof_and_a_nonce(scene: Scene) -> None:
    """The provider computed the thumbprint, the gateway finds the same key in the proof."""
    token = await scene.token_by_dpop()
    status, text, answer = await scene.get(scene.proved(token))
    assert (status, '"use_dpop_nonce"' in text) == (401, True)
    nonce = answer.headers["DPoP-Nonce"]
    used = scene.proved(token, nonce)
    for _ in range(2):
        status, text, _ = await scene.get(scene.proved(token, nonce))
        assert status == 200
        assert (seen(text)["user"], seen(text)["authorization"]) == (CLIENT_ID, "")
    assert (await scene.get(used))[0] == 200
    assert (await scene.get(used))[0] == 401
    assert (await scene.get({"Authorization": f"Bearer {token}"}))[0] == 401
    assert len(await scene.nginx.requests()) == 3


@pytest.mark.rule("R139")
async def test_a_token_that_the_provider_bound_to_a_certificate_passes_over_its_connection(scene: Scene) -> None:
    """The provider computed the hash of the certificate, the gateway sees the same one."""
    token = await scene.provider.token(
        scene.session, API, "orders:read", client_id=f"{CLIENT_ID}-tls", tls=scene.tls(scene.shop)
    )
    headers = {"Authorization": f"Bearer {token}"}
    status, text, _ = await scene.get(headers, scene.shop)
    assert (status, seen(text)["user"]) == (200, f"{CLIENT_ID}-tls")
    for shown in (scene.other, None):
        status, text, _ = await scene.get(headers, shown)
        assert (status, '"invalid_token"' in text) == (401, True)
    assert len(await scene.nginx.requests()) == 1


@pytest.mark.rule("R096")
async def test_a_plain_token_of_the_same_provider_is_not_enough_here(scene: Scene) -> None:
    """The route asks for tokens that are bound, and says how."""
    token = await scene.provider.token(scene.session, API, "orders:read", tls=scene.tls())
    status, _, answer = await scene.get({"Authorization": f"Bearer {token}"}, scene.shop)
    assert status == 401
    schemes = [value.split()[0] for value in answer.headers.getall("WWW-Authenticate")]
    assert schemes == ["Bearer", "DPoP"]
