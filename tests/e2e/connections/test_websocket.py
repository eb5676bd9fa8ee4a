"""WebSockets through the gateway: the handshake and what passes, with clients and servers of other projects."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from gateway.http1.websocket import accept_value
from tests.support.certificates import authority
from tests.support.clients.proving import bound_token, proof_for
from tests.support.clients.websockets import (
    HANDSHAKE,
    KEY,
    PUBLIC,
    SWITCHING,
    close_of,
    dial,
    echo,
    shake,
    socket_upstream,
)
from tests.support.gateways.running import RawClient, request, running_gateway, until
from tests.support.socket_buffers import MIB
from tests.support.tokens.proofs import with_proof
from tests.support.upstreams.recording import Received, raw_upstream


@pytest.mark.rule("R326", "C64")
async def test_ten_thousand_messages_come_back_in_order(tmp_path: Path) -> None:
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        async with dial(gateway, token=gateway.token(), compression=None) as client:

            async def send() -> None:
                for number in range(10_000):
                    await client.send(f"message {number}")

            sending = asyncio.ensure_future(send())
            for number in range(10_000):
                assert await client.recv() == f"message {number}"
            await sending
        log = await gateway.log()
    assert upstream.ends == [(1000, "")]
    assert (log[0]["status"], log[0]["outcome"], log[0]["reason"]) == (101, "forwarded", "client_closed")
    assert log[0]["bytes_in"] > 100_000
    assert log[0]["bytes_out"] > 100_000


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.rule("R325", "R326", "C64")
async def test_large_text_and_binary_messages_come_back_intact(compression: str | None, tmp_path: Path) -> None:
    """5 MB and 16 MiB, compressed by the two ends or not."""
    large = hashlib.shake_256(b"x").digest(5_000_000)
    options: dict[str, Any] = {"max_size": 17 * MIB, "compression": compression}
    messages = (large, large[:65_535], large[:126], b"", "text \u2603" * 100_000, large * 3 + bytes(1_777_216))
    async with (
        socket_upstream(**options) as upstream,
        running_gateway(upstream.url, tmp_path) as gateway,
        dial(gateway, token=gateway.token(), **options) as client,
    ):
        for message in messages:
            await client.send(message)
            assert await client.recv() == message
        assert client.response is not None
        extensions = client.response.headers.get("Sec-WebSocket-Extensions", "")
    assert ("permessage-deflate" in extensions) is (compression == "deflate")
    assert upstream.ends == [(1000, "")]


@pytest.mark.parametrize(
    ("served", "offered", "chosen"),
    [
        pytest.param(["v1"], ["v2", "v1"], "v1", id="upstream-picks"),
        pytest.param([], [], None, id="none-offered"),
        pytest.param([], ["v2"], None, id="none-picked"),
    ],
)
@pytest.mark.rule("R325", "C64")
async def test_subprotocol_is_the_upstreams_choice(
    served: list[str], offered: list[str], chosen: str | None, tmp_path: Path
) -> None:
    """The gateway neither picks nor invents one."""
    async with (
        socket_upstream(subprotocols=served) as upstream,
        running_gateway(upstream.url, tmp_path) as gateway,
        dial(gateway, token=gateway.token(), subprotocols=offered) as client,
    ):
        assert client.subprotocol == chosen
        assert client.response is not None
        assert ("Sec-WebSocket-Protocol" in client.response.headers) is (chosen is not None)
    assert upstream.requests[0].headers.get("Sec-WebSocket-Protocol") == (", ".join(offered) or None)


@pytest.mark.rule("R322", "R325", "R340")
async def test_upstream_sees_the_identity_and_the_handshake_but_no_token(tmp_path: Path) -> None:
    """The same header rules as for any request."""
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        _, response = await shake(
            gateway, "/a?b=c", (b"X-User-Id", b"forged"), (b"HTTP2-Settings", b"AAAA"), token=gateway.token(sub="alice")
        )
    received = upstream.requests[0].headers
    assert upstream.requests[0].path == "/a?b=c"
    assert received.get_all("X-User-Id") == ["alice"]
    assert received.get_all("Upgrade") == ["websocket"]
    assert received.get_all("Connection") == ["Upgrade"]
    assert received["Sec-WebSocket-Key"] == KEY.decode()
    assert "Authorization" not in received
    assert "HTTP2-Settings" not in received
    assert response.status == 101
    assert response.all(b"upgrade") == [b"websocket"]
    assert response.all(b"connection") == [b"Upgrade"]
    assert response.all(b"sec-websocket-accept") == [accept_value(KEY)]
    assert response.all(b"content-length") == []


@pytest.mark.rule("R321")
async def test_frames_that_come_with_the_handshake_reach_the_upstream_behind_it(tmp_path: Path) -> None:
    """Held until the upstream has answered, and never read as a request."""
    frame = b"\x81\x85\0\0\0\0hello"
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client, response = await shake(gateway, token=gateway.token(), behind=frame + frame[:3])
        assert response.status == 101
        assert await client.reader.readexactly(7) == b"\x81\x05hello"
        await client.send(frame[3:])
        assert await client.reader.readexactly(7) == b"\x81\x05hello"
    assert len(upstream.requests) == 1


@pytest.mark.rule("R321", "R326")
async def test_what_comes_too_early_is_held_within_a_bound(tmp_path: Path) -> None:
    """A client that floods before it is answered is not read any more; then nothing is missing."""
    answer = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        writer.write(SWITCHING)
        await reader.readexactly(len(flood))
        writer.write(b"\x81\x04done")
        await reader.read()

    flood = b"\x82\xff" + (8 * MIB).to_bytes(8) + bytes(4 + 8 * MIB)
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        client.writer.write(request(b"GET", "/", *HANDSHAKE) + flood)
        await asyncio.wait_for(upstream.got_request.wait(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.writer.drain(), 0.3)
        answer.set()
        assert (await client.response()).status == 101
        assert await asyncio.wait_for(client.reader.readexactly(6), 10) == b"\x81\x04done"


@pytest.mark.rule("R321", "R324")
async def test_declined_handshakes_do_not_lose_what_is_behind_them(tmp_path: Path) -> None:
    """Each in its turn, judged as requests."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token, client = gateway.token(), await gateway.client()
        plain = request(b"GET", "/plain", token=token)
        hand = request(b"GET", "/hand", *HANDSHAKE, token=token)
        await client.send(plain + hand + plain + hand + hand + request(b"POST", "/post", token=token))
        statuses = [(await client.response()).status for _ in range(6)]
    assert statuses == [200] * 6
    assert [received.target for received in upstream.requests] == [
        *(b"/plain", b"/hand", b"/plain", b"/hand", b"/hand", b"/post")
    ]


