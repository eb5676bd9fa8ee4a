"""The link to Redis, against a real server: what it answers, and how soon while the server is not there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.settings.tables.redis import Redis
from gateway.store import redis_link
from gateway.store.answers import StoreUnavailableError
from gateway.store.redis_link import (
    HEARTBEAT_SECONDS,
    PATIENCE_SECONDS,
    POOL_SIZE,
    RedisLink,
    open_link,
)
from gateway.tasks import periodic
from tests.support.certificates import authority
from tests.support.clock import FakeClock, eventually, settle
from tests.support.gateways.fleet import Relay
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer

TWICE = "return {KEYS[1], ARGV[1], redis.call('INCRBY', KEYS[1], ARGV[1])}"


@contextlib.asynccontextmanager
async def linked(url: str, **options: object) -> AsyncIterator[RedisLink]:
    link = RedisLink(Redis.model_validate({"url": url, **options}), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


async def beaten() -> None:
    """Wait for a heartbeat of the only link that begins from now on."""
    (heartbeat,) = (each for each in periodic() if each.kind == "Redis heartbeat")
    rounds = heartbeat.rounds
    await eventually(lambda: heartbeat.rounds > rounds + 1)


async def refused(link: RedisLink) -> float:
    """Ask in vain; return the seconds that this took."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await link.command("GET", "a")
    return time.monotonic() - began


@pytest.mark.parametrize("unix", [False, True], ids=["port", "socket"])
async def test_commands_and_scripts_are_answered(tmp_path: Path, unix: bool) -> None:
    async with RedisServer(tmp_path, unix=unix) as server, linked(server.url, timeout_seconds=5) as link:
        assert link.available
        assert await link.command("SET", "a", b"\x00\r\nDEL a", "EX", 10) == b"OK"
        assert await link.command("GET", "a") == b"\x00\r\nDEL a"
        assert await link.client.get("a") == b"\x00\r\nDEL a"
        for total in (2, 4):
            assert await link.evaluate(TWICE, ["n"], [2]) == [b"n", b"2", total]
        assert (link.commands, link.failures, link.refusals, link.outages, link.last_error) == (4, 0, 0, 0, "")


async def test_many_at_once_share_few_connections(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=5) as link:
        answers = await asyncio.gather(*(link.command("ECHO", str(number)) for number in range(500)))
        assert answers == [str(number).encode() for number in range(500)]
        connections = server.run("CLIENT", "LIST").decode().count(" addr=127.0.0.1")
        assert connections <= POOL_SIZE + 2  # the heartbeat's, and the one that asks


@pytest.mark.rule("R130")
async def test_a_killed_server_is_noticed_at_once_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    """Nothing waits while it is away, and only the heartbeat tries."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        await link.command("SET", "a", "1")
        await server.kill()
        assert await refused(link) < paced(0.15)
        await eventually(lambda: not link.available)
        begun = link.commands
        assert max([await refused(link) for _ in range(100)]) < paced(0.03)
        assert (link.commands, link.refusals, link.outages) == (begun, 100, 1)
        await server.restart()
        began = time.monotonic()
        await eventually(lambda: link.available)
        assert time.monotonic() - began < paced(HEARTBEAT_SECONDS + 0.2)
        assert await link.command("GET", "a") is None
        assert link.status()["outages"] == 1


@pytest.mark.rule("R130")
async def test_a_server_that_stands_still_holds_nobody_longer_than_the_limit(tmp_path: Path) -> None:
    """More callers than connections, too; and late answers reach no other caller."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        await link.command("SET", "a", "1")
        server.pause()
        try:
            asking = [asyncio.ensure_future(refused(link)) for _ in range(3 * POOL_SIZE)]
            await asyncio.sleep(0)
            # Timers end in the order of their moments, however busy the machine is, so that those of all callers have.
            await asyncio.sleep(Redis().timeout_seconds)
            await settle()
            assert {caller.done() for caller in asking} == {True}
            await asyncio.gather(*asking)
            assert not link.available
            assert await refused(link) < paced(0.03)
        finally:
            server.resume()
        await eventually(lambda: link.available)
        names = [str(number) for number in range(100)]
        assert [await link.command("ECHO", name) for name in names] == [name.encode() for name in names]


