"""An open tunnel between two real connections, and every way in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest
from aiohttp.base_protocol import BaseProtocol

from gateway.errors import Ending
from gateway.http1.websocket import MAX_FRAMES_PER_TURN, FrameTracker, close_frame
from gateway.server.websocket import tunnel as module
from gateway.server.websocket.close_reasons import DRAINED
from gateway.server.websocket.tunnel import Side, Tunnel, end_all
from tests.support.gateways.running import RawClient, until

GOODBYE = Ending("tested", 4000, b"bye")
FROM_CLIENT = b"\x81\x82\0\0\0\0hi"
FROM_UPSTREAM = b"\x81\x02hi"
CLIENT_CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
UPSTREAM_CLOSE = b"\x88\x02\x03\xe8"


class Owner(BaseProtocol):
    """Whose connection it was: knows when it was lost, and which other calls it got."""

    def __init__(self, *, paused: bool = False) -> None:
        super().__init__(asyncio.get_running_loop())
        self._paused = paused
        self.lost: list[BaseException | None] = []

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)
        super().connection_lost(exc)


@dataclass
class Joined:
    """A tunnel, and the two far ends of its connections."""

    tunnel: Tunnel
    client: RawClient
    upstream: RawClient

    def owner(self, name: str) -> Owner:
        side = self.tunnel.client if name == "client" else self.tunnel.upstream
        assert isinstance(side.owner, Owner)
        return side.owner

    def far(self, name: str) -> RawClient:
        return self.client if name == "client" else self.upstream

    async def over(self, within: float = 1) -> None:
        await asyncio.wait_for(asyncio.shield(self.tunnel.over), within)


@contextlib.asynccontextmanager
async def joined(
    *, max_message: int = 0, early: bytes = b"", tail: bytes = b"", paused: bool = False
) -> AsyncIterator[Joined]:
    """Two connections, joined; ``paused``: the client cannot take more at first."""
    transports: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

    class Accept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.put_nowait(cast(asyncio.Transport, transport))

    server = await asyncio.get_running_loop().create_server(Accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    near = await transports.get()
    upstream = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    far = await transports.get()
    tunnel = Tunnel(
        Side("client", near, Owner(paused=paused), max_message), Side("upstream", far, Owner(), max_message)
    )
    tunnel.open(b"head\r\n", early, tail)
    assert await client.reader.readexactly(6) == b"head\r\n"
    try:
        yield Joined(tunnel, client, upstream)
    finally:
        await client.close()
        await upstream.close()
        server.close()
        near.abort()
        far.abort()
        await asyncio.wait_for(asyncio.shield(tunnel.over), 1)
        await asyncio.sleep(0)


async def received(far: RawClient, count: int) -> bytes:
    return await asyncio.wait_for(far.reader.readexactly(count), 1)


async def rest(far: RawClient) -> bytes:
    """What still comes, up to the end."""
    return await asyncio.wait_for(far.reader.read(), 1)


@pytest.mark.rule("R326")
async def test_bytes_pass_both_ways_and_are_counted() -> None:
    """What came early first."""
    async with joined(early=FROM_CLIENT, tail=FROM_UPSTREAM) as it:
        await it.client.send(b"\x82\x80\0\0\0\0")
        await it.upstream.send(b"\x82\x00")
        assert await received(it.upstream, 14) == FROM_CLIENT + b"\x82\x80\0\0\0\0"
        assert await received(it.client, 6) == FROM_UPSTREAM + b"\x82\x00"
        assert (it.tunnel.client.passed, it.tunnel.upstream.passed) == (14, 6)
        assert it.tunnel.cause == ""


EMPTY = {"client": b"\x82\x80\0\0\0\0", "upstream": b"\x82\x00"}


@pytest.mark.parametrize("end", ["eof", "reset", "open"])
@pytest.mark.parametrize("name", ["client", "upstream"])
@pytest.mark.rule("R429")
async def test_frames_of_nothing_are_followed_in_turns_and_all_arrive(
    name: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read full of them would hold all others up; how the connection ends makes no difference to them."""
    followed: list[int] = []
    feed = FrameTracker.feed

    def counted(tracker: FrameTracker, data: bytes) -> bytes:
        passed = feed(tracker, data)
        followed.append(len(passed))
        return passed

    monkeypatch.setattr(FrameTracker, "feed", counted)
    async with joined() as it:
        frames, other = EMPTY[name] * 30_000, it.far("upstream" if name == "client" else "client")
        it.far(name).writer.write(frames)
        await it.far(name).writer.drain()
        await until(lambda: bool(followed))
        if end == "eof":
            it.far(name).writer.write_eof()
        elif end == "reset":
            await until(lambda: (side := getattr(it.tunnel, name)).passed + len(side.tracker.rest) == len(frames))
            it.far(name).writer.transport.abort()
        assert await received(other, len(frames)) == frames
        assert max(followed) <= (MAX_FRAMES_PER_TURN + 1) * len(EMPTY[name])
        if end != "open":
            await other.close()
            await it.over()
            assert it.tunnel.cause == f"{name}_closed"


