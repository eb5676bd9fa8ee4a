"""The pages of the admin port, over HTTP: health, readiness, status; and that no client reaches them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.running import ISSUER, configuration, request, running_gateway
from tests.support.gateways.timed import timed_gateway
from tests.support.tokens.api_keys import OTHER, entry, write_keys
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


async def test_status_tells_what_the_gateway_knows(tmp_path: Path) -> None:
    """Contract (admin port): issuers, token cache, upstreams, config generation."""
    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target == b"/slow":
            await release.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token = gateway.token()
        for _ in range(3):
            assert (await gateway.get("/", token=token)).status == 200
        slow = await gateway.client()
        await slow.send(request(b"GET", "/slow", token=token))
        await eventually(lambda: len(upstream.requests) == 4)
        page = await gateway.admin("/status")
        release.set()
        assert (await slow.response()).status == 200
    assert page.status == 200
    assert (page.one(b"content-type"), page.one(b"cache-control")) == (b"application/json", b"no-store")
    status = page.json
    assert (status["version"], status["config_generation"], status["draining"]) == (__version__, 1, False)
    assert status["open_connections"] == 4
    issuer = status["issuers"]["main"]
    assert issuer["key_ids"] == ["a"]
    assert {"age_seconds", "last_error", "next_refresh_seconds"} <= set(issuer)
    cache = status["token_cache"]
    assert (cache["size"], cache["hits"], cache["misses"]) == (1, 3, 1)
    (url,) = status["upstreams"]["main"]["urls"]
    assert (url["url"], url["in_use"], url["waiting"]) == (upstream.url, 1, 0)
    assert status["upstreams"]["main"]["failures"] == {}
    assert token.decode() not in page.body.decode()


async def test_status_counts_failures_of_an_upstream_by_reason(tmp_path: Path) -> None:
    """Contract: an operator sees which service fails and how."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        return None if received.target == b"/closes" else b"nonsense\r\n\r\n"

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        for target in ("/closes", "/a", "/b"):
            assert (await gateway.get(target)).status == 502
        status = (await gateway.admin("/status")).json
    assert status["upstreams"]["main"]["failures"] == {"upstream_disconnected": 1, "upstream_protocol": 2}


@pytest.mark.rule("R378", "R379")
async def test_readiness_needs_the_keys_of_every_issuer(tmp_path: Path) -> None:
    """One issuer without keys is enough to be unready; liveness does not care."""
    key, good, late = SigningKey.rsa("a"), tmp_path / "jwks.json", tmp_path / "late.json"
    good.write_bytes(jwks(key))
    settings = configuration("http://127.0.0.1:1", good)
    settings["issuers"].append({**settings["issuers"][0], "name": "late", "issuer": "https://late.test/"})
    settings["issuers"][1]["jwks_file"] = str(late)
    clock = FakeClock()
    async with timed_gateway(Settings.model_validate(settings), key, clock) as gateway:
        unready = await gateway.admin("/readyz")
        assert (unready.status, unready.json["ready"], unready.json["draining"]) == (503, False, False)
        assert unready.json["issuers"] == {
            "main": {"ready": True, "reason": ""},
            "late": {"ready": False, "reason": "no_keys"},
        }
        assert (await gateway.admin("/healthz")).json == {"status": "ok"}
        late.write_bytes(jwks(key))
        for _ in range(100):
            await clock.advance(1)
            if gateway.app.issuers["late"].usable() is None:
                break
            await asyncio.sleep(0.01)
        ready = await gateway.admin("/readyz")
        assert (ready.status, ready.json["ready"]) == (200, True)


@pytest.mark.rule("R378", "R379")
async def test_readiness_ends_when_keys_become_too_old_and_liveness_does_not(tmp_path: Path) -> None:
    """jwks_max_stale_seconds without a good fetch."""
    key, file = SigningKey.rsa("a"), tmp_path / "jwks.json"
    file.write_bytes(jwks(key))
    options = {"jwks_max_stale_seconds": 60, "jwks_refresh_seconds": 3600}
    settings = configuration("http://127.0.0.1:1", file, issuer=options)
    clock = FakeClock()
    async with timed_gateway(Settings.model_validate(settings), key, clock) as gateway:
        assert (await gateway.admin("/readyz")).status == 200
        file.unlink()
        clock.jump(61)
        stale = await gateway.admin("/readyz")
        assert (stale.status, stale.json["issuers"]["main"]) == (503, {"ready": False, "reason": "stale_keys"})
        assert (await gateway.admin("/healthz")).status == 200