async def test_a_server_that_stands_still_is_noticed_without_any_command(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        server.pause()
        began = time.monotonic()
        await eventually(lambda: not link.available)
        assert time.monotonic() - began < paced(HEARTBEAT_SECONDS + 0.25)
        server.resume()
        await eventually(lambda: link.available)


async def test_one_slow_answer_is_no_outage_for_long(tmp_path: Path) -> None:
    """After a failure the heartbeat asks at once."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        await asyncio.sleep(0.06)
        with pytest.raises(StoreUnavailableError, match="timed out"):
            await link.command("BLPOP", "nobody-writes-this", 5)
        began = time.monotonic()
        await eventually(lambda: link.available)
        assert time.monotonic() - began < paced(HEARTBEAT_SECONDS)


async def test_a_refused_command_is_told_from_a_server_that_is_away(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        for attempt in (link.command("GET"), link.evaluate("return nonsense(", [], [])):
            with pytest.raises(StoreUnavailableError, match=r"^Redis refused a command: [a-z ]+$"):
                await attempt
        assert link.available
        assert (link.failures, link.odd_answers) == (2, 0)


async def test_the_password_is_used_and_never_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    async with RedisServer(tmp_path, password="hunter2") as server:
        async with linked(server.url) as link:
            assert await link.command("PING") is not None
        async with linked(server.url.replace("hunter2", "hunter3")) as link:
            with pytest.raises(StoreUnavailableError):
                await link.command("PING")
            assert link.last_error == "authentication failed"
    assert "hunter" not in caplog.text
    assert "hunter" not in repr(Redis(url=server.url))


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path) -> None:
    """The wheel's server has no TLS, so a relay in front of it speaks it."""
    trusted, foreign = authority(tmp_path / "trusted"), authority(tmp_path / "foreign", "other")
    files = trusted.sign("redis", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    async with RedisServer(tmp_path / "redis") as server:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, here = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.gather(_pump(reader, here), _pump(there, writer))

        front = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
        port = front.sockets[0].getsockname()[1]
        async with linked(f"rediss://127.0.0.1:{port}", tls_ca_file=str(trusted.bundle), timeout_seconds=2) as link:
            assert await link.command("ECHO", "a") == b"a"
        async with linked(f"rediss://127.0.0.1:{port}", tls_ca_file=str(foreign.bundle), timeout_seconds=2) as link:
            assert not link.available
        async with linked(f"rediss://127.0.0.1:{port}", timeout_seconds=2) as link:
            assert not link.available
        front.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_the_heartbeat_keeps_its_time(tmp_path: Path) -> None:
    clock = FakeClock()
    async with RedisServer(tmp_path) as server:
        link = RedisLink(Redis(url=server.url), clock)
        assert link.answered_at == float("-inf")
        await link.start()
        asked = link.answered_at
        await clock.advance(HEARTBEAT_SECONDS)
        await eventually(lambda: link.answered_at == asked + HEARTBEAT_SECONDS)
        await link.stop()
        assert not link.available


async def test_stopping_does_not_wait_for_a_server_that_stands_still(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server:
        async with linked(server.url):
            server.pause()
            began = time.monotonic()
        assert time.monotonic() - began < paced(1)
        server.resume()


async def test_a_link_is_open_until_the_stack_ends(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stop:
        server = await stop.enter_async_context(RedisServer(tmp_path))
        # Its default time for an answer is short of what a busy machine may need.
        link = await open_link(Redis(url=server.url, timeout_seconds=5), SystemClock(), stop)
        assert link.available
    assert not link.available


@pytest.mark.rule("R444")
async def test_a_replica_is_away_with_a_master_and_without(tmp_path: Path) -> None:
    """What it has may be old; noticed by the heartbeat, or by the first command that it refuses."""
    async with (
        RedisServer(tmp_path / "one") as server,
        RedisServer(tmp_path / "two") as other,
        linked(server.url, timeout_seconds=2) as link,
    ):
        for host, port in (("127.0.0.1", 1), ("127.0.0.1", other.port)):
            server.run("REPLICAOF", host, port)
            with pytest.raises(StoreUnavailableError):
                await link.command("SET", "a", "1")
            assert (link.available, link.last_error) == (False, "the server is a replica, not a master")
            await beaten()
            assert (link.available, link.last_error) == (False, "the server is a replica, not a master")
            server.run("REPLICAOF", "NO", "ONE")
            await eventually(lambda: link.available)
        server.run("REPLICAOF", "127.0.0.1", 1)
        await eventually(lambda: not link.available)


@pytest.mark.rule("R444")
async def test_a_user_who_may_not_ask_for_the_role_writes_instead(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        server.run("ACL", "SETUSER", "default", "-info")
        await beaten()
        assert link.available
        assert 0 < server.run("PTTL", "gateway:heartbeat") <= 10_000
        server.run("REPLICAOF", "127.0.0.1", 1)
        await beaten()
        assert (link.available, link.last_error) == (False, "the server is a replica, not a master")


@pytest.mark.rule("R445")
async def test_what_no_request_waits_for_has_more_time_and_its_own_connections(tmp_path: Path) -> None:
    """The server counts as away for requests, and is asked all the same."""
    async with (
        RedisServer(tmp_path) as server,
        Relay(server.port) as relay,
        linked(f"redis://127.0.0.1:{relay.port}", timeout_seconds=0.1) as link,
    ):
        relay.delay = 0.1
        await eventually(lambda: not link.available)
        assert await link.evaluate(TWICE, ["n"], [2], patient=True) == [b"n", b"2", 2]
        relay.silent = True
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await link.evaluate(TWICE, ["n"], [2], patient=True)
        assert PATIENCE_SECONDS - 0.01 <= time.monotonic() - began < paced(PATIENCE_SECONDS + 0.2)
        relay.silent = False


@pytest.mark.rule("R442")
async def test_a_silent_server_does_not_hold_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long requests would wait for it."""
    monkeypatch.setattr(redis_link, "START_SECONDS", 0.1)
    async with RedisServer(tmp_path) as server:
        server.pause()
        async with asyncio.timeout(8), linked(server.url, timeout_seconds=10) as link:
            assert not link.available
            server.resume()
            await eventually(lambda: link.available)
