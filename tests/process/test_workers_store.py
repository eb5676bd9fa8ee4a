"""Two gateways of two workers and one Redis that fails in every way of the operators' table, all real processes.

Whatever becomes of Redis: no revoked token and no used one is served, at any
worker, old or new.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from gateway.features.revocation.redis_log import RevocationLog
from gateway.jwt.revocations.table import EntryKind
from tests.support.clock import eventually
from tests.support.gateways.fleet import Member, Relay, fleet, remembering_server
from tests.support.gateways.revoking import SECRET, revoke_by_call, revoked, until_status
from tests.support.gateways.running import request
from tests.support.gateways.workers import WorkersGateway, config_text, workers_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.upstreams.recording import raw_upstream

ROOT = Path(__file__).parents[2]
KEY = SigningKey.ec("a")

#: Connections to each gateway that are tried: enough that both of its workers have some.
CONNECTIONS = 10

#: How long Redis is away or silent, and a worker frozen, in seconds. By hand: ``STORE_SECONDS=10``.
SECONDS = float(os.environ.get("STORE_SECONDS", "1.2"))

ROUTES = """
[[routes]]
path = "/open"
upstream = "main"
revocation_failure = "open"
[[routes]]
path = "/once"
upstream = "main"
single_use = true
"""


class Stage:
    """Two gateways, what stands between them and Redis, and what must never be served again.

    Attributes:
        gateways: both.
        relay: the way to Redis.
        servers: Redis, and what may take its place.
        number: of the failure that is on.
        replaced: how often workers were killed.
    """

    def __init__(
        self, gateways: Sequence[WorkersGateway], relay: Relay, servers: list[RedisServer], idp: FakeIdp
    ) -> None:
        self.gateways = gateways
        self.relay = relay
        self.servers = servers
        self.idp = idp
        self.number = self.replaced = 0
        self.revoked: list[bytes] = []
        self.used: list[bytes] = []

    @property
    def redis(self) -> RedisServer:
        return self.servers[0]

    async def revoke(self, **entry: object) -> None:
        deadline = time.monotonic() + 10
        while (await revoke_by_call(self.gateways[0].admin_port, entry)).status != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)

    async def prepare(self) -> None:
        """Revoke a token, in several records of one entry, and use one up."""
        self.number += 1
        now = time.time()
        token = mint(KEY, good_claims(now, sub=f"user-{self.number}", jti=f"revoked-{self.number}"))
        for further in (60, 7200, 3600):
            await self.revoke(sub=f"user-{self.number}", expires=int(now) + further)
        await self.until_known(token)
        self.revoked.append(token)
        self.used.append(await self.use())

    async def use(self) -> bytes:
        """Use a token up and return it; what is as old as a loss of the store is not served even once."""
        deadline = time.monotonic() + 5
        while True:
            now = time.time()
            once = mint(KEY, good_claims(now, jti=f"used-{now}"))
            if served := (await self.ask(self.gateways[0], "/once", once)).count(200):
                assert served == 1
                return once
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)

    async def until_known(self, token: bytes) -> None:
        deadline = time.monotonic() + paced(2)
        while await self.served(token):
            assert time.monotonic() < deadline

    async def served(self, token: bytes) -> bool:
        """Whether any worker serves a token."""
        return any([200 in await self.ask(gateway, "/open", token) for gateway in self.gateways])

    async def ask(self, gateway: WorkersGateway, target: str, token: bytes) -> list[int]:
        """Ask over connections of which both workers have some; return what they got."""

        async def once() -> int:
            client = await gateway.client()
            try:
                return (await client.exchange(request(b"GET", target, token=token), within=SECONDS + 5)).status
            finally:
                await client.close()

        return await asyncio.gather(*(once() for _ in range(CONNECTIONS)))

    async def nothing_passes(self) -> None:
        """No worker serves what was revoked or used; what needs no decision is served."""
        for gateway in self.gateways:
            for target in ("/me", "/open"):
                assert 200 not in await self.ask(gateway, target, self.revoked[-1]), target
            assert 200 not in await self.ask(gateway, "/once", self.used[-1])
            assert set(await self.ask(gateway, "/", b"")) == {200}
            assert set(await self.ask(gateway, "/open", mint(KEY, good_claims(time.time())))) == {200}

    async def replace(self) -> None:
        """Kill a worker of each gateway, and wait until another one serves; all the time the gateway is ready."""
        self.replaced += 1
        place = self.replaced % 2  # one that dies again and again is replaced ever later
        old = [(await gateway.pids())[place] for gateway in self.gateways]
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        for gateway, gone in zip(self.gateways, old, strict=True):
            deadline = time.monotonic() + 20
            while True:
                worker = (await gateway.status())["workers"][place]
                ready = await gateway.admin("/readyz")
                # On a busy machine a worker may not answer the supervisor within a second.
                late = any(worker["state"] == "no_answer" for worker in ready.json["workers"])
                assert ready.status == 200 or late, ready.json
                if worker["state"] == "running" and worker["pid"] != gone:
                    break
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

    async def healed(self) -> None:
        """Wait until all is known again, and what is new is served."""
        deadline = time.monotonic() + 15
        for gateway in self.gateways:
            while set(await self.ask(gateway, "/me", mint(KEY, good_claims(time.time())))) != {200}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        await self.nothing_passes()


Scenario = Callable[[Stage], Awaitable[None]]


async def restarted(stage: Stage) -> None:
    await stage.redis.restart()
    await stage.nothing_passes()


async def late_replica(stage: Stage) -> None:
    """C121: it has the first of three records of one subject, and takes over."""
    late = stage.servers[1]
    late.run("REPLICAOF", "127.0.0.1", stage.redis.port)
    await until_linked(late)
    late.run("REPLICAOF", "127.0.0.1", 1)
    await stage.prepare()
    late.run("REPLICAOF", "NO", "ONE")
    stage.relay.to = late.port
    stage.relay.cut()
    await stage.redis.kill()
    stage.servers.reverse()
    await stage.nothing_passes()
    await stage.servers[1].start()


async def until_linked(replica: RedisServer) -> None:
    await eventually(lambda: replica.run("INFO", "replication")["master_link_status"] == "up")


async def evicted(stage: Stage) -> None:
    """R438: the records alone, and the number alone."""
    for name in ("gateway:{revocation}:log", "gateway:2:used:token", "gateway:{revocation}:head"):
        stage.redis.run("DEL", name)
        await stage.nothing_passes()


async def flushed(stage: Stage) -> None:
    stage.redis.run("FLUSHALL")
    await stage.nothing_passes()


async def lost_at_once(stage: Stage) -> None:
    """R438: no worker hears of a revocation before Redis is cut off and emptied, but those of the gateway that took it.

    What others read last may be believed for 0.6 seconds; a second after that everything is known again.
    """
    token = mint(KEY, good_claims(time.time(), jti=f"lost-{stage.number}"))
    for target in ("/open", "/me"):
        for gateway in stage.gateways:
            assert set(await stage.ask(gateway, target, token)) == {200}
    stage.relay.hold()
    await stage.revoke(jti=f"lost-{stage.number}")
    began = time.monotonic()
    stage.relay.closed = True
    stage.relay.cut()
    stage.redis.run("FLUSHALL")
    stage.relay.closed = False
    for target in ("/open", "/me"):
        assert 200 not in await stage.ask(stage.gateways[0], target, token)
    while await stage.served(token):
        assert time.monotonic() - began < paced(1.6)
    stage.revoked.append(token)
    await stage.nothing_passes()


async def cut(stage: Stage) -> None:
    stage.relay.closed = True
    stage.relay.cut()
    await during(stage)
    stage.relay.closed = False


async def silent(stage: Stage) -> None:
    stage.relay.silent = True
    await during(stage)
    stage.relay.silent = False


async def during(stage: Stage) -> None:
    began = time.monotonic()
    replaced = False
    while time.monotonic() - began < SECONDS:
        await stage.nothing_passes()
        if not replaced:
            await stage.replace()
            replaced = True


async def demoted(stage: Stage) -> None:
    """R444: it goes on to answer, as a replica of a master that is not there."""
    stage.redis.run("REPLICAOF", "127.0.0.1", 1)
    for gateway in stage.gateways:
        deadline = time.monotonic() + paced(2)
        while set(await stage.ask(gateway, "/me", mint(KEY, good_claims(time.time())))) != {503}:
            assert time.monotonic() < deadline
        assert {worker["redis"]["last_error"] for worker in (await gateway.status())["workers"]} == {
            "the server is a replica, not a master"
        }
    await stage.nothing_passes()
    stage.redis.run("REPLICAOF", "NO", "ONE")


async def frozen(stage: Stage) -> None:
    """R441: tokens are revoked meanwhile; what waits for the worker is judged by the new list."""
    for gateway in stage.gateways:
        now = time.time()
        token = mint(KEY, good_claims(now, jti=f"frozen-{now}"))
        clients = [await gateway.client() for _ in range(CONNECTIONS)]
        for client in clients:
            for _ in range(3):
                assert (await client.exchange(request(b"GET", "/open", token=token))).status == 200
        pids = await gateway.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        stage.relay.cut()  # or what is published now may happen to be read before the requests
        await stage_other(stage, gateway).revoke(jti=f"frozen-{now}")
        again = request(b"GET", "/open", token=token)
        waiting = [asyncio.ensure_future(client.exchange(again, within=SECONDS + 5)) for client in clients]
        new = asyncio.ensure_future(stage.ask(gateway, "/open", token))
        await asyncio.sleep(SECONDS)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {401}
        assert set(await new) == {401}
        for client in clients:
            await client.close()
    await stage.nothing_passes()


def stage_other(stage: Stage, gateway: WorkersGateway) -> Stage:
    """Return the same with the other gateway first: the admin port of this one answers too, but must not be needed."""
    others = [each for each in stage.gateways if each is not gateway]
    return Stage([*others, gateway], stage.relay, stage.servers, stage.idp)


async def slow(stage: Stage) -> None:
    """R445: each exchange takes 300 ms, three times what requests wait: revocations are in force on open routes."""
    stage.relay.delay = 0.15
    token = mint(KEY, good_claims(time.time(), jti=f"slow-{stage.number}"))
    await asyncio.sleep(0.7)
    for gateway in stage.gateways:
        assert set(await stage.ask(gateway, "/open", token)) == {200}
    await stage.revoke(jti=f"slow-{stage.number}")
    began = time.monotonic()
    while await stage.served(token):
        assert time.monotonic() - began < paced(1)
    await stage.nothing_passes()
    stage.relay.delay = 0.0


async def provider_away(stage: Stage) -> None:
    """R442: keys are inherited."""
    await stage.idp.stop()
    await stage.replace()
    await stage.nothing_passes()
    await stage.idp.start()


#: What fails, by the first column of the operators' table.
SCENARIOS: dict[str, Scenario] = {
    "restarted empty": restarted,
    "flushed": flushed,
    "loses the newest": lost_at_once,
    "evicts": evicted,
    "a late replica takes over": late_replica,
    "cut off": cut,
    "silent": silent,
    "slow": slow,
    "demoted": demoted,
    "a worker stood still": frozen,
    "the provider is away": provider_away,
}
#: Those of one process each, with clocks and settings of their own: ``test_clocks_and_settings_that_differ``.
APART = {"clocks differ", "settings differ"}


def documented() -> set[str]:
    """Return what the operators' table names."""
    section = (ROOT / "docs" / "operations.md").read_text().split("### What each failure does\n")[1].split("\n#")[0]
    return set(re.findall(r"^\| \*\*([^*]+)\*\*", section, re.MULTILINE))


