"""oidc-provider as issuer, nginx as service, the gateway between: found by discovery alone, rotated while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway import tasks
from gateway.app import GatewayApp
from tests.peers.nginx import Nginx, seen
from tests.peers.oidc_provider import CLIENT_ID, OidcProvider, require_oidc_provider, signing_key
from tests.support.composed import Settings

API, OTHER = "urn:api", "urn:other"


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    require_oidc_provider()
    async with OidcProvider(tmp_path, {API: "orders:read orders:write", OTHER: "orders:read"}, [signing_key()]) as peer:
        yield peer


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    async with Nginx(folder) as peer:
        yield peer


@pytest.fixture
async def gateway(provider: OidcProvider, nginx: Nginx) -> AsyncIterator[str]:
    """Run the gateway; what is yielded is its base URL."""
    settings = Settings.model_validate(
        {
            "server": {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "access_log": "off"},
            "issuers": [
                {
                    "name": "peer",
                    "issuer": provider.issuer,
                    "audience": [API],
                    "token_type": "at+jwt",
                    "jwks_cooldown_seconds": 0.1,
                }
            ],
            "upstreams": [{"name": "nginx", "urls": [nginx.url]}],
            "routes": [{"path": "/orders", "upstream": "nginx", "scopes": ["orders:read"]}],
        }
    )
    app = GatewayApp(settings)
    await app.start()
    try:
        yield f"http://127.0.0.1:{app.port}"
    finally:
        await app.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


async def get(session: aiohttp.ClientSession, gateway: str, token: str, path: str = "/orders") -> tuple[int, str]:
    async with session.get(gateway + path, headers={"Authorization": f"Bearer {token}"}) as answer:
        return answer.status, await answer.text()


@pytest.mark.rule("R048", "R117")
async def test_a_token_found_by_discovery_reaches_nginx_as_identity(
    provider: OidcProvider, nginx: Nginx, gateway: str, session: aiohttp.ClientSession
) -> None:
    """typ at+jwt is accepted, and the service gets claims instead of the token."""
    token = await provider.token(session, API, "orders:read orders:write")
    status, text = await get(session, gateway, token, "/orders/7?full=%20yes")
    shown = seen(text)
    assert status == 200
    assert (shown["user"], shown["role"], shown["scope"]) == (CLIENT_ID, "merchant", "orders:read orders:write")
    assert (shown["target"], shown["authorization"]) == ("/orders/7?full=%20yes", "")
    assert await nginx.requests() == ["GET /orders/7?full=%20yes"]


@pytest.mark.rule("R087")
async def test_a_token_for_another_resource_is_401_and_never_reaches_nginx(
    provider: OidcProvider, nginx: Nginx, gateway: str, session: aiohttp.ClientSession
) -> None:
    """Same issuer, same key, same scope, another audience."""
    token = await provider.token(session, OTHER, "orders:read")
    status, text = await get(session, gateway, token)
    assert (status, '"invalid_token"' in text) == (401, True)
    assert await nginx.requests() == []


async def test_a_token_without_the_routes_scope_is_403(
    provider: OidcProvider, nginx: Nginx, gateway: str, session: aiohttp.ClientSession
) -> None:
    """RFC 6750 section 3.1."""
    token = await provider.token(session, API, "orders:write")
    status, text = await get(session, gateway, token)
    assert (status, '"insufficient_scope"' in text) == (403, True)
    assert await nginx.requests() == []


@pytest.mark.rule("R169", "R171", "R173", "R185")
async def test_rotation_interrupts_nothing(
    provider: OidcProvider, gateway: str, session: aiohttp.ClientSession
) -> None:
    """Old tokens pass as long as their key is published, and no longer; new ones at once."""
    first, (second, third) = provider.keys[0], [signing_key() for _ in range(2)]
    used = await provider.token(session, API, "orders:read")
    unused = await provider.token(session, API, "orders:read")
    assert (await get(session, gateway, used))[0] == 200

    statuses: list[int] = []
    traffic = tasks.spawn(_send_until_cancelled(session, gateway, used, statuses), "traffic")
    await provider.restart([second, first])
    new = await provider.token(session, API, "orders:read")
    assert (await get(session, gateway, new))[0] == 200  # one refetch for the unknown kid, within the request
    assert (await get(session, gateway, unused))[0] == 200  # verified only now, with the key before
    traffic.cancel()
    await asyncio.gather(traffic, return_exceptions=True)
    assert statuses
    assert set(statuses) == {200}

    await provider.restart([third, second])
    newest = await provider.token(session, API, "orders:read")
    assert (await get(session, gateway, newest))[0] == 200
    assert (await get(session, gateway, new))[0] == 200
    assert (await get(session, gateway, used))[0] == 401  # cached before, but its key is gone


@pytest.mark.rule("R166")
async def test_a_provider_that_is_down_stops_nobody(
    provider: OidcProvider, gateway: str, session: aiohttp.ClientSession
) -> None:
    """Keys that were fetched once verify also tokens that were never seen before."""
    used = await provider.token(session, API, "orders:read")
    unused = await provider.token(session, API, "orders:read")
    assert (await get(session, gateway, used))[0] == 200
    await provider.stop()
    assert (await get(session, gateway, used))[0] == 200
    assert (await get(session, gateway, unused))[0] == 200


async def _send_until_cancelled(session: aiohttp.ClientSession, gateway: str, token: str, statuses: list[int]) -> None:
    while True:
        statuses.append((await get(session, gateway, token))[0])
        await asyncio.sleep(0.01)
