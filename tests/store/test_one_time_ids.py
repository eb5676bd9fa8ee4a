"""What was used once: in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.settings.tables.redis import Redis
from gateway.store.answers import StoreUnavailableError
from gateway.store.one_time_ids import (
    MAX_SECONDS,
    USED_IDS_LOOK_SECONDS,
    Once,
    ReplayMemory,
    ReplayRedis,
    ReplayStore,
    digest_of,
    make_store,
)
from gateway.store.redis_link import RedisLink
from gateway.store.used_ids import NEW, USED, UsedIds
from tests.support.clock import FakeClock, eventually, settle
from tests.support.gateways.fleet import remembering_server
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.tokens.verifying import make_settings

A, B, C = (digest_of("key", name) for name in "abc")


def once(digest: bytes, seconds: float, *, wall: float | None = None, age: float = -1.0) -> Once:
    """An id that was made ``age`` seconds ago, by default in a second, and can be used for so long."""
    now = time.time() if wall is None else wall
    return Once(digest, now - age, now + seconds, now + seconds)


async def _outcome(store: ReplayStore, digest: bytes, **options: float) -> bool | Reason:
    """Return whether an id was unused, or why that cannot be decided."""
    try:
        return await store.use(once(digest, 60, **options))
    except GatewayError as error:
        return error.reason


@contextlib.asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    # Longer than the default: what is tested is the outcome, on a machine that has other work.
    link = RedisLink(Redis.model_validate({"url": url, "timeout_seconds": 0.5}), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


@pytest.mark.rule("R131")
def test_no_two_ids_are_one() -> None:
    """Whatever the parts hold."""
    assert digest_of("a", "bc") != digest_of("ab", "c") != digest_of("abc") != digest_of("abc", "")
    assert digest_of("a\0b", "c") != digest_of("a", "b\0c")
    assert len({len(digest_of(text)) for text in ("", "x" * 10_000, "\ud800", "a:b\r\nDEL x")}) == 1


@pytest.mark.rule("R137")
async def test_an_id_is_used_once_until_its_time_is_over() -> None:
    """And its room is free again."""
    clock = FakeClock()
    memory = ReplayMemory(10, clock)
    assert [await memory.use(once(A, 60, wall=clock.wall())) for _ in range(3)] == [True, False, False]
    assert await memory.use(once(B, 30, wall=clock.wall()))
    assert (memory.entries, memory.replays) == (2, 2)
    clock.jump(30)
    assert not await memory.use(once(A, 60, wall=clock.wall()))
    assert await memory.use(once(B, 30, wall=clock.wall()))
    clock.jump(30)
    assert await memory.use(once(A, 60, wall=clock.wall()))
    assert memory.entries == 1


@pytest.mark.rule("R137")
async def test_a_step_of_the_wall_clock_admits_nothing() -> None:
    """What was used is remembered by time that only goes forward."""
    clock = FakeClock()
    memory = ReplayMemory(10, clock)
    assert await memory.use(once(A, 60, wall=clock.wall()))
    clock.step_wall(3600)
    assert not await memory.use(once(A, 60, wall=clock.wall()))


@pytest.mark.rule("R137")
async def test_a_full_memory_decides_nothing_and_forgets_nothing() -> None:
    """Bounded, and a client that fills it lets no replay pass."""
    clock = FakeClock()
    memory = ReplayMemory(2, clock)
    assert await memory.use(once(A, 60, wall=clock.wall()))
    assert await memory.use(once(B, 600, wall=clock.wall()))
    with pytest.raises(GatewayError) as caught:
        await memory.use(once(C, 60, wall=clock.wall()))
    assert (caught.value.reason, caught.value.retry_after) == (Reasons.REPLAY_STORE, 60)
    assert not await memory.use(once(A, 60, wall=clock.wall()))
    assert (memory.entries, memory.undecided) == (2, 1)
    clock.jump(60)
    assert await memory.use(once(C, 60, wall=clock.wall()))


@pytest.mark.rule("R137")
async def test_of_many_at_a_time_one_is_the_first() -> None:
    clock = FakeClock()
    memory = ReplayMemory(10, clock)
    assert sum(await asyncio.gather(*(memory.use(once(A, 60, wall=clock.wall())) for _ in range(100)))) == 1


def made(link: RedisLink, purpose: str = "proof", size: int = 10) -> ReplayRedis:
    return ReplayRedis(link, purpose, size, SystemClock())


@pytest.mark.rule("R137", "R131")
async def test_gateways_that_share_a_redis_share_what_was_used(tmp_path: Path) -> None:
    """Across workers, under a name that tells nothing; each purpose for itself."""
    async with remembering_server(tmp_path) as server, linked(server.url) as one, linked(server.url) as other:
        stores = [made(one), made(other)]
        assert sum(await asyncio.gather(*(store.use(once(A, 60)) for store in stores for _ in range(20)))) == 1
        assert await made(one, "token").use(once(A, 60))
        assert stores[0].replays + stores[1].replays == 39
        assert [store.entries for store in stores] == [1, 1]
        assert server.run("ZSCORE", "gateway:2:used:proof", A) > time.time() * 1000 + 59_000
        assert sorted(server.run("KEYS", "*")) == [
            *(
                b"gateway:%b:%b" % (purpose, content)
                for purpose, content in [(b"2:used", b"proof"), (b"2:used", b"token")]
            ),
            *(b"gateway:%b:%b" % (purpose, A.hex().encode()) for purpose in (b"proof", b"token")),
        ]


@pytest.mark.rule("R129", "R137")
async def test_in_redis_an_id_is_kept_at_most_for_years(tmp_path: Path) -> None:
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        assert await made(link).use(once(A, 1e300))
        assert server.run("ZSCORE", "gateway:2:used:proof", A) <= (time.time() + MAX_SECONDS) * 1000
        assert server.run("PTTL", f"gateway:proof:{A.hex()}") <= MAX_SECONDS * 1000


@pytest.mark.rule("R439")
async def test_a_worker_asks_its_own_ids_first(tmp_path: Path) -> None:
    """What was used here stays used, whatever became of Redis; a replay costs it nothing."""
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        store, other = made(link), made(link)
        assert await store.use(once(A, 60))
        assert not await other.use(once(A, 60))
        begun = link.commands
        assert [await each.use(once(A, 60)) for each in (store, other)] == [False, False]
        assert link.commands == begun
        server.run("FLUSHALL")
        server.pause()
        assert [await each.use(once(A, 60)) for each in (store, other)] == [False, False]
        server.resume()


@pytest.mark.rule("R439")
async def test_own_ids_have_a_bound_and_redis_knows_the_others(tmp_path: Path) -> None:
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        store = made(link, size=2)
        for number in range(5):
            assert await store.use(once(digest_of(str(number)), 60 + number))
        assert store.entries == 2
        assert [await store.use(once(digest_of(str(number)), 60)) for number in range(5)] == [False] * 5


async def _decided(store: ReplayRedis, digest: bytes) -> bool | Reason:
    """Return what becomes of an id that is made now, when the second after a loss is over."""
    deadline = time.monotonic() + 5
    while (outcome := await _outcome(store, digest, age=-2)) is Reasons.REPLAY_UNDECIDED:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return outcome


@pytest.mark.rule("R439")
async def test_what_was_made_before_redis_began_to_remember_is_undecided(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Flushed or restarted empty; unless it may pass, which is once for each worker."""
    async with remembering_server(tmp_path) as server, linked(server.url) as one, linked(server.url) as two:
        first, second = made(one), made(two)
        for store in (first, second):
            await store.start()
        try:
            assert await first.use(once(A, 60, age=-1))
            server.run("FLUSHALL")
            await eventually(lambda: "Redis lost used proofs" in caplog.text)
            assert [await _outcome(store, A, age=1) for store in (first, second)] == [False, Reasons.REPLAY_UNDECIDED]
            assert await second.use(once(C, 60, age=1), undecided_passes=True)
            assert not await first.use(once(C, 60, age=1), undecided_passes=True)
            assert (second.undecided, second.passed) == (2, 1)
            status = second.status()
            assert (status["passed_undecided"], status["failures"]) == (1, 2)
            assert abs(status["remembers_since"] - time.time()) < 5
            assert caplog.text.count("Redis lost used") == 2  # once for each worker
            assert await _decided(second, B) is True
            assert await _outcome(second, B, age=-2) is False
        finally:
            for store in (first, second):
                await store.stop()


