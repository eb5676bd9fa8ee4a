"""nginx as the service behind the gateway: what it receives, what comes back, and that refusals never reach it."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.app import GatewayApp
from gateway.demo.identity_provider import AUDIENCE, IdentityProvider
from tests.peers.nginx import Nginx, seen
from tests.support.composed import Settings


@pytest.fixture
async def nginx(tmp_path: Path) -> AsyncIterator[Nginx]:
    async with Nginx(tmp_path) as peer:
        yield peer


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider() as provider:
        yield provider


@pytest.fixture
async def gateway(provider: IdentityProvider, nginx: Nginx) -> AsyncIterator[str]:
    """Run the gateway with a guarded and a public route; what is yielded is its base URL."""
    settings = Settings.model_validate(
        {
            "server": {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "access_log": "off"},
            "issuers": [{"name": "demo", "issuer": provider.issuer, "audience": [AUDIENCE]}],
            "upstreams": [{"name": "nginx", "urls": [nginx.url]}],
            "routes": [
                {"path": "/", "upstream": "nginx"},
                {"path": "/public", "upstream": "nginx", "auth": "public"},
            ],
        }
    )
    app = GatewayApp(settings)
    await app.start()
    try:
        yield f"http://127.0.0.1:{app.port}"
    finally:
        await app.stop()


@pytest.fixture
async def session(provider: IdentityProvider) -> AsyncIterator[aiohttp.ClientSession]:
    """Send every request with a good token unless it says otherwise."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {provider.mint()}"}, timeout=aiohttp.ClientTimeout(total=15)
    ) as session:
        yield session


async def test_the_peer_shows_what_it_received(nginx: Nginx) -> None:
    """The judge itself: without a gateway, nginx reads a client's X_User_Id as the identity."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{nginx.url}/a%20b?q=1", headers={"X_User_Id": "mallory"}) as answer,
    ):
        shown = seen(await answer.text())
    assert (shown["target"], shown["user"], shown["scope"]) == ("/a%20b?q=1", "mallory", "")
    assert await nginx.requests() == ["GET /a%20b?q=1"]


async def test_the_peer_ends_with_its_context(tmp_path: Path) -> None:
    """No process is left behind, whatever a test does."""
    nginx = Nginx(tmp_path)

    async def failing_test() -> None:
        async with nginx:
            os.kill(int((tmp_path / "nginx.pid").read_text()), 0)  # it runs
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing_test()
    assert not nginx.listens()


@pytest.mark.parametrize("path", ["/orders", "/public"])
@pytest.mark.parametrize("name", ["X-User-Id", "x-user-id", "X_User_Id", "X-User_Id"])
@pytest.mark.rule("R340", "R341")
async def test_no_spelling_of_an_identity_header_passes(
    nginx: Nginx, gateway: str, session: aiohttp.ClientSession, path: str, name: str
) -> None:
    """nginx folds _ and -, so each spelling would be the identity there."""
    async with session.get(gateway + path, headers={name: "mallory"}) as answer:
        shown = seen(await answer.text())
    assert answer.status == 200
    assert shown["user"] == ("" if path == "/public" else "demo-client")


@pytest.mark.parametrize("credential", ["", "Bearer x", "Bearer a.b.c", "Basic eDp5"])
async def test_a_refused_request_never_reaches_nginx(nginx: Nginx, gateway: str, credential: str) -> None:
    """Its log is the proof."""
    headers = {"Authorization": credential} if credential else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{gateway}/orders", headers=headers, data=b"x" * 100) as answer,
    ):
        assert answer.status == 401
    assert await nginx.requests() == []


@pytest.mark.rule("R266")
async def test_the_services_own_answers_pass_untouched(gateway: str, session: aiohttp.ClientSession) -> None:
    """A 404 of nginx is not the gateway's."""
    async with session.get(f"{gateway}/missing") as answer:
        assert (answer.status, await answer.text()) == (404, "not here\n")
        assert answer.headers["Server"].startswith("nginx/")


@pytest.mark.rule("R288", "R289", "R296", "R297", "R301")
async def test_files_ranges_and_conditions_pass_untouched(
    tmp_path: Path, gateway: str, session: aiohttp.ClientSession
) -> None:
    """They are between the client and nginx."""
    content = random.Random(1).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(content)
    async with session.get(f"{gateway}/file") as answer:
        assert hashlib.sha256(await answer.read()).digest() == hashlib.sha256(content).digest()
        etag = answer.headers["ETag"]
    async with session.get(f"{gateway}/file", headers={"Range": "bytes=1000000-1999999"}) as answer:
        assert (answer.status, await answer.read()) == (206, content[1_000_000:2_000_000])
    async with session.get(f"{gateway}/file", headers={"If-None-Match": etag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    async with session.head(f"{gateway}/file") as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(content)))


@pytest.mark.rule("R333")
async def test_a_service_that_died_is_502(nginx: Nginx, gateway: str, session: aiohttp.ClientSession) -> None:
    """Also for the connection that the pool still holds."""
    async with session.get(f"{gateway}/orders") as answer:
        assert answer.status == 200
    await nginx.stop()
    async with session.get(f"{gateway}/orders") as answer:
        assert (answer.status, (await answer.json())["error"]) == (502, "bad_gateway")
