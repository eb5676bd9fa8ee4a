"""oidc-provider as the server that is asked about opaque tokens, by each way to say who asks, and revokes them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.peers.oidc_provider import OidcProvider, require_oidc_provider, signing_key
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import request
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.parts import introspectors
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import RawUpstream, raw_upstream

OPAQUE, OTHER, SIGNED = "urn:opaque", "urn:other", "urn:signed"
RESOURCES = {OPAQUE: "orders:read orders:write", OTHER: "orders:read", SIGNED: "orders:read"}
SECRET = "a:b%c+d e&f=g/h?i~j"

_NO_FLOW: dict[str, Any] = {"grant_types": [], "redirect_uris": [], "response_types": []}


def private(folder: Path, key: RSAKey | ECKey | OKPKey, *, pem: bool = False, **members: str) -> dict[str, Any]:
    """Write a private key; return its public JWK."""
    data = key.as_pem(private=True) if pem else json.dumps({**key.as_dict(private=True), **members}).encode()
    (folder / "client-key").write_bytes(data)
    return {**key.as_dict(private=False), **members, "use": "sig"}


def by_secret(method: str) -> Any:
    def made(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        (folder / "client-secret").write_text(SECRET)
        return (
            {"client_secret": SECRET, "token_endpoint_auth_method": method},
            {"introspection_auth": method, "introspection_client_secret_file": str(folder / "client-secret")},
        )

    return made


def by_key(make: Any, algorithm: str, **options: Any) -> Any:
    def made(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        return (
            {
                "jwks": {"keys": [private(folder, make(), **options)]},
                "token_endpoint_auth_method": "private_key_jwt",
                "token_endpoint_auth_signing_alg": algorithm,
            },
            {
                "introspection_auth": "private_key_jwt",
                "introspection_private_key_file": str(folder / "client-key"),
            },
        )

    return made


WAYS = [
    pytest.param(by_secret("client_secret_basic"), id="client_secret_basic"),
    pytest.param(by_secret("client_secret_post"), id="client_secret_post"),
    pytest.param(by_key(lambda: RSAKey.generate_key(2048), "RS256", pem=True), id="rsa-pem"),
    pytest.param(by_key(lambda: RSAKey.generate_key(2048), "PS256", alg="PS256", kid="1"), id="rsa-pss-jwk"),
    pytest.param(by_key(lambda: ECKey.generate_key("P-256"), "ES256", pem=True), id="p-256-pem"),
    pytest.param(by_key(lambda: OKPKey.generate_key("Ed25519"), "Ed25519", kid="2"), id="ed25519-jwk"),
    pytest.param(by_key(lambda: OKPKey.generate_key("Ed25519"), "EdDSA", alg="EdDSA", kid="3"), id="eddsa-jwk"),
]


class Peers:
    """The provider, the gateway that asks it, and the service behind."""

    def __init__(
        self,
        provider: OidcProvider,
        gateway: TimedGateway,
        upstream: RawUpstream,
        session: aiohttp.ClientSession,
    ) -> None:
        self.provider = provider
        self.gateway = gateway
        self.upstream = upstream
        self.session = session

    async def token(self, resource: str = OPAQUE, scope: str = "orders:read") -> str:
        return await self.provider.token(self.session, resource, scope)

    async def status(self, token: str) -> int:
        return (await self.gateway.exchange(request(b"GET", "/orders", token=token.encode()))).status


@contextlib.asynccontextmanager
async def peers(folder: Path, way: Any) -> AsyncIterator[Peers]:
    client, options = way(folder)
    made = {"client_id": "gate:way", **_NO_FLOW, **client}
    async with (
        OidcProvider(folder, RESOURCES, [signing_key()], opaque=[OPAQUE, OTHER], clients=[made]) as provider,
        raw_upstream() as upstream,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session,
    ):
        settings = Settings.model_validate(
            {
                "server": {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"},
                "issuers": [
                    {
                        "name": "peer",
                        "issuer": provider.issuer,
                        "audience": [OPAQUE, SIGNED],
                        "required_claims": ["exp"],
                        "introspection_url": f"{provider.issuer}/token/introspection",
                        "introspection_client_id": "gate:way",
                        **options,
                    }
                ],
                "upstreams": [{"name": "main", "urls": [upstream.url]}],
                "routes": [
                    {
                        "path": "/orders",
                        "upstream": "main",
                        "credentials": ["jwt", "opaque"],
                        "scopes": ["orders:read"],
                    }
                ],
                "identity": {"x-client": "$client", "x-scope": "$scopes", "x-user-role": "role"},
            }
        )
        clock = FakeClock(time.time())
        async with timed_gateway(settings, SigningKey.ec("unused"), clock) as gateway:
            yield Peers(provider, gateway, upstream, session)


@pytest.fixture(autouse=True)
def _provider() -> None:
    require_oidc_provider()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.rule("R118", "R119", "R121", "R123", "R127")
async def test_opaque_token_passes_until_it_is_revoked(way: Any, tmp_path: Path) -> None:
    """The provider knows the gateway, and its word is enough within the time allowed."""
    async with peers(tmp_path, way) as one:
        token = await one.token()
        assert "." not in token
        assert [await one.status(token), await one.status(token)] == [200, 200]
        received = one.upstream.requests[0]
        assert [received.one(name) for name in (b"x-client", b"x-scope")] == [b"shop", b"orders:read"]
        state = one.gateway.app.admin.status()[1]["introspection"]["peer"]
        assert (state["outcomes"], state["last_error"]) == ({"active": 1}, "")
        await one.provider.revoke(one.session, token)
        one.gateway.clock.jump(29)
        assert await one.status(token) == 200
        one.gateway.clock.jump(2)
        assert await one.status(token) == 401
        assert len(one.upstream.requests) == 3


@pytest.mark.rule("R118", "R121")
async def test_tokens_of_both_kinds_are_judged_by_the_same_rules(tmp_path: Path) -> None:
    """JWTs by the provider's keys, without introspection; another audience and a missing scope count alike."""
    async with peers(tmp_path, by_secret("client_secret_basic")) as one:
        signed = await one.token(SIGNED)
        assert signed.count(".") == 2
        assert await one.status(signed) == 200
        asker = introspectors(one.gateway.app)["peer"]
        assert asker.outcomes == {}
        assert await one.status(await one.token(OTHER)) == 401
        assert await one.status(await one.token(scope="orders:write")) == 403
        assert await one.status("made-up") == 401
        assert asker.outcomes == {"refused": 1, "active": 1, "inactive": 1}


@pytest.mark.rule("R113", "R122")
async def test_wrong_secret_is_no_verdict(tmp_path: Path) -> None:
    """The provider refuses the gateway, not the caller."""
    async with peers(tmp_path, by_secret("client_secret_basic")) as one:
        secret = tmp_path / "client-secret"
        token = await one.token()
        secret.write_text("another")
        assert await one.status(token) == 503
        secret.write_text(SECRET)
        one.gateway.clock.jump(2)  # the file is looked at once a second
        assert await one.status(token) == 200