def scripted(monkeypatch: pytest.MonkeyPatch) -> tuple[ReplayRedis, list[asyncio.Future[bytes]]]:
    """Return a store, and what it asks Redis: a test gives the answers."""
    asked: list[asyncio.Future[bytes]] = []

    async def use(self: UsedIds, digest: bytes, earliest: float, until: float, *, undecided_passes: bool) -> bytes:
        asked.append(asyncio.get_running_loop().create_future())
        return await asked[-1]

    monkeypatch.setattr(UsedIds, "use", use)
    return made(RedisLink(Redis(url="redis://127.0.0.1:1/0"), SystemClock())), asked


@pytest.mark.rule("R137")
async def test_the_first_passes_though_the_second_hears_first_that_it_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come over several connections, in any order."""
    store, asked = scripted(monkeypatch)
    first, second = (asyncio.ensure_future(store.use(once(A, 60))) for _ in range(2))
    await settle()
    asked[1].set_result(USED)
    assert not await second
    asked[0].set_result(NEW)
    assert await first


@pytest.mark.rule("R439")
async def test_what_passed_without_an_answer_is_not_new_with_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request fails, another one that was sent at the same time does not."""
    store, asked = scripted(monkeypatch)
    first, second = (asyncio.ensure_future(store.use(once(A, 60), undecided_passes=True)) for _ in range(2))
    await settle()
    asked[0].set_exception(StoreUnavailableError())
    assert await first
    asked[1].set_result(NEW)
    assert not await second


