"""Keeping up with Redis: filled, notified, caught up after an outage, and what an emptied server gets back."""

from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation import redis_source as revocation_redis
from gateway.features.revocation.redis_log import LogPage, RevocationLog
from gateway.features.revocation.redis_source import SETTLING_SECONDS, STALE_SECONDS, RedisRevocations
from gateway.jwt.revocations.source import Inheritance
from gateway.jwt.revocations.table import MAX_RECORDS, RECORD
from gateway.store import redis_link
from gateway.tasks import periodic
from tests.support.clock import eventually
from tests.support.gateways.fleet import Relay
from tests.support.gateways.revoking import (
    LOG,
    all_of,
    covers,
    following,
    linked,
    looking,
    size,
    subscribed,
    token,
)
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer


async def test_what_is_there_is_known_from_the_start(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        log = RevocationLog(link)
        for start in range(0, 2 * MAX_RECORDS + 5, MAX_RECORDS):
            await log.add(b"".join(token(str(n)) for n in range(start, min(2 * MAX_RECORDS + 5, start + MAX_RECORDS))))
        async with following(link) as source:
            assert (source.filled, source.known, len(source.table)) == (True, True, 2 * MAX_RECORDS + 5)
            assert covers(source, ("0", "4004", "4005")) == [True, True, False]
            assert source.age < 1


@pytest.mark.rule("R128")
async def test_a_new_one_is_told_at_once(tmp_path: Path) -> None:
    """Over the channel, long before the next look."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link, following(link) as source:
        changes = []
        source.changed = lambda: changes.append(source.known)
        await subscribed(server)
        await source.look()
        for name in ("a", "b"):
            began = time.monotonic()
            await RevocationLog(link).add(token(name))
            await eventually(functools.partial(all_of, source, name))
            assert time.monotonic() - began < paced(0.2)
        assert changes == [True, True]


async def test_a_write_that_was_never_told_is_found_by_the_look(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url) as link, following(link) as source:
        await subscribed(server)
        server.run("CLIENT", "KILL", "TYPE", "pubsub")
        began = time.monotonic()
        await RevocationLog(link).add(token("a"))
        await eventually(lambda: covers(source, "a") == [True])
        assert time.monotonic() - began < paced(0.6)
        await subscribed(server)


async def test_a_gap_in_what_is_told_is_read_at_once(tmp_path: Path) -> None:
    """No look is due, for the clock stands still; and what is no message changes nothing."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link, looking(link) as (source, _):
        log = RevocationLog(link)
        await log.add(token("a"))
        epoch, head, *_ = await log.page(0)
        await source.start()
        await subscribed(server)
        server.run("PUBLISH", log.channel, "nonsense")
        server.run("ZADD", LOG, head + 1, token("b"))  # as a write that nobody is told of
        server.run("SET", "gateway:{revocation}:head", head + 1)
        server.run("PUBLISH", log.channel, b"%b %d %d " % (epoch, head + 1, head + 1) + token("c"))
        await eventually(lambda: covers(source, "abc") == [True, True, True])


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "lost"])
@pytest.mark.rule("R128", "R130")
async def test_a_server_that_comes_back_is_caught_up_with_and_nothing_is_forgotten(tmp_path: Path, keep: bool) -> None:
    """What was revoked meanwhile is in force within a second; what the server lost is written back."""
    async with RedisServer(tmp_path, keep=keep) as server, linked(server.url) as link, following(link) as source:
        await RevocationLog(link).add(token("a") + token("b"))
        await eventually(lambda: covers(source, "ab") == [True, True])
        await server.kill()
        await eventually(lambda: not source.known)
        assert source.failures > 0
        assert covers(source, "ab") == [True, True]
        await server.restart()
        async with linked(server.url, timeout_seconds=2) as other:
            await RevocationLog(other).add(token("c"))
            began = time.monotonic()
            await eventually(lambda: covers(source, "abc") == [True, True, True])
            assert time.monotonic() - began < paced(1)
            await eventually(lambda: source.known)
            assert time.monotonic() - began < paced(1 + SETTLING_SECONDS)
            assert size(server) == 3
            assert source.restored == (0 if keep else 2)


@pytest.mark.rule("R130")
async def test_a_server_that_stands_still_is_not_known_and_holds_nobody(tmp_path: Path) -> None:
    async with (
        RedisServer(tmp_path) as server,
        linked(server.url, timeout_seconds=paced(0.1)) as link,
        following(link) as source,
    ):
        server.pause()
        began = time.monotonic()
        await eventually(lambda: not source.known)
        assert time.monotonic() - began < paced(1.2)
        assert source.status()["known"] is False
        server.resume()
        began = time.monotonic()
        await eventually(lambda: source.known)
        assert time.monotonic() - began < paced(1)