@pytest.mark.parametrize("code", [1000, 4001])
@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.rule("R326", "C64")
async def test_close_code_and_reason_pass_in_both_directions(side: str, code: int, tmp_path: Path) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code, "so long")

    async with (
        socket_upstream(close if side == "upstream" else echo) as upstream,
        running_gateway(upstream.url, tmp_path) as gateway,
    ):
        async with dial(gateway, token=gateway.token()) as client:
            if side == "client":
                await client.close(code, "so long")
            assert await close_of(client) == (code, "so long")
        await until(lambda: upstream.ends == [(code, "so long")], within=1)
        log = await gateway.log()
    assert log[0]["reason"] == f"{side}_closed"


@pytest.mark.rule("R326")
async def test_pings_and_fragments_pass_as_they_are(tmp_path: Path) -> None:
    """Pongs come from the upstream, fragments with control frames between them arrive whole."""
    async with (
        socket_upstream() as upstream,
        running_gateway(upstream.url, tmp_path) as gateway,
        dial(gateway, token=gateway.token()) as client,
    ):
        pong = await client.ping(b"are you there")
        await asyncio.wait_for(pong, 5)

        pongs = []

        async def pieces() -> Any:
            for number in range(100):
                yield f"{number},"
                pongs.append(await client.ping())

        await client.send(pieces())
        assert await client.recv() == "".join(f"{number}," for number in range(100))
        await asyncio.wait_for(asyncio.gather(*pongs), 5)
    assert upstream.ends == [(1000, "")]


