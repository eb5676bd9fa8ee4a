"""Services that believe a proxy, behind the gateway: they see the path, user, scheme and client that the rules saw."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require
from tests.peers.believing import DJANGO, FLASK
from tests.peers.services import service
from tests.support.gateways.running import RawClient, RawResponse, request, running_gateway

Field = tuple[bytes, bytes]

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/pub", "auth": "public"},
    {"path": "/read", "auth": "public", "methods": ["GET", "HEAD"]},
    {"path": "/team"},
    {"path": "/admin", "scopes": ["never:granted"]},
)

#: By what each server moves a request to another page, below a prefix that is open to the caller.
MOVES = {
    "gunicorn-sync": (b"SCRIPT_NAME",),
    "daphne": (b"Daphne-Root-Path",),
    "http.server": (),
    "django": (),
}

#: Who a client would like to be, and from where.
CLAIMS: tuple[Field, ...] = (
    *((b"Remote-User", b"root"), (b"X-Remote-User", b"root"), (b"X-Auth-Request-User", b"root")),
    *((b"X-WEBAUTH-USER", b"root"), (b"Client-IP", b"10.9.9.9"), (b"X-Real-IP", b"10.9.9.9")),
    *((b"X-Scheme", b"gopher"), (b"X-Url-Scheme", b"gopher"), (b"X-Host", b"evil.test")),
    *((b"X-Forwarded-Host", b"evil.test"), (b"X-Forwarded-Proto", b"gopher"), (b"X-User-Id", b"root")),
)


@dataclass(frozen=True)
class Peer:
    """A server, its application, and the packages that both need."""

    server: str
    source: str
    packages: tuple[str, ...]


PEERS = (
    Peer("gunicorn-sync", FLASK, ("gunicorn", "flask")),
    Peer("daphne", DJANGO, ("daphne", "django")),
    Peer("http.server", FLASK, ("flask",)),  # Flask's own, run as a program
    Peer("django", DJANGO, ("django",)),
)


async def ask(port: int, data: bytes) -> RawResponse:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        return await client.exchange(data, within=15)
    finally:
        await client.close()


@pytest.mark.parametrize("peer", PEERS, ids=["flask on gunicorn", "django on daphne", "flask", "django"])
@pytest.mark.rule("R226", "R342", "R401", "R402", "R340")
async def test_a_service_sees_the_request_that_the_rules_saw(peer: Peer, tmp_path: Path) -> None:
    """Each way works without the gateway, and none through it, in either lane."""
    for package in peer.packages:
        require(
            importlib.util.find_spec(package) is not None,
            f"{package} is missing: pip install -c constraints.txt {package}",
        )
    async with service(peer.server, tmp_path / "service", peer.source) as running:
        # The judge itself: these services believe every word.
        assert (await ask(running.port, request(b"GET", "/pub/admin"))).json["page"] == "page"
        for name in MOVES[peer.server]:
            moved = await ask(running.port, request(b"GET", "/pub/admin", (name, b"/pub")))
            assert moved.json["page"] == "admin"
        believed = (await ask(running.port, request(b"GET", "/pub/x", *CLAIMS))).json
        assert (believed["user"], believed["address"], believed["host"]) == ("root", "10.9.9.9", "evil.test")
        if peer.server in ("http.server", "django"):
            posted = await ask(running.port, request(b"post", "/read/x", (b"Content-Length", b"0")))
            assert posted.json["method"] == "POST"

        for express in (True, False):
            async with running_gateway(running.url, tmp_path, routes=ROUTES, server={"express": express}) as gateway:
                client = await gateway.client()
                for prefix, token, user in (("/pub", b"", None), ("/team", gateway.token(), "alice")):
                    seen = {"page": "page", "method": "GET", "user": user, "address": "127.0.0.1", "scheme": "http"}
                    honest = (await client.exchange(request(b"GET", f"{prefix}/admin", token=token))).json
                    assert honest == seen | {"host": "gateway.test"}
                    for name in (b"SCRIPT_NAME", b"PATH_INFO", b"Script-Name", b"Daphne-Root-Path", b"X-Script-Name"):
                        for value in (prefix.encode(), b"/admin"):
                            data = request(b"GET", f"{prefix}/admin", (name, value), *CLAIMS, token=token)
                            assert (await client.exchange(data)).json == honest, name
                for method in (b"post", b"Post", b"delete"):
                    refused = await gateway.exchange(request(method, "/read/x", (b"Content-Length", b"0")))
                    assert refused.status == 400
                assert (await gateway.get("/admin", token=gateway.token())).status == 403