@pytest.mark.rule("R439")
async def test_a_store_that_cannot_be_asked_lets_pass_what_may_once(tmp_path: Path) -> None:
    """Also of many at a time."""
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        store = made(link)
        server.pause()
        tries = (store.use(once(A, 60), undecided_passes=True) for _ in range(10))
        assert sum(await asyncio.gather(*tries)) == 1
        assert (store.passed, store.replays) == (1, 9)
        server.resume()
        await eventually(lambda: link.available)
        assert not await store.use(once(A, 60))


@pytest.mark.rule("R439")
async def test_whoever_starts_while_redis_is_away_looks_when_it_is_there(tmp_path: Path) -> None:
    """And nothing that was made before passes then."""
    server = RedisServer(tmp_path)
    async with linked(server.url) as link:
        store = made(link)
        await store.start()
        try:
            assert store.status()["remembers_since"] is None
            async with server:
                await eventually(lambda: store.status()["remembers_since"] is not None)
                assert await _outcome(store, A, age=0.5) is Reasons.REPLAY_UNDECIDED
                assert await _decided(store, A) is True
        finally:
            await store.stop()


async def test_who_uses_nothing_looks_seldom(tmp_path: Path) -> None:
    """Four looks a second are for those who need them."""
    clock = FakeClock()
    async with remembering_server(tmp_path) as server:
        link = RedisLink(Redis.model_validate({"url": server.url, "timeout_seconds": 5}), clock)
        await link.start()
        store = ReplayRedis(link, "proof", 10, clock)
        await store.start()
        try:
            begun = link.commands
            for _ in range(20):
                await clock.advance(USED_IDS_LOOK_SECONDS)
            await eventually(lambda: link.commands == begun + 1)
            assert await store.use(Once(A, time.time(), clock.wall() + 60, time.time() + 60))
            await clock.advance(USED_IDS_LOOK_SECONDS)
            await eventually(lambda: link.commands == begun + 3)
        finally:
            await store.stop()
            await link.stop()


@pytest.mark.rule("R130", "R137")
async def test_while_redis_is_away_nothing_is_admitted_and_nobody_waits(tmp_path: Path) -> None:
    """Fail closed, within the link's time limit."""
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        store = made(link)
        assert await made(link).use(once(A, 60))
        server.pause()
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(GatewayError) as caught:
                await store.use(once(B, 60))
            assert caught.value.reason is Reasons.REPLAY_STORE
            assert time.monotonic() - began < paced(1)
        server.resume()
        await eventually(lambda: link.available)
        assert not await store.use(once(A, 60))
        assert store.undecided == 3


async def test_the_configuration_says_where(tmp_path: Path) -> None:
    settings, clock = make_settings(), FakeClock()
    assert make_store(settings, clock, None, "proof").kind == "memory"
    async with remembering_server(tmp_path) as server, linked(server.url) as link:
        assert make_store(settings, clock, link, "proof").kind == "redis"