def test_the_operators_table_is_what_is_tried() -> None:
    assert documented() == set(SCENARIOS) | APART


@contextlib.asynccontextmanager
async def staged(folder: Path, cache: Path) -> AsyncIterator[Stage]:
    secret, folders = folder / "secret", [folder / "one", folder / "two"]
    secret.write_bytes(SECRET)
    for each in folders:
        each.mkdir()
    async with (
        raw_upstream() as upstream,
        FakeIdp() as idp,
        RedisServer(folder / "redis") as first,
        RedisServer(folder / "second") as second,
        Relay(first.port) as relay,
    ):
        idp.publish(KEY)
        texts = [config_text(upstream.url, idp.jwks_url, express=express) + ROUTES for express in (True, False)]
        texts = [
            f'{text}[redis]\nurl = "redis://127.0.0.1:{relay.port}"\n[revocation]\nadmin_token_file = "{secret}"\n'
            for text in texts
        ]
        async with (
            workers_gateway(folders[0], cache, texts[0]) as one,
            workers_gateway(folders[1], cache, texts[1]) as two,
        ):
            for gateway in (one, two):
                await gateway.running()
            yield Stage((one, two), relay, [first, second], idp)


@pytest.mark.timeout(60 + 8 * SECONDS)
@pytest.mark.rule("R438", "R439", "R441", "R442", "R444", "R445", "C121", "C122", "C123")
async def test_whatever_becomes_of_redis_nothing_revoked_or_used_passes(tmp_path: Path, cache: Path) -> None:
    """Each row of the table, one after the other.

    One gateway has the express lane, the other one has not.
    """
    async with staged(tmp_path, cache) as stage:
        for name, scenario in SCENARIOS.items():
            began = time.monotonic()
            try:
                await stage.prepare()
                replaced = stage.replaced
                await scenario(stage)
                if replaced == stage.replaced:
                    await stage.replace()
                await stage.healed()
            except AssertionError as error:
                raise AssertionError(f"Redis: {name}") from error
            print(f"{name}: {time.monotonic() - began:.1f} s")


