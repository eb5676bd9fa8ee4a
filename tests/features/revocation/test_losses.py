"""What becomes of revocations when Redis loses them: written back, and not claimed to be all there is before."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation import redis_source as revocation_redis
from gateway.features.revocation.redis_log import LogPage, RevocationLog
from gateway.features.revocation.redis_source import RESTORE_SECONDS, SETTLING_SECONDS, RedisRevocations
from gateway.jwt.revocations.source import Inheritance
from gateway.jwt.revocations.table import EntryKind
from gateway.store.redis_link import RedisLink
from tests.support.clock import FakeClock, eventually
from tests.support.gateways.fleet import Relay
from tests.support.gateways.revoking import (
    all_of,
    caller,
    covers,
    following,
    linked,
    looking,
    restoring,
    revoked,
    size,
    subscribed,
    token,
)
from tests.support.pace import paced
from tests.support.ports import free_port
from tests.support.stores.redis import RedisServer


@contextlib.asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[tuple[RedisServer, RedisLink, RedisRevocations, FakeClock]]:
    """Run a Redis server with such a source."""
    async with (
        RedisServer(folder) as server,
        linked(server.url, timeout_seconds=2) as link,
        looking(link) as (source, clock),
    ):
        yield server, link, source, clock


async def known_after_look(source: RedisRevocations) -> bool:
    await source.look()
    return source.known


async def test_a_flushed_database_gets_back_what_is_known(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url) as link, following(link) as source:
        log = RevocationLog(link)
        await log.add(token("a") + token("b"))
        await source.look()
        lost = (await log.page(0)).epoch
        server.run("FLUSHALL")
        await eventually(lambda: source.restored == 2)
        assert size(server) == 2
        assert (await log.page(0)).epoch not in (b"", lost)
        assert covers(source, "ab") == [True, True]


async def test_one_of_several_writes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_redis, "RESTORE_SECONDS", 0.05)
    async with RedisServer(tmp_path) as server, contextlib.AsyncExitStack() as stack:
        links = [await stack.enter_async_context(linked(server.url)) for _ in range(3)]
        sources = [await stack.enter_async_context(following(link)) for link in links]
        await RevocationLog(links[0]).add(b"".join(token(str(number)) for number in range(1500)))
        await asyncio.gather(*(source.look() for source in sources))
        server.run("FLUSHALL")
        await eventually(lambda: sum(source.restored for source in sources) == 1500)
        await asyncio.gather(*(source.look() for source in sources))  # each has noticed it
        await eventually(lambda: not restoring())
        assert sum(source.restored for source in sources) == 1500


@pytest.mark.rule("R438")
async def test_a_number_that_went_back_is_a_loss(tmp_path: Path) -> None:
    """The last write was removed by hand, and its number."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link, following(link) as source:
        log = RevocationLog(link)
        await log.add(token("a"))
        await log.add(token("b"))
        await source.look()
        server.run("ZREM", "gateway:{revocation}:log", token("b"))
        server.run("SET", "gateway:{revocation}:head", 1)
        await eventually(lambda: source.restored == 1)
        assert covers(source, "ab") == [True, True]


async def test_writing_back_goes_on_after_an_outage(tmp_path: Path) -> None:
    async with (
        RedisServer(tmp_path) as server,
        Relay(server.port) as relay,
        linked(f"redis://127.0.0.1:{relay.port}", timeout_seconds=2) as link,
        linked(server.url, timeout_seconds=2) as other,
        looking(link) as (source, clock),
    ):
        await RevocationLog(link).add(token("a"))
        await source.look()
        server.run("FLUSHALL")
        assert await RevocationLog(other).may_restore(), "another worker has the task"
        await source.look()
        await eventually(lambda: clock.naps, within=paced(5))
        relay.to = free_port()
        relay.cut()
        await clock.advance(RESTORE_SECONDS)
        await eventually(lambda: not restoring())
        assert (source.failures, source.restored) == (1, 0)
        relay.to = server.port
        await eventually(lambda: link.available)
        await RevocationLog(other).restored()
        await source.look()
        await eventually(lambda: source.restored == 1)
        assert size(server) == 1


@pytest.mark.rule("R438", "C121")
async def test_several_records_of_one_entry_that_a_late_replica_lacks_are_written_back(tmp_path: Path) -> None:
    """The replica has more records than there are entries, and a third gateway knows all the same."""
    subjects = [revoked(EntryKind.SUBJECT, "s", expires=time.time() + end) for end in (90, 900, 3600)]
    async with (
        RedisServer(tmp_path / "one") as server,
        RedisServer(tmp_path / "two") as late,
        Relay(server.port) as relay,
        linked(f"redis://127.0.0.1:{relay.port}", timeout_seconds=2) as link,
        following(link) as source,
    ):
        log = RevocationLog(link)
        await log.add(subjects[0] + subjects[1] + token("early"))
        late.run("REPLICAOF", "127.0.0.1", server.port)
        await eventually(lambda: late.run("INFO", "replication")["master_link_status"] == "up")
        late.run("REPLICAOF", "127.0.0.1", 1)
        await log.add(subjects[2] + token("late"))
        await source.look()
        late.run("REPLICAOF", "NO", "ONE")
        relay.to = late.port
        relay.cut()
        await server.kill()
        await eventually(lambda: source.restored == 2)
        async with linked(late.url, timeout_seconds=2) as other, following(other) as third:
            assert covers(third, ["early", "late"]) == [True, True]
            assert third.table.covers(caller(subject="s"), time.time() + 1800)