async def test_without_issuers_the_gateway_is_ready_at_once(tmp_path: Path) -> None:
    """A gateway with public routes only waits for no issuer."""
    settings = configuration("http://127.0.0.1:1", tmp_path, routes=PUBLIC)
    settings["issuers"] = []
    clock = FakeClock()
    async with timed_gateway(Settings.model_validate(settings), SigningKey.rsa("a"), clock) as gateway:
        ready = await gateway.admin("/readyz")
    assert (ready.status, ready.json["issuers"]) == (200, {})


async def test_the_root_lists_the_pages(tmp_path: Path) -> None:
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        listed = (await gateway.admin("/")).json["pages"]
        assert listed == ["/healthz", "/readyz", "/status", "/metrics"]
        assert {(await gateway.admin(page)).status for page in listed} == {200}


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/healthz/", "/HEALTHZ", "/metrics/x", "/status?x#", "//status", "/../status"]
)
async def test_other_admin_paths_are_not_found(path: str, tmp_path: Path) -> None:
    """Nothing is served but the four pages; a query does not matter."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        response = await gateway.admin(path)
    assert response.status == (200 if path.startswith("/status") else 404)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"BREW"])
async def test_admin_pages_are_only_read(method: bytes, tmp_path: Path) -> None:
    """The port has no action to offer to any client that can reach it."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.app.admin_port)
        writer.write(request(method, "/status", (b"Host", b"localhost")))
        line = await reader.readline()
        writer.close()
    assert line.split(b" ")[1] in (b"405", b"400")


TRICKS = [
    *(b"/healthz", b"/readyz", b"/status", b"/metrics", b"/%6detrics", b"//metrics", b"/./metrics", b"/a/../metrics"),
    *(b"/metrics/", b"/metrics;a=b", b"/metrics%00", b"/metrics%3f", b"/METRICS", b"/metrics?x", b"/%2fmetrics"),
    *(b"http://127.0.0.1/metrics", b"http://localhost:9090/metrics", b"/%252e%252e/metrics", b"/a%2f..%2fmetrics"),
]


@pytest.mark.parametrize("target", TRICKS)
@pytest.mark.parametrize("host", [b"gateway.test", b"127.0.0.1:ADMIN", b"localhost"])
@pytest.mark.rule("R380")
async def test_no_path_on_the_public_port_leads_to_the_admin_pages(target: bytes, host: bytes, tmp_path: Path) -> None:
    """An upstream's answer or a refusal, never a page of the gateway."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        named = host.replace(b"ADMIN", b"%d" % gateway.app.admin_port)
        response = await gateway.get(target, (b"Host", named))
        log = await gateway.log()
    assert response.status in (200, 400, 404)
    assert response.body == b"ok" if response.status == 200 else set(response.json) >= {"error", "request_id"}
    assert len(log) == 1
    assert ISSUER.encode() not in response.body


@pytest.mark.rule("R380")
async def test_public_paths_on_the_admin_port_lead_nowhere(tmp_path: Path) -> None:
    """The admin port forwards nothing."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        assert (await gateway.admin("/orders")).status == 404
    assert upstream.connections == 0


async def test_status_tells_of_the_api_keys(tmp_path: Path) -> None:
    """Their number, file, and last error; never an id, an owner or a hash."""
    file = tmp_path / "keys.jsonl"
    write_keys(file, entry(OTHER, "another", owner="somebody"))
    routes: tuple[dict[str, Any], ...] = ({"path": "/", "credentials": ["jwt", "api_key"]},)
    tokens = {"api_keys_file": str(file)}
    async with running_gateway(
        "http://127.0.0.1:1", tmp_path, routes=routes, api_keys=[entry()], tokens=tokens
    ) as gateway:
        page = await gateway.admin("/status")
    assert page.json["api_keys"] == {
        "keys": 2,
        "file": str(file),
        "complete": True,
        "last_error": "",
        "reload_failures": 0,
    }
    assert not [name for name in (b"partner", b"another", b"somebody", b"sha256") if name in page.body]
