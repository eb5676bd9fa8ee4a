"""Preflights answered by the gateway, and answers that pages may read (R114, C72)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import RawResponse, request, running_gateway
from tests.support.upstreams.recording import Received, raw_upstream
from tests.support.wire.fields import fields

pytestmark = pytest.mark.every_log

APP = b"https://app.test"
ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/", "cors_origins": [APP.decode()]},
    {"path": "/orders", "methods": ["POST"], "cors_origins": [APP.decode()]},
    {"path": "/orders", "methods": ["GET"]},
    {"path": "/closed"},
    {"path": "/scoped", "scopes": ["admin"], "cors_origins": ["*"]},
)


def preflight(target: str, method: bytes = b"GET", *headers: tuple[bytes, bytes], origin: bytes = APP) -> bytes:
    asked = ((b"Origin", origin), (b"Access-Control-Request-Method", method), *headers)
    return request(b"OPTIONS", target, *asked)


def reading(response: RawResponse) -> bytes | None:
    """Who may read it."""
    return response.one(b"access-control-allow-origin")


@pytest.mark.rule("C72", "R114")
async def test_preflight_is_answered_by_the_gateway_without_token_and_upstream(tmp_path: Path) -> None:
    """204 without content; the connection goes on; one log line of its own outcome."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        asked = (b"Access-Control-Request-Headers", b"authorization,content-type")
        for _ in range(2):
            response = await client.exchange(preflight("/any", b"PUT", asked))
            assert (response.status, reading(response)) == (204, APP)
            assert response.one(b"access-control-allow-methods") == b"PUT"
            assert response.one(b"access-control-allow-headers") == b"authorization, content-type"
            assert response.one(b"access-control-max-age") == b"600"
            assert response.one(b"content-length") is None
            assert response.one(b"x-request-id")
        log = await gateway.log(2)
        metrics = (await gateway.admin("/metrics")).body.decode()
    assert upstream.connections == 0
    assert (log[0]["outcome"], log[0]["status"], log[0]["route"]) == ("answered", 204, "/")
    assert 'outcome="answered",route="/",status="204"} 2.0' in metrics