@pytest.mark.rule("R429")
async def test_frames_that_cannot_be_delivered_any_more_are_not_followed_to_their_end() -> None:
    """When both ends have left, there is nothing to do."""
    async with joined() as it:
        side = it.tunnel.client
        side.data_received(EMPTY["client"] * 30_000)
        left = len(side.tracker.rest)
        assert left
        it.tunnel.upstream.transport.abort()
        side.transport.abort()
        await it.over()
        assert len(side.tracker.rest) > left - 3 * MAX_FRAMES_PER_TURN * 6


@pytest.mark.parametrize("name", ["client", "upstream"])
@pytest.mark.rule("R326")
async def test_end_of_one_connection_is_the_end_of_the_other(name: str) -> None:
    """Both owners are notified, the client's when all is over."""
    async with joined() as it:
        other = "upstream" if name == "client" else "client"
        await it.far(name).close()
        assert await rest(it.far(other)) == b""
        await it.far(other).close()
        await it.over()
        assert it.tunnel.cause == f"{name}_closed"
        await until(lambda: it.owner("client").lost == it.owner("upstream").lost == [None], within=1)


@pytest.mark.parametrize("name", ["client", "upstream"])
@pytest.mark.rule("R326")
async def test_what_was_said_before_the_end_still_arrives(name: str) -> None:
    """Nothing is lost with the connection that brought it."""
    async with joined() as it:
        other = "upstream" if name == "client" else "client"
        frame = b"\x82\x7f" + (1 << 20).to_bytes(8) + bytes(1 << 20)
        it.far(name).writer.write(frame)
        it.far(name).writer.close()
        assert await rest(it.far(other)) == frame


@pytest.mark.rule("R326")
async def test_side_that_said_goodbye_and_half_closed_gets_the_answer() -> None:
    """Then both are closed."""
    async with joined() as it:
        await it.client.send(CLIENT_CLOSE)
        it.client.writer.write_eof()
        assert await rest(it.upstream) == CLIENT_CLOSE
        await it.upstream.send(FROM_UPSTREAM + UPSTREAM_CLOSE)
        it.upstream.writer.write_eof()
        assert await rest(it.client) == FROM_UPSTREAM + UPSTREAM_CLOSE
        await it.over()
        assert it.tunnel.cause == "client_closed"


