"""Where the master is: by the word of real Sentinels, and of some that are none."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.clock import SystemClock
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.store.sentinel import NoMasterError, Sentinels
from tests.support.clock import eventually
from tests.support.stores.redis import RedisServer, Sentinel
from tests.support.stores.scripted_redis import ODD_ANSWERS, RespServer


def settings(*sentinels: str, name: str = "mymaster") -> Redis:
    return Redis.model_validate({"url": f"redis://{name}/0", "sentinels": list(sentinels), "timeout_seconds": 2})


@pytest.mark.rule("R444")
async def test_a_link_follows_the_master(tmp_path: Path) -> None:
    """The master dies, Sentinel promotes the replica, and the link is there again by itself."""
    async with RedisServer(tmp_path / "one") as master, RedisServer(tmp_path / "two") as replica:
        replica.run("REPLICAOF", "127.0.0.1", master.port)
        await eventually(lambda: replica.run("INFO", "replication")["master_link_status"] == "up")
        async with Sentinel(tmp_path / "sentinel", master) as sentinel:
            await eventually(lambda: len(sentinel.run("SENTINEL", "REPLICAS", "mymaster")) == 1, within=20)
            link = RedisLink(settings("redis://127.0.0.1:1", sentinel.url), SystemClock())
            await link.start()
            assert link.available
            await link.command("SET", "a", "1")
            assert master.run("GET", "a") == b"1"
            await eventually(lambda: replica.run("GET", "a") == b"1")
            await master.kill()
            await eventually(lambda: not link.available)
            await eventually(lambda: link.available, within=20)
            assert replica.run("INFO", "replication")["role"] == "master"
            assert await link.command("GET", "a") == b"1"
            await master.start()  # it still takes itself for a master, until Sentinel tells it
            await link.command("SET", "a", "2")
            assert replica.run("GET", "a") == b"2"
            await link.stop()


async def test_one_sentinel_that_answers_is_enough_and_the_last_word_stays() -> None:
    async with RespServer() as one, RespServer() as two:
        one.odd[b"SENTINEL"] = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"
        sentinels = Sentinels(settings("redis://127.0.0.1:1", two.url.removesuffix("/0"), one.url.removesuffix("/0")))
        with pytest.raises(RedisConnectionError):
            sentinels.where()
        assert await sentinels.look()
        assert sentinels.where() == ("127.0.0.1", 6379)
        assert not await sentinels.look(), "it is the same"
        two.odd[b"SENTINEL"] = b"*2\r\n$9\r\n127.0.0.2\r\n$4\r\n6380\r\n"
        one.odd[b"SENTINEL"] = b"*-1\r\n"  # it knows no master of this name
        assert await sentinels.look()
        assert sentinels.where() == ("127.0.0.2", 6380)
        one.cut()
        two.odd[b"SENTINEL"] = b"*-1\r\n"
        assert not await sentinels.look()
        assert sentinels.where() == ("127.0.0.2", 6380)
        await sentinels.stop()


#: Places that are none: port 0, a port above the last, no host.
NOWHERE = (
    b"*2\r\n$1\r\na\r\n$1\r\n0\r\n",
    b"*2\r\n$1\r\na\r\n$5\r\n65536\r\n",
    b"*2\r\n$0\r\n\r\n$1\r\n1\r\n",
)


@pytest.mark.parametrize("odd", [*ODD_ANSWERS, *NOWHERE])
@pytest.mark.rule("R435")
async def test_an_odd_answer_names_nobody(odd: bytes) -> None:
    async with RespServer() as server:
        server.odd[b"SENTINEL"] = odd
        sentinels = Sentinels(settings(server.url.removesuffix("/0")))
        assert not await sentinels.look()
        assert sentinels.master is None
        await sentinels.stop()


async def test_a_sentinel_that_is_silent_costs_its_time_limit_once() -> None:
    async with RespServer() as silent, RespServer() as good:
        silent.odd[b"SENTINEL"] = b""
        good.odd[b"SENTINEL"] = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n6379\r\n"
        urls = [server.url.removesuffix("/0") for server in (silent, good)]
        sentinels = Sentinels(settings(*urls).model_copy(update={"timeout_seconds": 0.5}))
        assert await sentinels.look()
        began = time.monotonic()
        for _ in range(3):
            assert not await sentinels.look()
        assert time.monotonic() - began < 0.5
        assert silent.asked.count(b"SENTINEL") == 1
        await sentinels.stop()


async def test_the_name_is_taken_as_it_is_written() -> None:
    async with RespServer() as server:
        sentinels = Sentinels(settings(server.url.removesuffix("/0"), name="user:pw@MyMaster"))
        with pytest.raises(NoMasterError, match='"MyMaster"'):
            sentinels.where()
        await sentinels.stop()
