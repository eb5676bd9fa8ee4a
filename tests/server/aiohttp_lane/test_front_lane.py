"""Nothing of what a client sends is lost when its connection returns to the lane in front."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.server.aiohttp_lane.listener import MAX_AT_ONCE_BYTES, ClientProtocol
from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import raw_upstream


@pytest.mark.rule("R214")
async def test_what_comes_while_a_connection_is_about_to_change_lanes_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """CWE-444: more than is read at once waits for a turn. Lost, and what follows of it would be taken for requests."""
    hidden = request(b"GET", "/hidden")
    body = b"x" * MAX_AT_ONCE_BYTES + hidden
    first = request(b"POST", "/first", (b"Transfer-Encoding", b"chunked")) + b"0\r\n\r\n"
    second = request(b"POST", "/second", (b"Content-Length", b"%d" % len(body))) + body
    whole = ClientProtocol.go_back

    def go_back(self: ClientProtocol, turns_left: int) -> None:
        if self.idle:
            monkeypatch.setattr(ClientProtocol, "go_back", whole)
            self.data_received(second[: -len(hidden)])
        whole(self, turns_left)

    options: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": True}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        monkeypatch.setattr(ClientProtocol, "go_back", go_back)
        assert (await client.exchange(first)).status == 200
        await asyncio.sleep(0.02)
        assert (await client.exchange(second[-len(hidden) :] + request(b"GET", "/third"))).status == 200
        assert (await client.response()).status == 200
    assert [received.target for received in upstream.requests] == [b"/first", b"/second", b"/third"]
    assert upstream.requests[1].body == body


@pytest.mark.rule("R282")
async def test_a_connection_whose_client_does_not_read_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CWE-770: the loop says only once that it should be waited for; the other protocol would write without a bound."""
    whole = ClientProtocol.go_back

    def go_back(self: ClientProtocol, turns_left: int) -> None:
        if self.idle:
            monkeypatch.setattr(ClientProtocol, "go_back", whole)
            self.pause_writing()
        whole(self, turns_left)

    options: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": True}}
    chunked = request(b"POST", "/", (b"Transfer-Encoding", b"chunked")) + b"0\r\n\r\n"
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        monkeypatch.setattr(ClientProtocol, "go_back", go_back)
        assert (await client.exchange(chunked)).status == 200
        await asyncio.sleep(0.02)
        (protocol,) = gateway.app.listener.connections
        assert isinstance(protocol, ClientProtocol)
        protocol.resume_writing()
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await until(lambda: not gateway.app.listener.connections)
        assert (await client.exchange(request(b"GET", "/"))).status == 200
