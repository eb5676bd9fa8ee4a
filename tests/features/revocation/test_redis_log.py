"""The log of revocations in a real Redis: written once, read page by page, published, swept."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from gateway.clock import SystemClock
from gateway.features.revocation.redis_log import Message, RevocationLog, read_message
from gateway.jwt.revocations.table import MAX_RECORDS, RECORD
from gateway.settings.tables.redis import Redis
from gateway.store.names import KEY_PREFIX
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from tests.support.stores.redis import RedisServer

LOG, EPOCH, HEAD = (f"gateway:{{revocation}}:{part}" for part in ("log", "epoch", "head"))


def record(number: int, end: int = 40_000_000) -> bytes:
    return RECORD.pack(0, number.to_bytes(15, "big"), end, 0.0)


def size(server: RedisServer) -> int:
    """Return how many records there are, without the mark among them."""
    return len(server.run("ZRANGEBYSCORE", LOG, "(0", "+inf"))


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[RedisServer, RevocationLog]]:
    async with RedisServer(folder) as server:
        link = RedisLink(Redis(url=server.url, timeout_seconds=2), SystemClock())
        await link.start()
        try:
            yield server, RevocationLog(link)
        finally:
            await link.stop()


async def test_what_was_written_is_read_from_any_number_on(tmp_path: Path) -> None:
    async with opened(tmp_path) as (server, log):
        begun = await log.page(0)
        assert begun == (begun.epoch, 0, 0, b"")
        assert (await log.add(record(1) + record(2))).added == 2
        assert (await log.add(record(2) + record(3))).added == 1, "what is there already is not written again"
        epoch = (await log.page(0)).epoch
        assert (len(epoch), size(server)) == (16, 3)
        assert epoch == begun.epoch
        assert await log.page(0) == (epoch, 3, 3, record(1) + record(2) + record(3))
        assert await log.page(2) == (epoch, 3, 3, record(3))
        assert await log.page(3) == (epoch, 3, 3, b"")
        keys = server.run("KEYS", "*")
        assert all(key.startswith(KEY_PREFIX.encode()) for key in keys)


async def test_a_long_log_is_read_page_by_page(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, log):
        count = 2 * MAX_RECORDS + 10
        for start in range(0, count, MAX_RECORDS):
            await log.add(b"".join(map(record, range(start, min(count, start + MAX_RECORDS)))))
        after = 0
        pages: list[bytes] = []
        while not pages or pages[-1]:
            page = await log.page(after)
            after = page.last
            pages.append(page.records)
        assert [len(page) // RECORD.size for page in pages] == [MAX_RECORDS, MAX_RECORDS, 10, 0]
        assert b"".join(pages) == b"".join(map(record, range(count)))


async def test_every_write_is_told_with_its_numbers(tmp_path: Path) -> None:
    async with opened(tmp_path) as (server, log), redis.asyncio.from_url(server.url) as client:
        channel = client.pubsub()
        await channel.subscribe(log.channel)
        nasty = RECORD.pack(1, b" \r\n\0 5 6 7 8 9 a", 40_000_000, 1.5)
        await log.add(record(1))
        await log.add(record(1))
        await log.add(nasty + record(2))
        found: list[Message | None] = []
        async with asyncio.timeout(5):
            while len(found) < 2:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1)
                if message is not None:
                    found.append(read_message(message["data"]))
        epoch = (await log.page(0)).epoch
        assert found == [(epoch, 0, 1, record(1)), (epoch, 1, 3, nasty + record(2))]
        await channel.aclose()


@pytest.mark.parametrize("message", [b"", b"a b c", b"a 1 2", b"a x 2 ", b"a 1 -2 ", b"a 1 2 odd"])
def test_a_message_of_somebody_else_is_nothing(message: bytes) -> None:
    assert read_message(message) is None
    assert read_message(b"a 1 2 ") == (b"a", 1, 2, b"")


@pytest.mark.rule("R129")
async def test_ended_records_are_swept_part_by_part(tmp_path: Path) -> None:
    """And none before its time."""
    async with opened(tmp_path) as (server, log):
        now = int(time.time() / 60)
        for start in range(0, 1000, 100):
            await log.add(b"".join(record(n, now - 1 if n % 2 else now + 2) for n in range(start, start + 100)))
        swept = [await log.sweep() for _ in range(4)]
        assert (sum(swept), size(server)) == (500, 500)
        assert max(swept) <= MAX_RECORDS // 4
        page = await log.page(0)
        assert page.records == b"".join(record(number, now + 2) for number in range(0, 1000, 2))
        assert page.head == 1000


async def test_databases_of_one_server_tell_each_other_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (server, log):
        link = RedisLink(Redis(url=server.url.removesuffix("/0") + "/3"), SystemClock())
        assert (log.channel, RevocationLog(link).channel) == ("gateway:{revocation}:0", "gateway:{revocation}:3")
        await link.stop()


async def test_one_of_all_may_restore(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, log):
        assert await log.may_restore()
        assert not await log.may_restore()
        await log.restored()
        assert await log.may_restore()


def lose_part(part: str) -> Callable[[RedisServer], object]:
    return lambda server: server.run("DEL", f"gateway:{{revocation}}:{part}")


#: What a server can lose, or have changed, of a log with records 1 to 3.
LOSSES: dict[str, Callable[[RedisServer], object]] = {
    "the records": lose_part("log"),
    "the epoch": lose_part("epoch"),
    "the number": lose_part("head"),
    "the number, and 0.1.0 has written since": lambda server: server.run("SET", HEAD, "1"),
    "the records, and 0.1.0 has written since": lambda server: (
        server.run("DEL", LOG),
        server.run("ZADD", LOG, 4, record(4)),
        server.run("SET", HEAD, "4"),
    ),
    "an older epoch is back": lambda server: server.run("SET", EPOCH, "0" * 16),
    "another process has written it": lambda server: (
        server.run("ZREMRANGEBYSCORE", LOG, "-inf", 0),
        server.run("ZADD", LOG, 0, b"mark:" + server.run("GET", EPOCH) + b":" + b"a" * 40),
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("first", ["read", "written"])
@pytest.mark.rule("R438")
async def test_records_number_and_epoch_live_and_die_together(loss: str, first: str, tmp_path: Path) -> None:
    """The first to come begins another epoch, once; no number is given twice."""
    async with opened(tmp_path) as (server, log):
        await log.add(record(1) + record(2) + record(3))
        before = await log.page(0)
        LOSSES[loss](server)
        if first == "written":
            await log.add(record(9))
        after = await log.page(0)
        assert after.epoch not in (b"", before.epoch)
        assert after.head >= max(server.run("ZRANGE", LOG, -1, -1, "WITHSCORES")[0][1], 0)
        assert await log.page(0) == after
        assert (await log.add(record(10))).added == 1
        assert (await log.page(after.head)).records == record(10)


@pytest.mark.rule("R438")
async def test_a_log_that_is_whole_keeps_its_epoch(tmp_path: Path) -> None:
    """Also when it has been swept empty, and for a user who may not ask for the server's name."""
    async with opened(tmp_path) as (server, log):
        await log.add(record(1, end=1))
        epoch = (await log.page(0)).epoch
        assert await log.sweep() == 1
        assert await log.page(0) == (epoch, 1, 0, b"")
        server.run("ACL", "SETUSER", "default", "-info")
        assert (await log.add(record(2))).added == 1
        assert (await log.page(1)) == (epoch, 2, 2, record(2))