@pytest.mark.rule("R438", "R440")
async def test_clocks_and_settings_that_differ(tmp_path: Path) -> None:
    """Gateways whose clocks are 180 s apart, with other leeways: nothing revoked or used passes anywhere.

    Redis restarts empty besides.
    """
    routes = [{"path": "/"}, {"path": "/open", "revocation_failure": "open"}, {"path": "/once", "single_use": True}]
    members = [Member(-90, {"issuer": {"leeway_seconds": 120}}), Member(90, {"issuer": {"leeway_seconds": 200}})]
    async with (
        raw_upstream() as upstream,
        remembering_server(tmp_path / "redis") as server,
        fleet(tmp_path, upstream.url, server.url, *members, routes=routes) as (behind, ahead),
    ):
        assert behind.app.redis is not None
        log = RevocationLog(behind.app.redis)
        token, once = (behind.token(jti=name, exp=int(time.time()) + 600) for name in ("revoked", "once"))
        await log.add(revoked(EntryKind.TOKEN, "revoked", expires=time.time() + 600))
        deadline = time.monotonic() + 5
        while (served := (await behind.get("/once", token=once)).status) == 503:
            assert time.monotonic() < deadline
        assert served in (200, 401)
        for lose in (False, True):
            if lose:
                await server.restart()
            for gateway in (behind, ahead):
                await until_status(partial(gateway.get, "/open", token=token), 401, within=paced(2))
                assert (await gateway.get("/", token=token)).status in (401, 503)
                assert (await gateway.get("/once", token=once)).status in (401, 503)
