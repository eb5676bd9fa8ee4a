"""Handshakes: who gets a WebSocket, what an upstream's answer to one means, and tokens among the subprotocols."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from gateway.http1.websocket import accept_value
from tests.support.clients.websockets import HANDSHAKE, KEY, PUBLIC, SWITCHING, dial, shake, socket_upstream
from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import Received, raw_upstream

PROTOCOL_TOKEN = ({"path": "/", "websocket_protocol_token": True},)


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    """A handshake without one of its fields."""
    return [pair for pair in HANDSHAKE if pair[0] != name]


@pytest.mark.parametrize("status", [403, 503, 200, 401])
@pytest.mark.rule("R324", "C64")
async def test_upstreams_refusal_is_passed_on_and_nothing_stays_open(status: int, tmp_path: Path) -> None:
    """No fake 101, and the connection serves requests again."""

    def refuse(connection: ServerConnection, received: Request) -> Response:
        return connection.respond(HTTPStatus(status), "not now")

    async with socket_upstream(answer=refuse) as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token = gateway.token()
        with pytest.raises(InvalidStatus) as refusal:
            await dial(gateway, token=token)
        client, response = await shake(gateway, token=token, behind=request(b"GET", "/behind"))
        assert (response.status, response.body) == (status, b"not now")
        assert (await client.response()).status == 401
        log = await gateway.log(3)
        metrics = (await gateway.admin("/metrics")).body
    assert refusal.value.response.status_code == status
    assert upstream.open == 0
    assert [line["status"] for line in log] == [status, status, 401]
    assert b"gateway_open_tunnels 0.0" in metrics


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(SWITCHING.replace(accept_value(KEY), b"c29tZXRoaW5nIGVsc2UgZW50aXJlbHk="), 502, id="accept"),
        pytest.param(SWITCHING.replace(b"Upgrade: websocket", b"Upgrade: h2c"), 502, id="another-protocol"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, id="nothing-said"),
        pytest.param(SWITCHING[:-2] + b"Content-Length: 5\r\nX-Y: z\r\n\r\n", 101, id="sound"),
    ],
)
@pytest.mark.rule("R324")
async def test_101_that_is_no_answer_to_the_handshake_is_a_bad_gateway(
    head: bytes, status: int, tmp_path: Path
) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await reader.read()

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client, response = await shake(gateway)
        assert response.status == status
        assert response.all(b"content-length" if status == 101 else b"upgrade") == []
        assert response.all(b"x-y") == ([b"z"] if status == 101 else [])
        await client.close()
        await until(lambda: upstream.open_connections == 0, within=1)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(request(b"POST", "/", *HANDSHAKE), 400, id="POST"),
        pytest.param(request(b"GET", "/", *without(b"Sec-WebSocket-Key")), 400, id="no-key"),
        pytest.param(request(b"GET", "/", *without(b"Connection")), 400, id="no-connection"),
        pytest.param(request(b"GET", "/", *HANDSHAKE).replace(b"HTTP/1.1", b"HTTP/1.0"), 400, id="HTTP/1.0"),
        pytest.param(request(b"GET", "/", *HANDSHAKE, (b"Content-Length", b"2"), body=b"xy"), 400, id="content"),
        pytest.param(
            request(b"GET", "/", *without(b"Sec-WebSocket-Version"), (b"Sec-WebSocket-Version", b"7")),
            426,
            id="version",
        ),
    ],
)
@pytest.mark.rule("R323")
async def test_unsound_handshake_never_reaches_the_upstream(data: bytes, status: int, tmp_path: Path) -> None:
    """400, or 426 with the version that is served."""
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        response = await client.exchange(data)
        assert response.status == status
        if status == 426:
            assert response.one(b"sec-websocket-version") == b"13"
            assert response.one(b"upgrade") == b"websocket"
            assert b"Upgrade" in response.all(b"connection")
        else:
            assert await client.at_end()
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("credentials", "status", "reason"),
    [
        pytest.param([], 401, "no_credential", id="none"),
        pytest.param([(b"Authorization", b"Bearer a.b.c")], 401, "bad_encoding", id="bad"),
        pytest.param([(b"Authorization", b"Basic eDp5")], 401, "other_scheme", id="another-scheme"),
        pytest.param([(b"Sec-WebSocket-Protocol", b"bearer, TOKEN")], 401, "no_credential", id="not-offered-here"),
    ],
)
@pytest.mark.rule("R322", "C64")
async def test_without_a_good_token_there_is_no_connection_to_the_upstream(
    credentials: list[tuple[bytes, bytes]], status: int, reason: str, tmp_path: Path
) -> None:
    """Before 101 and before anything else."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token = gateway.token()
        _, response = await shake(
            gateway, "/", *((name, value.replace(b"TOKEN", token)) for name, value in credentials)
        )
        log = await gateway.log()
    assert response.status == status
    assert response.one(b"www-authenticate") is not None
    assert log[0]["reason"] == reason
    assert upstream.connections == 0