@pytest.mark.rule("R326")
async def test_answer_that_never_comes_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-closed connections have a bound."""
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.05)
    async with joined() as it:
        await it.client.send(CLIENT_CLOSE)
        it.client.writer.write_eof()
        assert await rest(it.client) == b""
        await it.over()


@pytest.mark.rule("C65", "R326")
async def test_gateways_goodbye_goes_to_both_and_their_answers_end_it() -> None:
    """Masked towards the upstream; nothing passes any more."""
    async with joined() as it:
        it.tunnel.end(GOODBYE)
        it.tunnel.end(DRAINED)  # too late
        assert await received(it.client, 7) == close_frame(4000, b"bye", masked=False)
        assert (await received(it.upstream, 11))[:2] == b"\x88\x85"
        await it.client.send(FROM_CLIENT + CLIENT_CLOSE)
        await it.upstream.send(FROM_UPSTREAM)
        assert not it.tunnel.over.done()
        await it.upstream.send(UPSTREAM_CLOSE)
        assert await rest(it.client) == b""
        assert await rest(it.upstream) == b""
        await it.over()
        assert (it.tunnel.cause, it.tunnel.client.passed, it.tunnel.upstream.passed) == ("tested", 0, 0)


@pytest.mark.rule("R326")
async def test_goodbye_is_not_said_twice_in_the_name_of_one_side() -> None:
    """A client that has closed already, and an upstream that has not answered."""
    async with joined() as it:
        await it.client.send(CLIENT_CLOSE)
        assert await received(it.upstream, 8) == CLIENT_CLOSE
        it.tunnel.end(GOODBYE)
        assert await received(it.client, 7) == close_frame(4000, b"bye", masked=False)
        await it.upstream.send(UPSTREAM_CLOSE)
        assert await rest(it.upstream) == b""
        assert await rest(it.client) == b""
        assert it.tunnel.cause == "client_closed"


@pytest.mark.rule("R326")
async def test_side_that_leaves_instead_of_answering_does_not_take_the_goodbye_from_the_other() -> None:
    """The other one is still waited for."""
    async with joined() as it:
        it.tunnel.end(GOODBYE)
        await it.upstream.close()
        await until(lambda: it.tunnel.upstream.lost, within=1)
        assert not it.tunnel.client.transport.is_closing()
        await it.client.send(CLIENT_CLOSE)
        assert await rest(it.client) == close_frame(4000, b"bye", masked=False)
        await it.over()


@pytest.mark.rule("R326")
async def test_goodbye_that_nobody_answers_ends_with_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.05)
    async with joined() as it:
        it.tunnel.end(GOODBYE)
        assert await it.client.at_end(within=1) is False  # the goodbye
        await it.over()


@pytest.mark.rule("R326")
async def test_frame_that_breaks_off_behind_a_goodbye_ends_the_other_side_at_once() -> None:
    """No goodbye can stand in the middle of a frame."""
    async with joined() as it:
        await it.client.send(FROM_CLIENT[:-1])
        await received(it.upstream, 7)
        it.tunnel.end(GOODBYE)
        await it.client.close()
        assert await rest(it.upstream) == b""
        await it.upstream.close()
        await it.over()
        assert it.tunnel.cause == "tested"


@pytest.mark.rule("R326", "C65")
async def test_goodbye_follows_the_rest_of_the_frame_in_the_same_bytes() -> None:
    """And what stands behind that frame does not pass."""
    async with joined() as it:
        await it.upstream.send(FROM_UPSTREAM[:3])
        assert await received(it.client, 3) == FROM_UPSTREAM[:3]
        it.tunnel.end(GOODBYE)
        await it.upstream.send(FROM_UPSTREAM[3:] + FROM_UPSTREAM + UPSTREAM_CLOSE)
        assert await received(it.client, 8) == FROM_UPSTREAM[3:] + close_frame(4000, b"bye", masked=False)
        await it.client.send(CLIENT_CLOSE)
        assert await rest(it.client) == b""
        assert it.tunnel.upstream.passed == 4


@pytest.mark.parametrize(
    ("data", "cause", "code"),
    [
        pytest.param(b"\x82\x0b" + bytes(11), "too_large", 1009, id="message"),
        pytest.param(b"\x89\x7e\x00\x7e" + bytes(126), "bad_frame", 1002, id="ping"),
    ],
)
@pytest.mark.rule("R326")
async def test_frame_that_may_not_pass_ends_the_tunnel_and_nothing_of_it_passes(
    data: bytes, cause: str, code: int
) -> None:
    """In pieces or whole; a goodbye behind it is still heard."""
    async with joined(max_message=10) as it:
        await it.upstream.send(FROM_UPSTREAM + data[:5])
        assert await received(it.client, 4) == FROM_UPSTREAM
        closing = await received(it.client, 2)
        text = await received(it.client, closing[1])
        assert int.from_bytes(text[:2]) == code
        await it.upstream.send(data[5:] + UPSTREAM_CLOSE)
        await it.client.send(CLIENT_CLOSE)
        assert await rest(it.client) == b""
        assert it.tunnel.cause == cause


@pytest.mark.rule("R326")
async def test_client_that_cannot_take_more_at_first_holds_the_upstream_back() -> None:
    """The state of the connection is taken over with it."""
    async with joined(paused=True) as it:
        assert not it.tunnel.upstream.transport.is_reading()
        it.tunnel.client.resume_writing()
        assert it.tunnel.upstream.transport.is_reading()
        it.tunnel.client.pause_writing()
        assert not it.tunnel.upstream.transport.is_reading()
        it.tunnel.end(GOODBYE)  # its answer is waited for
        assert it.tunnel.upstream.transport.is_reading()


@pytest.mark.rule("R371")
async def test_cancelled_wait_cuts_both_connections() -> None:
    """The stop of the gateway."""
    async with joined() as it:
        waiting = asyncio.ensure_future(it.tunnel.run())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await it.client.at_end(within=1)
        assert await it.upstream.at_end(within=1)
        await it.over()
        assert it.tunnel.cause == "drained"


@pytest.mark.rule("R370")
async def test_all_tunnels_are_ended_together_and_waited_for_within_a_bound() -> None:
    await end_all([], DRAINED, 0.01)
    async with joined() as one, joined() as other:
        ending = asyncio.ensure_future(end_all([one.tunnel, other.tunnel], DRAINED, 0.2))
        assert (await received(one.client, 4))[2:] == (1001).to_bytes(2)
        assert (await received(other.client, 4))[2:] == (1001).to_bytes(2)
        await one.client.send(CLIENT_CLOSE)
        await one.upstream.send(UPSTREAM_CLOSE)
        await one.over()
        assert not ending.done()
        await ending
        assert not other.tunnel.over.done()
