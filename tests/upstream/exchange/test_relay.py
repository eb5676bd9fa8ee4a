"""Content on its way to a client: framing, counting, and an honest end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.plain_response import HeadMemory
from gateway.tasks import spawn
from gateway.upstream.exchange.exchange import exchange
from gateway.upstream.exchange.relay import relay
from gateway.upstream.exchange.reply import Reply
from gateway.upstream.pool.connection import BUFFER
from tests.support.clock import eventually
from tests.support.upstreams.recording import Received, breaking_off, raw_upstream
from tests.upstream.exchange.test_exchange import Pieces
from tests.upstream.pools import GET, opened


class Client:
    """Takes what is written; may leave."""

    def __init__(self, leaves_after: int | None = None) -> None:
        self.writes: list[bytes] = []
        self.leaves_after = leaves_after

    async def write(self, data: bytes) -> None:
        if self.leaves_after is not None and len(self.writes) >= self.leaves_after:
            raise ConnectionResetError
        self.writes.append(data)
        await asyncio.sleep(0)


HEAD = b"HEAD "


async def replied(origin: Any, **options: Any) -> Reply:
    facts: dict[str, Any] = {"head_only": False, "response_timeout": 5, "idle_timeout": 5, **options}
    return await exchange(await origin.lease(), GET, None, **facts)


def answering(data: bytes, *, closes: bool = False) -> Any:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if not closes:
            return data
        writer.write(data)
        await writer.drain()
        return None

    return respond


WHOLE = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd", False, False, b"abcd", id="length"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, False, b"", id="empty"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        False,
        True,
        b"4\r\nabcd\r\n0\r\n\r\n",
        id="chunked",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False, True, b"0\r\n\r\n", id="no-chunks"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
        False,
        False,
        b"abcd",
        id="plain",
    ),
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\nabcd", True, True, b"4\r\nabcd\r\n0\r\n\r\n", id="until-close"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", False, False, b"", id="204"),
]


@pytest.mark.parametrize(("data", "closes", "chunked", "expected"), WHOLE)
@pytest.mark.rule("R287", "R288", "R289", "R301", "R328")
async def test_whole_response_is_sent_once_and_its_connection_comes_back(
    data: bytes, closes: bool, chunked: bool, expected: bytes
) -> None:
    """Small ones leave in one write with their head."""
    async with raw_upstream(answering(data, closes=closes)) as upstream, opened(upstream.url) as origin:
        reply = await replied(origin)
        if closes:
            await eventually(reply.content.is_eof)
        client = Client()
        await relay(reply, HEAD, client.write, chunked=chunked)
        assert client.writes == [HEAD + expected]
        assert reply.relayed == (0 if not expected or expected == b"0\r\n\r\n" else 4)
        assert (origin.state().in_use, origin.state().idle) == (0, 0 if closes else 1)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.rule("R429")
async def test_no_piece_is_larger_than_a_client_may_leave_waiting(chunked: bool) -> None:
    """Whatever the kernel hands over at once; a client that takes nothing keeps all of a piece in memory."""
    content = b"a" * (5 * BUFFER + 1)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content)
    data = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    data += b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if chunked else content
    async with raw_upstream(answering(data)) as upstream, opened(upstream.url) as origin:
        client = Client()
        reply = await replied(origin)
        assert not reply.bodyless
        await eventually(lambda: reply.content.total_bytes > BUFFER)  # much is there before it is relayed
        await relay(reply, HEAD, client.write, chunked=False)
    assert b"".join(client.writes) == HEAD + content
    assert max(map(len, client.writes)) <= BUFFER + len(HEAD)


@pytest.mark.rule("R281")
async def test_head_does_not_wait_for_content() -> None:
    """It goes out while nothing of the content is there."""
    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await release.wait()
        return b"abcd"

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        running = asyncio.ensure_future(relay(reply, HEAD, client.write, chunked=False))
        await eventually(lambda: client.writes == [HEAD])
        release.set()
        await running
        assert client.writes == [HEAD, b"abcd"]


BROKEN = [
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd", Reasons.UPSTREAM_DISCONNECTED, id="length"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
        Reasons.UPSTREAM_DISCONNECTED,
        id="chunked",
    ),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("data", "reason"), BROKEN)
@pytest.mark.rule("R286")
async def test_response_that_breaks_off_is_a_fault_and_never_gets_its_end(
    data: bytes, reason: Reason, chunked: bool
) -> None:
    """No last chunk, and the connection is closed."""
    async with raw_upstream(answering(data, closes=True)) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        with pytest.raises(GatewayError) as raised:
            await relay(reply, HEAD, client.write, chunked=chunked)
        assert raised.value.reason is reason
        assert b"0\r\n\r\n" not in b"".join(client.writes)
        assert (origin.state().in_use, origin.state().idle) == (0, 0)


@pytest.mark.parametrize("data", [fault.values[0] for fault in BROKEN], ids=[fault.id for fault in BROKEN])
@pytest.mark.rule("R426")
async def test_response_that_is_known_to_be_broken_is_not_begun(data: bytes) -> None:
    """Nothing was sent, so that the client can be given a 502."""
    async with raw_upstream(answering(data, closes=True)) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        await eventually(lambda: reply.content.exception() is not None)
        with pytest.raises(GatewayError) as raised:
            await relay(reply, HEAD, client.write, chunked=False)
        assert raised.value.reason is Reasons.UPSTREAM_DISCONNECTED
        assert (client.writes, reply.begun, reply.relayed, reply.delivered) == ([], False, 0, False)
        assert origin.state().in_use == 0


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.rule("R426", "C116")
async def test_content_without_length_is_passed_on_as_far_as_it_came(chunked: bool) -> None:
    """The head and what came, in one write, and no end."""
    go = asyncio.Event()
    respond = breaking_off(b"HTTP/1.1 200 OK\r\n\r\nabcd", go)
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        go.set()
        await eventually(reply.content.is_eof)
        with pytest.raises(GatewayError) as raised:
            await relay(reply, HEAD, client.write, chunked=chunked)
        assert (raised.value.reason, raised.value.detail) == (Reasons.UPSTREAM_DISCONNECTED, "content broke off")
        assert client.writes == [HEAD + (b"4\r\nabcd\r\n" if chunked else b"abcd")]
        assert (reply.begun, reply.relayed, reply.delivered) == (True, 4, False)


EARLY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 9\r\n\r\n"


async def uploading(origin: Any, content: Pieces) -> Reply:
    return await exchange(await origin.lease(), POST, content, head_only=False, response_timeout=5, idle_timeout=5)


@pytest.mark.parametrize("at", ["after the answer", "while the client takes it"])
@pytest.mark.rule("R427")
async def test_upload_ends_behind_an_early_answer(at: str) -> None:
    """The client has the answer at once, the upstream all of the content, and the connection serves no other."""
    taken = asyncio.Event()
    taken.set()

    class SlowClient(Client):
        async def write(self, data: bytes) -> None:
            await super().write(data)
            await taken.wait()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EARLY)
        received.body = await reader.read()

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        content, client = Pieces(b"abc", chunked=False), SlowClient()
        reply = await uploading(origin, content)
        if at == "while the client takes it":
            taken.clear()
        running = spawn(relay(reply, HEAD, client.write, chunked=False, idle_timeout=5), "relays", awaited=True)
        await eventually(lambda: client.writes == [HEAD + b"ok"])
        assert not running.done()
        content.add(b"defghi")
        content.add(b"")
        if at == "while the client takes it":
            assert reply.upload is not None
            await reply.upload.task
        taken.set()
        await running
        assert (reply.delivered, reply.relayed) == (True, 2)
        assert (origin.state().in_use, origin.state().idle) == (0, 0)
        await eventually(lambda: upstream.requests[0].body == b"abcdefghi")


@pytest.mark.rule("R427")
async def test_upload_that_stands_still_behind_an_early_answer_is_broken_off() -> None:
    """Bounded by the idle timeout; the upstream's request never looks complete."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EARLY)
        received.body = await reader.read()

    async with raw_upstream(respond, early=True) as upstream, opened(upstream.url) as origin:
        reply, client = await uploading(origin, Pieces(b"abc", chunked=False)), Client()
        async with asyncio.timeout(5):
            await relay(reply, HEAD, client.write, chunked=False, idle_timeout=0.05)
        assert (reply.delivered, origin.state().in_use, origin.state().idle) == (True, 0, 0)
        await eventually(lambda: upstream.requests[0].body == b"abc" and upstream.open_connections == 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcd", Reasons.UPSTREAM_TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", Reasons.UPSTREAM_TIMEOUT),
    ],
)
@pytest.mark.rule("R315")
async def test_stalled_content_is_a_timeout(data: bytes, reason: Reason) -> None:
    """idle_timeout_seconds between two reads."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin, idle_timeout=0.05), Client()
        with pytest.raises(GatewayError) as raised:
            await relay(reply, HEAD, client.write, chunked=False)
        assert raised.value.reason is reason
        assert reply.relayed == 4
        await eventually(lambda: upstream.open_connections == 0)


@pytest.mark.rule("R286")
async def test_chunks_that_make_no_sense_are_a_protocol_fault() -> None:
    """The reader learns of it at once, though the upstream keeps the connection open."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n")
        await writer.drain()
        await go.wait()
        writer.write(b"zz\r\n")
        await reader.read()

    go = asyncio.Event()
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        go.set()
        with pytest.raises(GatewayError) as raised:
            await relay(reply, HEAD, client.write, chunked=True)
        assert raised.value.reason is Reasons.UPSTREAM_PROTOCOL
        assert not b"".join(client.writes).endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("leaves_after", [0, 1])