@pytest.mark.rule("R438")
async def test_what_was_told_and_lost_before_any_look_is_written_back(tmp_path: Path) -> None:
    """The store is as empty as it was at the last look."""
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        source = RedisRevocations(link, SystemClock())
        await source.look()
        source.take(token("a"), b"0123456789abcdef")
        await source.look()
        await eventually(lambda: source.restored == 1)
        assert size(server) == 1
        await source.stop()


@pytest.mark.parametrize("written", [False, True], ids=["empty", "with records"])
@pytest.mark.rule("R438")
async def test_a_fresh_gateway_knows_at_its_first_look(tmp_path: Path, written: bool) -> None:
    """It waits for no other gateway, neither then nor at the first revocation."""
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        log = RevocationLog(link)
        if written:
            await log.add(token("a"))
        async with looking(link) as (source, _):
            assert await known_after_look(source)
            await log.add(token("b"))
            assert await known_after_look(source)
            assert covers(source, "ab") == [written, True]


@pytest.mark.parametrize("known", ["", "a"], ids=["knows nothing", "knows one"])
@pytest.mark.rule("R438")
async def test_after_a_loss_it_is_not_known_what_is_revoked_until_others_had_time(tmp_path: Path, known: str) -> None:
    """Others may know what this one has never read, also where this one knows nothing."""
    async with stage(tmp_path) as (server, link, source, clock):
        for name in known:
            await RevocationLog(link).add(token(name))
        assert await known_after_look(source)
        assert source.place
        server.run("FLUSHALL")
        assert not await known_after_look(source)
        clock.jump(SETTLING_SECONDS - 0.1)
        await eventually(lambda: source.restored == len(known))
        assert not await known_after_look(source)
        assert (source.filled, source.place) == (True, "")
        clock.jump(0.2)
        assert await known_after_look(source)
        assert source.place


@pytest.mark.rule("R438")
async def test_it_is_not_known_while_writing_back_goes_on(tmp_path: Path) -> None:
    """A long list takes others longer as well."""
    async with stage(tmp_path) as (server, link, source, clock):
        log = RevocationLog(link)
        await log.add(token("a"))
        await source.look()
        server.run("FLUSHALL")
        assert await log.may_restore(), "another worker has the task"
        await source.look()
        clock.jump(2 * SETTLING_SECONDS)
        assert not await known_after_look(source)
        await log.restored()
        await clock.advance(1)
        await eventually(lambda: source.restored == 1)
        assert await known_after_look(source)


@pytest.mark.parametrize("way", ["taken", "heard"])
@pytest.mark.rule("R438")
async def test_what_comes_after_its_log_was_lost_is_written_back(tmp_path: Path, way: str) -> None:
    """The loss was noticed, and all that was known written back, before this was known."""
    async with stage(tmp_path) as (server, link, source, _):
        log = RevocationLog(link)
        await log.add(token("a"))
        await source.look()
        written = await log.add(token("b"))
        server.run("FLUSHALL")
        await source.look()
        await eventually(lambda: source.restored == 1)
        if way == "taken":
            source.take(token("b"), written.epoch)
        else:
            await source.start()
            await subscribed(server)
            server.run("PUBLISH", log.channel, b"%b 1 2 " % written.epoch + token("b"))
            await eventually(lambda: all_of(source, "b"))
        await source.look()
        await eventually(lambda: source.restored == 2)
        assert (size(server), covers(source, "ab")) == (2, [True, True])


async def test_what_is_taken_of_the_same_log_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is not read again for each revocation."""
    async with stage(tmp_path) as (_, link, source, _):
        log = RevocationLog(link)
        await log.add(token("a"))
        await source.look()
        written = await log.add(token("b"))
        source.take(token("b"), written.epoch)
        asked, page = [], RevocationLog.page

        async def noted(log: RevocationLog, after: int) -> LogPage:
            asked.append(after)
            return await page(log, after)

        monkeypatch.setattr(RevocationLog, "page", noted)
        await source.look()
        assert (asked, covers(source, "ab"), source.known) == ([1], [True, True], True)


@pytest.mark.rule("R442")
async def test_a_worker_that_began_with_less_than_all_does_not_claim_to_know(tmp_path: Path) -> None:
    """Its sibling was still waiting for others."""
    async with stage(tmp_path) as (_, _, source, clock):
        source.inherit(Inheritance(clock.monotonic(), "", [token("a")]))
        assert (source.known, source.place) == (False, "")
        clock.jump(2 * SETTLING_SECONDS)
        assert not await known_after_look(source)
        await eventually(lambda: source.restored == 1)
        assert not await known_after_look(source)
        clock.jump(SETTLING_SECONDS)
        assert await known_after_look(source)