async def test_a_server_that_is_away_at_the_start_is_not_waited_for(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    began = time.monotonic()
    async with linked(server.url, timeout_seconds=paced(0.1)) as link, following(link) as source:
        assert time.monotonic() - began < paced(0.5)
        assert (source.filled, source.known, source.status()["age_seconds"]) == (False, False, None)
        async with server:
            await RevocationLogOf(server).add(token("a"))
            await eventually(lambda: source.known and covers(source, "a") == [True])


class RevocationLogOf:
    """The log of a server, over a link for each write, as another program writes."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def add(self, records: bytes) -> None:
        async with linked(self._server.url, timeout_seconds=2) as link:
            await RevocationLog(link).add(records)


async def test_the_log_is_swept_in_the_course_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_redis, "SWEEP_POLLS", 1)
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        log = RevocationLog(link)
        await log.add(token("ended", -120) + token("a"))
        async with following(link) as source:
            assert len(source.table) == 1
            began = time.monotonic()
            while size(server) != 1:
                assert time.monotonic() - began < paced(5)
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("error", [ValueError, MemoryError, asyncio.CancelledError])
@pytest.mark.rule("R406")
async def test_whatever_ends_a_look_is_a_failed_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Not the end of the looks; what was known grows old meanwhile, and is known again with the next good one."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link, following(link) as source:
        await RevocationLog(link).add(token("a"))
        await source.look()
        faults, page = iter(range(4)), RevocationLog.page

        async def broken(log: RevocationLog, after: int) -> LogPage:
            if next(faults, None) is None:
                return await page(log, after)
            raise error

        monkeypatch.setattr(RevocationLog, "page", broken)
        before = source.failures
        await eventually(lambda: not source.known)
        assert covers(source, "a") == [True]
        await eventually(lambda: source.known)
        assert source.failures == before + 4


@pytest.mark.rule("R406", "R441")
async def test_what_is_known_grows_old_whatever_has_become_of_the_looks(tmp_path: Path) -> None:
    """With no task left to look, and with a command under way that is never answered."""
    async with (
        RedisServer(tmp_path) as server,
        linked(server.url, timeout_seconds=5) as link,
        following(link) as source,
    ):
        assert source.known
        began = time.monotonic()
        server.pause()
        looking = asyncio.ensure_future(source.look())
        await eventually(lambda: not source.known)
        assert time.monotonic() - began < paced(STALE_SECONDS + 0.3)
        assert not looking.done()
        server.resume()
        await looking
        (looks,) = (each for each in periodic() if each.kind == "revocations from Redis")
        await looks.stop()
        await eventually(lambda: not source.known)


@pytest.mark.rule("R441")
async def test_a_look_is_as_old_as_its_question(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=5) as link:
        source = RedisRevocations(link, SystemClock())
        server.pause()
        looking = asyncio.ensure_future(source.look())
        await asyncio.sleep(STALE_SECONDS + 0.05)
        server.resume()
        await looking
        assert (source.filled, source.known) == (True, False)
        await source.stop()


async def test_less_than_the_bound_may_be_configured(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        for seconds, bound in ((0.3, 0.3), (60, STALE_SECONDS)):
            source = RedisRevocations(link, SystemClock(), seconds)
            await source.look()
            assert source.known_until - time.monotonic() <= bound
            await source.stop()


@pytest.mark.rule("R442")
async def test_what_is_inherited_is_as_old_as_it_was_and_goes_on_from_there(tmp_path: Path) -> None:
    """Without a server, and with one that has lost some of it."""
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        async with following(link) as source:
            await RevocationLog(link).add(token("a") + token("b"))
            await source.look()
            await eventually(lambda: source.place)  # what came over the channel is compared with what is there
            left = source.bequeath()
            records = [piece for piece in left.records if piece]
        await RevocationLog(link).add(token("c"))
        heir = RedisRevocations(link, SystemClock())
        heir.inherit(Inheritance(left.looked_at, left.place, records))
        assert (heir.filled, heir.bequeath().looked_at) == (True, left.looked_at)
        assert covers(heir, "abc") == [True, True, False]
        await heir.look()
        assert (covers(heir, "abc"), heir.restored) == ([True, True, True], 0)
        assert heir.place, "nothing is compared"
        await heir.stop()
        server.run("FLUSHALL")
        heir = RedisRevocations(link, SystemClock())
        heir.inherit(Inheritance(left.looked_at, left.place, records))
        await heir.look()
        await eventually(lambda: heir.restored == 2)
        await heir.stop()
        assert size(server) == 2


@pytest.mark.rule("R441")
async def test_a_look_is_as_old_as_its_last_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list takes a while, and is known all the same."""
    monkeypatch.setattr(revocation_redis, "MAX_RECORDS", 1)
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        await RevocationLog(link).add(b"".join(map(token, "abcd")))
        source, pages = RedisRevocations(link, SystemClock()), RevocationLog.page

        async def page(log: RevocationLog, after: int) -> LogPage:
            await asyncio.sleep(STALE_SECONDS / 4)
            found = await pages(log, after)
            first = found.records[: RECORD.size]
            return LogPage(found.epoch, found.head, min(found.last, after + 1), first)

        monkeypatch.setattr(RevocationLog, "page", page)
        await source.look()
        assert (source.known, len(source.table)) == (True, 4)
        await source.stop()


@pytest.mark.rule("R442", "R438")
async def test_a_place_is_left_only_by_who_has_compared(tmp_path: Path) -> None:
    """A worker that begins in the middle would compare nothing."""
    async with (
        RedisServer(tmp_path) as server,
        linked(server.url, timeout_seconds=2) as link,
        looking(link) as (source, clock),
    ):
        log = RevocationLog(link)
        assert source.place == ""
        await log.add(token("a"))
        await source.look()
        assert source.bequeath().place.endswith(" 1")
        server.run("FLUSHALL")
        assert await log.may_restore(), "another worker has the task"
        await source.look()
        clock.jump(2 * SETTLING_SECONDS)
        assert source.bequeath().place == ""
        await log.restored()
        await clock.advance(1)
        await eventually(lambda: source.restored == 1)
        await source.look()
        assert source.bequeath().place.endswith(" 1")


@pytest.mark.rule("R445")
async def test_a_slow_server_is_followed_though_requests_cannot_wait_for_it(tmp_path: Path) -> None:
    """Each answer takes three times as long as requests wait."""
    async with (
        RedisServer(tmp_path) as server,
        Relay(server.port) as relay,
        linked(f"redis://127.0.0.1:{relay.port}", timeout_seconds=0.1) as link,
        following(link) as source,
        linked(server.url, timeout_seconds=2) as quick,
    ):
        await subscribed(server)
        relay.delay = 0.15
        await eventually(lambda: not link.available)
        await subscribed(server)
        for name in "abc":
            began = time.monotonic()
            await RevocationLog(quick).add(token(name))
            await eventually(functools.partial(all_of, source, name))
            assert time.monotonic() - began < paced(0.5)
        assert not link.available


@pytest.mark.rule("R445")
async def test_a_silent_channel_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nothing comes through, not even an answer, may be none."""
    wait = paced(0.05)
    monkeypatch.setattr(revocation_redis, "MESSAGE_SECONDS", wait)
    async with (
        RedisServer(tmp_path) as server,
        Relay(server.port) as relay,
        linked(f"redis://127.0.0.1:{relay.port}", timeout_seconds=2) as link,
        following(link),
    ):
        await subscribed(server)
        (listening,) = (each for each in periodic() if each.kind == "revocation channel")
        rounds = listening.rounds
        await asyncio.sleep(8 * wait)
        assert listening.rounds == rounds, "its answers keep it"
        relay.silent = True
        await eventually(lambda: listening.rounds > rounds)
        relay.silent = False


@pytest.mark.parametrize("inherited", [True, False])
@pytest.mark.rule("R442")
async def test_only_who_knows_nothing_waits_for_a_silent_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: bool
) -> None:
    """A worker that starts with what its siblings know serves like them; another one reads first."""
    for module in (redis_link, revocation_redis):
        monkeypatch.setattr(module, "START_SECONDS", 0.1)
    async with RedisServer(tmp_path) as server:
        server.pause()
        async with asyncio.timeout(8), linked(server.url, timeout_seconds=10) as link:
            source = RedisRevocations(link, SystemClock())
            if inherited:
                source.inherit(Inheritance(time.monotonic(), "", [token("a")]))
            start = asyncio.ensure_future(source.start())
            done, _ = await asyncio.wait({start}, timeout=None if inherited else 0.5)
            assert bool(done) is inherited
            server.resume()
            await start
            await eventually(lambda: source.known and source.filled)
            await source.stop()