@pytest.mark.rule("R285")
async def test_client_that_leaves_ends_the_upstream_connection(leaves_after: int) -> None:
    """CWE-772: what the upstream still wants to send is not read."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4\r\nabcd\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client(leaves_after)
        with pytest.raises(ConnectionResetError):
            await relay(reply, HEAD, client.write, chunked=True)
        assert len(client.writes) == leaves_after
        assert (origin.state().in_use, origin.state().idle) == (0, 0)
        await eventually(lambda: upstream.open_connections == 0)


@pytest.mark.rule("R426")
async def test_client_that_leaves_at_the_last_byte_costs_no_connection() -> None:
    """The upstream's connection is back already, and only what the client took is counted."""
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
    async with raw_upstream(answering(data)) as upstream, opened(upstream.url) as origin:
        reply = await replied(origin)
        with pytest.raises(ConnectionResetError):
            await relay(reply, HEAD, Client(0).write, chunked=False)
        assert (reply.relayed, reply.delivered) == (0, False)
        assert (origin.state().in_use, origin.state().idle) == (0, 1)


@pytest.mark.parametrize("heads", [None, HeadMemory(lambda head: HEAD)], ids=["parser", "whole"])
async def test_client_that_leaves_at_the_last_byte_does_not_end_the_next_exchange(heads: HeadMemory | None) -> None:
    """While it was waited for, its upstream's connection may have been given to another request."""
    leaves = asyncio.Event()

    async def write(data: bytes) -> None:
        await leaves.wait()
        raise ConnectionResetError

    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        running = asyncio.ensure_future(relay(await replied(origin, heads=heads), HEAD, write, chunked=False))
        await eventually(lambda: origin.state().idle == 1)
        other = await replied(origin, heads=heads)
        leaves.set()
        with pytest.raises(ConnectionResetError):
            await running
        client = Client()
        await relay(other, HEAD, client.write, chunked=False)
        assert client.writes == [HEAD + b"ok"]
        assert (upstream.connections, origin.state().in_use, origin.state().idle) == (1, 0, 1)


@pytest.mark.rule("R285")
async def test_cancelled_relay_frees_the_upstream() -> None:
    """The handler is cancelled when its client leaves."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await reader.read()

    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        reply, client = await replied(origin), Client()
        running = asyncio.ensure_future(relay(reply, HEAD, client.write, chunked=False))
        await eventually(lambda: client.writes)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 0)