@pytest.mark.rule("R114")
async def test_preflight_is_about_the_route_of_the_method_that_it_asks_for(tmp_path: Path) -> None:
    """A route that serves POST only answers preflights for POST, and not those of its neighbour."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        posting = await gateway.exchange(preflight("/orders", b"POST"))
        getting = await gateway.exchange(preflight("/orders", b"GET"))
        log = await gateway.log(2)
    assert (posting.status, reading(posting), log[0]["route"]) == (204, APP, "/orders")
    assert posting.one(b"access-control-allow-methods") == b"POST"
    # That route says nothing about pages, so this is an OPTIONS like any other: "/" serves it, to those with a token.
    assert (getting.status, log[1]["route"]) == (401, "/")
    assert upstream.connections == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(preflight("/", origin=b"https://evil.test"), "cors_origin", id="origin"),
        pytest.param(preflight("/", origin=b"null"), "cors_origin", id="null"),
        pytest.param(preflight("/", b"TRACK"), "cors_method", id="method"),
        pytest.param(preflight("/", b"GET", (b"Access-Control-Request-Headers", b"a b")), "cors_header", id="header"),
    ],
)
@pytest.mark.rule("C72")
async def test_preflight_that_is_not_allowed_is_403(data: bytes, reason: str, tmp_path: Path) -> None:
    """What browsers take for a refusal, and a line for the operator."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        response = await gateway.exchange(data)
        log = await gateway.log()
    assert (response.status, response.json["error"]) == (403, "cors_refused")
    assert response.one(b"access-control-allow-methods") is None
    assert (log[0]["reason"], log[0]["outcome"]) == (reason, "refused")
    assert upstream.connections == 0


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(preflight("/closed"), id="route without rules"),
        pytest.param(request(b"OPTIONS", "/"), id="plain OPTIONS"),
        pytest.param(request(b"OPTIONS", "/", (b"Origin", APP)), id="origin alone"),
        pytest.param(request(b"OPTIONS", "/", (b"Access-Control-Request-Method", b"GET")), id="method alone"),
        pytest.param(preflight("/", b"GET", (b"Origin", APP)), id="two origins"),
        pytest.param(
            request(b"GET", "/", (b"Origin", APP), (b"Access-Control-Request-Method", b"GET")), id="another method"
        ),
    ],
)
@pytest.mark.rule("C72", "R114")
async def test_what_is_no_preflight_needs_a_token(data: bytes, tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        response = await gateway.exchange(data)
    assert (response.status, response.json["error"]) == (401, "missing_token")
    assert upstream.connections == 0


@pytest.mark.rule("R114")
async def test_options_with_a_token_reaches_the_upstream(tmp_path: Path) -> None:
    """Without rules, a preflight is passed on like any other request."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        token = (b"Authorization", b"Bearer " + gateway.token())
        assert (await gateway.exchange(preflight("/closed", b"GET", token))).status == 200
    assert upstream.requests[0].line.startswith(b"OPTIONS /closed ")


@pytest.mark.rule("R229")
async def test_preflight_for_a_path_with_two_readings_is_refused_first(tmp_path: Path) -> None:
    """The guard comes before everything."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        assert (await gateway.exchange(preflight("/a/../b"))).status == 400


async def test_preflight_with_content_keeps_the_connection_in_step(tmp_path: Path) -> None:
    """Content of a preflight means nothing; it is read past."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        length = (b"Content-Length", b"5")
        assert (await client.exchange(preflight("/", b"GET", length) + b"GET /")).status == 204
        assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
    assert len(upstream.requests) == 1


async def test_pages_can_read_responses_and_refusals(tmp_path: Path) -> None:
    """Also when the gateway answers itself: a page that cannot read a 401 cannot renew its token."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        good, origin = gateway.token(), (b"Origin", APP)
        served = await gateway.get("/", origin, token=good)
        refused = await gateway.get("/", origin)
        lacking = await gateway.get("/scoped", origin, token=good)
        foreign = await gateway.get("/", (b"Origin", b"https://evil.test"), token=good)
        nowhere = await gateway.get("/closed", origin)
    assert (served.status, reading(served), served.one(b"vary")) == (200, APP, b"Origin")
    assert (refused.status, reading(refused), refused.one(b"vary")) == (401, APP, b"Origin")
    assert b"WWW-Authenticate" in (refused.one(b"access-control-expose-headers") or b"")
    assert (lacking.status, reading(lacking), lacking.one(b"vary")) == (403, b"*", None)
    assert (foreign.status, reading(foreign), foreign.one(b"vary")) == (200, None, b"Origin")
    assert (nowhere.status, reading(nowhere)) == (401, None)


async def test_pages_can_read_that_the_upstream_is_down(tmp_path: Path) -> None:
    """502 of the gateway carries the fields, too."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        response = await gateway.get("/", (b"Origin", APP), token=gateway.token())
    assert (response.status, reading(response)) == (502, APP)


#: Whatever a service says about pages on its own.
OWN = fields(b"""
Access-Control-Allow-Origin: https://own.test
access-control-allow-credentials: true
ACCESS-CONTROL-EXPOSE-HEADERS: X-Secret
Access-Control-Allow-Methods: DELETE
Access-Control-Allow-Private-Network: true
Access-Control-Max-Age: 1
""")


@pytest.mark.parametrize("own", [OWN, OWN[1:], OWN[:1], OWN * 2], ids=["all", "no origin", "origin", "twice"])
@pytest.mark.parametrize("framing", [b"Content-Length: 0\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
@pytest.mark.rule("R434")
async def test_on_its_routes_the_gateway_speaks_alone(
    own: tuple[tuple[bytes, bytes], ...], framing: bytes, tmp_path: Path
) -> None:
    """A lone Allow-Credentials of the service takes no effect, and nothing is said twice."""

    async def respond(received: Received, *_: object) -> bytes:
        lines = b"".join(b"%b: %b\r\n" % pair for pair in (*own, (b"X-Own", b"1")))
        return b"HTTP/1.1 200 OK\r\n" + lines + framing

    routes: tuple[dict[str, Any], ...] = (
        {"path": "/", "auth": "public", "cors_origins": [APP.decode()]},
        {"path": "/any", "auth": "public", "cors_origins": ["*"]},
        {
            "path": "/cookies",
            "auth": "public",
            "cors_origins": [APP.decode()],
            "cors_credentials": True,
            "cors_expose_headers": ["X-Total-Count"],
            "rate_limit": {"requests": 1000},
        },
        {"path": "/silent", "auth": "public"},
    )
    allow = (b"Access-Control-Allow-Origin", APP)
    exposed = b"x-total-count, RateLimit-Policy, RateLimit"
    wanted = {
        ("/", APP): [allow],
        ("/", b"https://evil.test"): [],
        ("/any", APP): [(b"Access-Control-Allow-Origin", b"*")],
        ("/cookies", APP): [
            *(allow, (b"Access-Control-Allow-Credentials", b"true")),
            (b"Access-Control-Expose-Headers", exposed),
        ],
        ("/cookies", b"https://evil.test"): [],
        ("/silent", APP): list(own),
    }
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        client = await gateway.client()
        for _ in range(2):
            for (target, origin), fields in wanted.items():
                response = await client.exchange(request(b"GET", target, (b"Origin", origin)))
                said = [pair for pair in response.headers if pair[0].lower().startswith(b"access-control-")]
                assert said == fields, (target, origin)
                assert response.one(b"x-own") == b"1"


@pytest.mark.rule("R434")
async def test_refusals_say_each_thing_once(tmp_path: Path) -> None:
    """Also where further fields of the gateway are to be read."""
    routes = ({"path": "/", "cors_origins": [APP.decode()], "rate_limit": {"requests": 1, "by": "address"}},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        refused = [await gateway.get("/", (b"Origin", APP)) for _ in range(3)]
    for answer in refused:
        names = [name.lower() for name, _ in answer.headers]
        assert len(names) == len(set(names)), answer.head
        assert b"X-Request-Id" in (answer.one(b"access-control-expose-headers") or b"")


@pytest.mark.rule("R434")
async def test_an_open_websocket_carries_no_rules_of_the_service(tmp_path: Path) -> None:
    """A 101 is not an exception."""

    async def respond(received: Received, _: object, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"access-control-allow-credentials: true\r\nX-Own: 1\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        await writer.drain()

    handshake = (
        *((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", b"13")),
        *((b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="), (b"Origin", APP)),
    )
    routes = ({"path": "/", "auth": "public", "cors_origins": [APP.decode()]},)
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        opened = await gateway.get("/", *handshake)
    assert (opened.status, opened.one(b"x-own")) == (101, b"1")
    assert opened.all(b"access-control-allow-credentials") == []