@pytest.mark.rule("R438")
async def test_a_log_without_records_is_missed_when_it_is_lost(tmp_path: Path) -> None:
    """Another gateway may have known records that were written between two looks, and are gone."""
    async with opened(tmp_path) as (server, log):
        first = await log.page(0)
        assert await log.page(0) == first
        server.run("FLUSHALL")
        second = await log.page(0)
        assert (second.head, second.records) == (0, b"")
        assert second.epoch != first.epoch


@pytest.mark.rule("R444")
async def test_a_replica_says_nothing(tmp_path: Path) -> None:
    """It is not known how old it is."""
    async with opened(tmp_path) as (server, log):
        await log.add(record(1))
        server.run("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(StoreUnavailableError, match="replica"):
            await log.page(0)


#: What another program has put into Redis, and whether a write would build on it.
ODD_VALUES: tuple[tuple[bool, tuple[Any, ...]], ...] = (
    *((True, ("SET", HEAD, value)) for value in ("", "inf", "-inf", "nan", "-5", "1.5", "1e3", "0x1", " 1", "9" * 30)),
    (True, ("LPUSH", HEAD, "5")),
    *((True, ("SET", EPOCH, value)) for value in ("", "short", "x" * 100)),
    (False, ("SET", EPOCH, "with spaces  ...")),
    (True, ("LPUSH", EPOCH, "x")),
    (True, ("SET", LOG, "x")),
    (False, ("ZADD", LOG, "1", "another program's")),
    (False, ("ZADD", LOG, "1", "fourteen bytes", "2", "fourteen_bytes")),
    *((False, ("ZADD", LOG, "1", b"\x06" + b"\xff" * 19 + struct.pack(">d", value))) for value in (nan, inf, -1.0)),
    *((False, ("ZADD", LOG, number, b"\0" * RECORD.size)) for number in ("inf", "1.5", "1e300")),
)


@pytest.mark.rule("R406")
async def test_what_is_no_log_is_not_believed_and_not_written_on(tmp_path: Path) -> None:
    """Another program's values there are a log that is unavailable; it is one again without them."""
    async with opened(tmp_path) as (server, log):
        for written_on, command in ODD_VALUES:
            server.run("FLUSHALL")
            server.run(*command)
            with pytest.raises(StoreUnavailableError, match="unexpected answer"):
                await log.page(0)
            if written_on:
                with pytest.raises(StoreUnavailableError, match="unexpected answer"):
                    await log.add(record(1))
        server.run("FLUSHALL")
        page = await log.page(0)
        assert page == (page.epoch, 0, 0, b"")
