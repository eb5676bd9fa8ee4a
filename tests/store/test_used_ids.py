"""Used ids in a real Redis, and since when it remembers them: lost, late, evicted, restarted, upgraded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.settings.tables.redis import Redis
from gateway.store.answers import StoreUnavailableError
from gateway.store.redis_link import RedisLink
from gateway.store.used_ids import CLOCK_MARGIN, NEW, PASSED, UNDECIDED, USED, UsedIds
from tests.support.clock import eventually
from tests.support.gateways.fleet import remembering_server
from tests.support.stores.redis import RedisServer
from tests.support.stores.scripted_redis import ODD_ANSWERS, RespServer

A, B, C = (bytes([number]) * 16 for number in range(3))

#: Where the ids are.
NAME = "gateway:2:used:token"


@contextlib.asynccontextmanager
async def linked(*servers: RedisServer | RespServer) -> AsyncIterator[list[RedisLink]]:
    links = [
        RedisLink(Redis.model_validate({"url": server.url, "timeout_seconds": 2}), SystemClock()) for server in servers
    ]
    for link in links:
        await link.start()
    try:
        yield links
    finally:
        for link in links:
            await link.stop()


async def use(ids: UsedIds, digest: bytes, *, age: float = 0.0, seconds: float = 60, passes: bool = False) -> bytes:
    """Use an id that was made so many seconds ago."""
    now = time.time()
    return await ids.use(digest, now - age, now + seconds, undecided_passes=passes)


def since(server: RedisServer) -> int:
    """Return the mark, which is in the one value with the ids."""
    return -int(server.run("ZSCORE", NAME, _mark(server)))


def settle(server: RedisServer) -> None:
    """Let a second have passed since the mark was written."""
    server.run("ZADD", NAME, 1001 - since(server), _mark(server))


def _mark(server: RedisServer) -> bytes:
    (mark,) = (member for member in server.run("ZRANGE", NAME, 0, -1) if member[:7] == b"server:")
    return bytes(mark)


@pytest.mark.rule("R137", "R439")
async def test_an_id_is_new_once(tmp_path: Path) -> None:
    """Of many at a time, too, and for as long as it is said, by the clock of Redis."""
    async with remembering_server(tmp_path) as server, linked(server, server) as links:
        both = [UsedIds(link, "token") for link in links]
        answers = await asyncio.gather(*(use(ids, A, age=-1) for ids in both for _ in range(20)))
        assert sorted(answers) == [NEW] + [USED] * 39
        until = server.run("ZSCORE", NAME, A)
        assert abs(until / 1000 - time.time() - 60) < 5
        assert both[0].since == both[1].since == since(server)


@pytest.mark.rule("R439")
async def test_a_store_counts_from_the_moment_in_which_it_was_first_asked(tmp_path: Path) -> None:
    """Not from the second: an empty store does not say whether it has lost what was used earlier in it."""
    async with RedisServer(tmp_path) as server, linked(server) as (link,):
        began = int(time.time() * 1000)
        ids = UsedIds(link, "token")
        await ids.look()
        assert ids.since is not None
        assert ids.since == since(server) > began
        settle(server)
        ids.since = since(server)
        end = time.time() + 60
        assert await ids.use(A, ids.since / 1000, end, undecided_passes=False) == NEW
        assert await ids.use(B, (ids.since - 1) / 1000, end, undecided_passes=False) == UNDECIDED


@pytest.mark.rule("R439", "C122")
async def test_an_id_of_the_second_of_a_loss_does_not_pass_at_a_newcomer(tmp_path: Path) -> None:
    """It asks before any other worker, and has nothing to compare the empty store with."""
    async with remembering_server(tmp_path) as server, linked(server, server) as links:
        old, fresh = (UsedIds(link, "token") for link in links)
        second = int(time.time())
        assert await old.use(A, second, second + 60, undecided_passes=False) == NEW
        server.run("FLUSHALL")
        assert await fresh.use(A, second, second + 60, undecided_passes=False) == UNDECIDED


@pytest.mark.rule("R439")
async def test_what_is_undecided_stays_so_or_passes_once(tmp_path: Path) -> None:
    """An id that was refused is not used up."""
    async with RedisServer(tmp_path) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        assert [await use(ids, A, age=10) for _ in range(2)] == [UNDECIDED] * 2
        assert [await use(ids, A, age=10, passes=True) for _ in range(2)] == [PASSED, USED]
        assert await use(ids, A, age=10) == USED


@pytest.mark.parametrize("loss", ["FLUSHALL", "UNLINK"])
@pytest.mark.rule("R439", "C122")
async def test_ids_and_mark_are_lost_together(loss: str, tmp_path: Path) -> None:
    """Also evicted, since they are one value."""
    async with remembering_server(tmp_path) as server, linked(server, server) as links:
        known, fresh = (UsedIds(link, "token") for link in links)
        await known.look()
        assert await use(known, A, age=-1) == NEW
        server.run(*([loss] if loss == "FLUSHALL" else [loss, NAME, f"gateway:token:{A.hex()}"]))
        began = int(time.time() * 1000)
        assert await use(known, A, age=1) == UNDECIDED
        assert since(server) >= began
        assert await use(fresh, A, age=1) == UNDECIDED
        settle(server)
        assert await use(fresh, B, age=-1) == NEW


@pytest.mark.rule("R439")
async def test_a_server_that_came_back_with_old_data_remembers_since_then(tmp_path: Path) -> None:
    """What it has still counts, what it lacks is undecided."""
    async with remembering_server(tmp_path, keep=True) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        assert await use(ids, A, age=-1) == NEW
        began = int(time.time() * 1000)
        await server.restart()
        await eventually(lambda: link.available)
        fresh = UsedIds(link, "token")
        assert await use(fresh, A) == USED
        assert await use(fresh, B, age=2) == UNDECIDED
        assert since(server) > began
        settle(server)
        assert await use(fresh, B, age=-1) == NEW


@pytest.mark.rule("R439")
async def test_a_replica_that_takes_over_late_does_not_vouch_for_what_it_lacks(tmp_path: Path) -> None:
    """Its mark is old and its own process did not write it."""
    async with (
        remembering_server(tmp_path / "one") as master,
        RedisServer(tmp_path / "two") as replica,
        linked(master, replica) as (link, other),
    ):
        ids, later = UsedIds(link, "token"), UsedIds(other, "token")
        assert await use(ids, A, age=-1) == NEW
        replica.run("REPLICAOF", "127.0.0.1", master.port)
        await eventually(lambda: replica.run("EXISTS", NAME))
        with pytest.raises(StoreUnavailableError):  # it is read-only
            await use(later, B, age=-1)
        replica.run("REPLICAOF", "127.0.0.1", 1)  # where no server is: it has lost its master, and what comes after
        assert await use(ids, B, age=-1) == NEW
        await master.kill()
        replica.run("REPLICAOF", "NO", "ONE")
        assert not replica.run("ZSCORE", NAME, B)
        await eventually(lambda: other.available)
        assert [await use(later, digest, age=0.5) for digest in (A, B, C)] == [USED, UNDECIDED, UNDECIDED]
        settle(replica)
        assert await use(later, C, age=-2) == NEW


@pytest.mark.rule("R439")
async def test_ids_from_the_future_of_the_store_make_it_careful_after_a_loss(tmp_path: Path) -> None:
    """A client whose clock is 5 s fast made a proof, used it, and uses it again when Redis has forgotten it."""
    async with remembering_server(tmp_path) as server, linked(server, server) as links:
        one, two = (UsedIds(link, "token") for link in links)
        assert await use(one, A, age=-5) == NEW
        await two.look()
        assert 4000 < two.ahead < 6000
        server.run("FLUSHALL")
        assert await use(two, A, age=-3) == UNDECIDED
        settle(server)
        assert await use(two, B, age=-7) == NEW
        assert await use(UsedIds(links[0], "token"), C, age=-3) == UNDECIDED  # the store knows it from the second


@pytest.mark.rule("R439")
async def test_an_id_from_the_future_does_not_pass_at_a_newcomer_after_a_loss(tmp_path: Path) -> None:
    """It does not know how far ahead used ids were; within a second, workers that have used some say so."""
    async with remembering_server(tmp_path) as server, linked(server, server) as links:
        old, fresh = (UsedIds(link, "token") for link in links)
        made = time.time() + 5
        assert await old.use(A, made, made + 60, undecided_passes=False) == NEW
        server.run("FLUSHALL")
        assert await fresh.use(A, made, made + 60, undecided_passes=False) == UNDECIDED
        await old.look()
        settle(server)
        assert await fresh.use(A, since(server) / 1000 + 4, made + 60, undecided_passes=False) == UNDECIDED
        assert await fresh.use(B, since(server) / 1000 + 6, made + 60, undecided_passes=False) == NEW


@pytest.mark.rule("R440")
async def test_a_longer_window_begins_to_count_when_it_is_asked_for(tmp_path: Path) -> None:
    """A gateway that accepts proofs for longer has joined; what was forgotten before may still be good there."""
    async with remembering_server(tmp_path) as server, linked(server) as (link,):
        short, long, shorter = (UsedIds(link, "token", seconds) for seconds in (60, 600, 5))
        for ids in (short, shorter):
            await ids.look()
        assert await use(short, A, age=-1) == NEW
        assert abs(server.run("ZSCORE", NAME, A) / 1000 - time.time() - 120) < 5
        began = int(time.time() * 1000)
        await long.look()
        assert since(server) >= began
        settle(server)
        assert await use(shorter, B, age=-1) == NEW
        assert abs(server.run("ZSCORE", NAME, B) / 1000 - time.time() - 660) < 5
        await shorter.look()
        assert (short.window, shorter.window) == (60_000, 600_000)


@pytest.mark.rule("R440")
async def test_an_id_that_nobody_should_accept_any_more_is_undecided(tmp_path: Path) -> None:
    """The clock of the asker is off by more than the margin, so that Redis may have forgotten it."""
    async with RedisServer(tmp_path) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        assert await use(ids, A, age=-1, seconds=-1) == UNDECIDED
        assert [await use(ids, A, age=-1, seconds=-1, passes=True) for _ in range(2)] == [PASSED, USED]


@pytest.mark.rule("R129")
async def test_ids_are_removed_after_their_time_and_the_mark_stays(tmp_path: Path) -> None:
    """At each look some."""
    async with remembering_server(tmp_path) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        await ids.look()
        began, ended = since(server), int((time.time() - 1) * 1000)
        for start in range(0, 1500, 100):
            members = [part for number in range(start, start + 100) for part in (ended, f"{number:016}")]
            server.run("ZADD", NAME, *members)
        assert await use(ids, A, age=-1) == NEW
        for left in (503, 3, 3):  # the mark, how far ahead an id was, and that id
            await ids.look()
            assert server.run("ZCARD", NAME) == left
        assert since(server) == began


@pytest.mark.rule("R440")
async def test_ids_of_gateways_of_the_first_format_count_and_they_are_told(tmp_path: Path) -> None:
    """0.1.0 has a name for each id; old and new gateways side by side refuse what the other has let pass."""
    async with remembering_server(tmp_path) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        await ids.look()
        server.run("SET", f"gateway:token:{A.hex()}", "1", "NX", "PX", 60_000)
        assert await use(ids, A, age=-1) == USED
        assert await use(ids, B, age=-1) == NEW
        assert server.run("SET", f"gateway:token:{B.hex()}", "1", "NX", "PX", 60_000) is None
        assert 55_000 < server.run("PTTL", f"gateway:token:{B.hex()}") <= 60_000


async def test_a_server_that_tells_nothing_of_itself_is_used_without_that(tmp_path: Path) -> None:
    """A user without the right to ask for INFO: a late replica is not noticed then, everything else is."""
    async with RedisServer(tmp_path) as server:
        server.run("ACL", "SETUSER", "default", "-info")
        async with linked(server) as (link,):
            ids = UsedIds(link, "token")
            await ids.look()
            settle(server)
            assert [await use(ids, A, age=-1) for _ in range(2)] == [NEW, USED]
            server.run("FLUSHALL")
            assert await use(ids, A, age=1) == UNDECIDED


@pytest.mark.parametrize(
    "text", [b"", b"new", b"other 1 2 3", b"new 1 -2 3", b"new 1 2 3 4", b"new 1 2 " + b"3" * 16, *ODD_ANSWERS]
)
@pytest.mark.rule("R435")
async def test_another_answer_is_an_outage(text: bytes) -> None:
    async with RespServer() as server, linked(server) as (link,):
        server.odd[b"EVALSHA"] = text if text.endswith(b"\r\n") else b"$%d\r\n%b\r\n" % (len(text), text)
        ids = UsedIds(link, "token")
        with pytest.raises(StoreUnavailableError):
            await use(ids, A)
        assert ids.since is None


@pytest.mark.rule("R130")
async def test_a_full_store_and_a_foreign_value_are_outages(tmp_path: Path) -> None:
    """Nothing passes."""
    async with remembering_server(tmp_path) as server, linked(server) as (link,):
        ids = UsedIds(link, "token")
        await ids.look()
        server.run("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailableError):
            await use(ids, A, age=-1)
        server.run("CONFIG", "SET", "maxmemory", "0")
        assert await use(ids, A, age=-1) == NEW
        server.run("SET", NAME, "x")
        with pytest.raises(StoreUnavailableError):
            await use(ids, A, age=-1)


@pytest.mark.rule("R440")
def test_the_margin_is_for_clocks_that_are_off_by_two_minutes() -> None:
    """More than what is tried, and documented."""
    assert CLOCK_MARGIN == 120