@pytest.mark.rule("R327")
async def test_token_among_the_subprotocols_is_the_credential_and_stays_here(tmp_path: Path) -> None:
    """The browser gets `bearer` back; the upstream sees neither of the two, and no log the token."""
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PROTOCOL_TOKEN) as gateway:
        token = gateway.token(sub="bob").decode()
        async with dial(gateway, subprotocols=["bearer", token]) as client:
            assert client.subprotocol == "bearer"
            await client.send("hello")
            assert await client.recv() == "hello"
        log = await gateway.log()
    assert "Sec-WebSocket-Protocol" not in upstream.requests[0].headers
    assert upstream.requests[0].headers["X-User-Id"] == "bob"
    assert token not in str(upstream.requests[0].headers)
    assert token not in str(log)


@pytest.mark.rule("R325", "R327")
async def test_other_subprotocols_beside_the_token_are_still_the_upstreams_choice(tmp_path: Path) -> None:
    async with (
        socket_upstream(subprotocols=["v1"]) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PROTOCOL_TOKEN) as gateway,
    ):
        token = gateway.token().decode()
        async with dial(gateway, subprotocols=["bearer", token, "v2", "v1"]) as client:
            assert client.subprotocol == "v1"
        async with dial(gateway, token=token.encode(), subprotocols=["v2", "v1"]) as client:
            assert client.subprotocol == "v1"
    assert [received.headers["Sec-WebSocket-Protocol"] for received in upstream.requests] == ["v2, v1"] * 2


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        pytest.param([b"bearer, TOKEN", None], 400, "several_credentials", id="and-authorization"),
        pytest.param([b"bearer, TOKEN, bearer, TOKEN"], 400, "several_credentials", id="twice"),
        pytest.param([b"bearer"], 400, "malformed_authorization", id="nothing-behind"),
        pytest.param([b"bearer, a.b.c"], 401, "bad_encoding", id="bad"),
        pytest.param([b"v1, v2"], 401, "no_credential", id="none"),
    ],
)
@pytest.mark.rule("R327", "R102")
async def test_token_among_the_subprotocols_is_judged_like_any_other(
    headers: list[bytes | None], status: int, reason: str, tmp_path: Path
) -> None:
    """Exactly one credential; nothing of a refused one reaches the upstream."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PROTOCOL_TOKEN) as gateway:
        token = gateway.token()
        fields = [
            (b"Authorization", b"Bearer " + token)
            if value is None
            else (b"Sec-WebSocket-Protocol", value.replace(b"TOKEN", token))
            for value in headers
        ]
        _, response = await shake(gateway, "/", *fields)
        log = await gateway.log()
    assert (response.status, log[0]["reason"]) == (status, reason)
    assert token.decode() not in str(log)
    assert upstream.connections == 0


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        pytest.param(["https://app.test"], b"https://evil.test", 403, id="unlisted"),
        pytest.param(["https://app.test"], b"https://app.test", 200, id="listed"),
        pytest.param(["*"], b"https://evil.test", 200, id="any"),
        pytest.param([], b"https://evil.test", 200, id="no-rule"),
        pytest.param(["https://app.test"], None, 200, id="no-browser"),
    ],
)
@pytest.mark.rule("R322")
async def test_pages_that_a_route_does_not_list_get_no_websocket(
    origins: list[str], origin: bytes | None, status: int, tmp_path: Path
) -> None:
    """RFC 6455 section 10.2: browsers do not ask before they open one."""
    routes = ({"path": "/", "cors_origins": origins},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        fields = [] if origin is None else [(b"Origin", origin)]
        _, response = await shake(gateway, "/", *fields, token=gateway.token())
    assert response.status == status
    assert len(upstream.requests) == (status == 200)