@pytest.mark.rule("R325", "R326")
async def test_websocket_over_tls_on_both_sides(tmp_path: Path) -> None:
    """wss to the gateway, wss to the upstream."""
    ca = authority(tmp_path)
    front, back = ca.sign("front", "127.0.0.1"), ca.sign("back", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(back.cert, back.key)
    trust = ssl.create_default_context(cafile=str(ca.bundle))
    async with (
        socket_upstream(ssl=context, max_size=3 * MIB) as upstream,
        running_gateway(
            upstream.url.replace("http", "https"),
            tmp_path,
            server={"tls_cert": str(front.cert), "tls_key": str(front.key)},
            upstream={"tls_ca_file": str(ca.bundle)},
        ) as gateway,
    ):
        async with dial(gateway, token=gateway.token(), ssl=trust, max_size=3 * MIB) as client:
            for message in ("hello", bytes(2 * MIB)):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4002, "done")
        await until(lambda: upstream.ends == [(4002, "done")], within=1)
        log = await gateway.log()
    assert log[0]["reason"] == "client_closed"


@pytest.mark.rule("R326")
async def test_thousand_idle_tunnels_do_not_hinder_requests(tmp_path: Path) -> None:
    """A tunnel takes no place of the pool and none of the running requests; all of them end with the gateway."""
    async with raw_upstream(respond_all) as upstream:
        async with running_gateway(
            upstream.url,
            tmp_path,
            routes=PUBLIC,
            upstream={"pool_size": 4},
            server={"max_concurrent_requests": 8},
        ) as gateway:
            clients: list[RawClient] = []
            for _ in range(250):
                answers = await asyncio.gather(*(shake(gateway) for _ in range(4)))
                assert {response.status for _, response in answers} == {101}
                clients += [client for client, _ in answers]
            assert gateway.app.telemetry.tunnels == 1000
            for number in range(20):
                assert (await gateway.get(f"/{number}")).status == 200
            assert gateway.app.telemetry.running == 0
            assert b"gateway_open_tunnels 1000.0" in (await gateway.admin("/metrics")).body
            for client in clients:
                client.writer.close()
            await until(lambda: gateway.app.telemetry.tunnels == 0)
            assert len(await gateway.log(1020)) == 1020
        await until(lambda: upstream.open_connections == 0)


async def respond_all(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Open a WebSocket for every client that asks, and never say anything over it; answer other requests."""
    if not received.all(b"upgrade"):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    writer.write(SWITCHING)
    await reader.read()
    return None


@pytest.mark.rule("R133", "R135")
async def test_a_handshake_with_a_bound_token_needs_its_proof_and_no_more_than_one(tmp_path: Path) -> None:
    """By either name of the URL; among the subprotocols no proof can be shown."""
    routes = ({"path": "/", "websocket_protocol_token": True},)
    async with socket_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        token = bound_token(gateway)
        base = f"127.0.0.1:{gateway.app.port}"
        for scheme in ("ws", "http"):
            fields = with_proof(token, proof_for(token, base=f"{scheme}://{base}"))
            headers = {name.decode(): value.decode() for name, value in fields}
            async with dial(gateway, headers=headers) as client:
                for _ in range(3):
                    await client.send("hello")
                    assert await client.recv() == "hello"
        for more in (
            (b"Authorization", b"Bearer " + token),
            (b"Authorization", b"DPoP " + token),
            (b"Sec-WebSocket-Protocol", b"bearer, " + token),
        ):
            _, refused = await shake(gateway, "/", more)
            assert (refused.status, refused.all(b"www-authenticate")[0][:5]) == (401, b"DPoP ")
    assert len(upstream.ends) == 2
