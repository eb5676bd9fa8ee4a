"""The channel between a supervisor and a worker, over a real socket pair."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway.process.channel import Channel


async def _pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.open(one), await Channel.open(other)


async def test_messages_of_any_size_arrive_whole_and_in_order() -> None:
    one, other = await _pair()
    sent = [{"number": number, "text": "x" * size} for number, size in enumerate((0, 1, 70_000, 3, 1_000_000))]
    for message in sent:
        one.send(message)
    other.send({"back": [1.5, None, True, "é"]})
    assert [await other.receive() for _ in sent] == sent
    assert await one.receive() == {"back": [1.5, None, True, "é"]}
    await one.close()
    await other.close()


@pytest.mark.parametrize("rest", [b"", b"\x00\x00", b"\x00\x00\x00\x09{"])
async def test_end_of_the_other_process_is_read_as_such_wherever_it_stopped(rest: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours)
    theirs.sendall(rest)
    theirs.close()
    with pytest.raises(EOFError):
        await asyncio.wait_for(channel.receive(), 2)
    await channel.close()


async def test_nobody_to_read_is_no_error() -> None:
    """The other process may end at any moment; who sends learns of it by reading."""
    one, other = await _pair()
    await other.close()
    for _ in range(10):
        one.send({"text": "x" * 100_000})
        await asyncio.sleep(0)
    with pytest.raises(EOFError):
        await asyncio.wait_for(one.receive(), 2)
    await one.close()
    one.send({"text": ""})
    await one.close()


async def test_what_was_sent_before_the_close_arrives() -> None:
    """A worker's last words."""
    one, other = await _pair()
    one.send({"text": "x" * 500_000})
    closing = asyncio.ensure_future(one.close())
    assert len((await other.receive())["text"]) == 500_000
    await asyncio.wait_for(closing, 2)
    await other.close()
