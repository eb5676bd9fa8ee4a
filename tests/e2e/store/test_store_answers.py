"""A store that answers nonsense, by feature: it decides no more than one that is away.

The store is a server that speaks Redis' protocol over real sockets and says
what a test wants; one test puts odd values into a real Redis.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation.redis_log import RevocationLog
from gateway.jwt.revocations.table import EntryKind
from gateway.settings.tables.redis import Redis
from gateway.store.answers import StoreUnavailableError
from gateway.store.redis_link import RedisLink
from gateway.tasks import periodic
from tests.support.clients.proving import bound_token, proved
from tests.support.composed import Settings
from tests.support.gateways.revoking import revoked, until_status
from tests.support.gateways.running import RunningGateway, configuration, request, running, running_gateway
from tests.support.issuers.introspection import authorization_server, opaque_issuer, said
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.stores.scripted_redis import ODD_ANSWERS, RespServer
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import RawUpstream, raw_upstream

#: What Redis answers where an id was used.
USED = b"$10\r\nused 1 0 0\r\n"
TABLE = {"redis": False}


@contextlib.asynccontextmanager
async def served(folder: Path, url: str, **sections: Any) -> AsyncIterator[tuple[RunningGateway, RawUpstream]]:
    redis = {"url": url, "timeout_seconds": paced(0.3)}
    async with raw_upstream() as upstream, running_gateway(upstream.url, folder, redis=redis, **sections) as gateway:
        yield gateway, upstream


async def sample(gateway: RunningGateway, name: str) -> float:
    lines = (await gateway.admin("/metrics")).body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@pytest.mark.rule("R435")
async def test_no_answer_but_the_right_one_admits_a_token_or_a_proof(tmp_path: Path) -> None:
    """503, and 401 only for the answer that means "used"; never 200, for used ones and for new ones."""
    routes = [{"path": "/", "single_use": True}, {"path": "/bound"}]
    async with (
        RespServer() as store,
        served(tmp_path, store.url, routes=routes, revocation=TABLE) as (gateway, upstream),
    ):
        used, bound = gateway.token(jti="used"), bound_token(gateway)
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/", token=used))).status == 200
        assert (await client.exchange(proved(bound, "/bound"))).status == 200
        seen = len(upstream.requests)
        for number, odd in enumerate((*ODD_ANSWERS, USED)):
            store.odd = {b"EVALSHA": odd}
            wanted = 401 if odd == USED else 503
            new = request(b"GET", "/", token=gateway.token(jti=f"new-{number}"))
            assert (await client.exchange(new)).status == wanted, odd
            assert (await client.exchange(proved(bound, "/bound"))).status == wanted, odd
            assert (await client.exchange(request(b"GET", "/", token=used))).status == 401, odd
        assert len(upstream.requests) == seen
        assert await sample(gateway, "gateway_redis_odd_answers_total") >= 2 * (len(ODD_ANSWERS) - 1)
        store.odd = {}
        assert (await client.exchange(request(b"GET", "/", token=gateway.token(jti="new")))).status == 200


@pytest.mark.rule("R435")
async def test_an_odd_bucket_leaves_the_limit_to_the_worker(tmp_path: Path) -> None:
    """No request is let through or refused because of what the answer happens to be."""
    count = len(ODD_ANSWERS)
    routes = [{"path": "/", "rate_limit": {"requests": 1, "seconds": 1000, "burst": count}}]
    async with RespServer() as store, served(tmp_path, store.url, routes=routes, revocation=TABLE) as (gateway, _):
        client, token = await gateway.client(), gateway.token()
        for number, odd in enumerate(ODD_ANSWERS, start=1):
            store.odd = {b"EVALSHA": odd}
            answer = await client.exchange(request(b"GET", "/", token=token))
            assert (answer.status, answer.one(b"ratelimit")[:8]) == (200, b'"sub";r=')  # type: ignore[index]
            assert answer.one(b"ratelimit").startswith(b'"sub";r=%d;' % (count - number)), odd  # type: ignore[union-attr]
        for odd in ODD_ANSWERS[:3]:
            store.odd = {b"EVALSHA": odd}
            assert (await client.exchange(request(b"GET", "/", token=token))).status == 429
        assert await sample(gateway, "gateway_rate_limit_fallbacks_total") == count + 3


@pytest.mark.rule("R435")
async def test_odd_shared_introspection_answers_have_the_issuer_asked(tmp_path: Path) -> None:
    """A miss, whatever it is; the caller is who the issuer says."""
    key, file = SigningKey.rsa("a"), tmp_path / "jwks.json"
    file.write_bytes(jwks(key))
    async with RespServer() as store, authorization_server() as server, raw_upstream() as upstream:
        made = configuration(
            upstream.url,
            file,
            routes=[{"path": "/", "credentials": ["opaque"], "issuers": ["as"]}],
            redis={"url": store.url, "timeout_seconds": paced(0.3)},
            revocation=TABLE,
            identity={"x-user": "sub"},
        )
        made["issuers"].append(opaque_issuer(tmp_path, server.url, introspection_max_inactive_per_second=10_000))
        async with running(Settings.model_validate(made), key) as gateway:
            client = await gateway.client()
            for number, odd in enumerate(ODD_ANSWERS):
                store.odd = dict.fromkeys((b"GET", b"PSETEX", b"SET"), odd)
                bad, good = f"bad-{number}", f"good-{number}"
                server.tokens[good] = said(sub=f"user-{number}")
                assert (await client.exchange(request(b"GET", "/", token=bad.encode()))).status == 401, odd
                assert (await client.exchange(request(b"GET", "/", token=good.encode()))).status == 200, odd
                assert (server.questions(bad), server.questions(good)) == (1, 1)
                assert upstream.requests[-1].one(b"x-user") == b"user-%d" % number
            found = (await gateway.admin("/metrics")).body
            name = b'gateway_introspection_shared_lookups_total{issuer="as",outcome="failures"}'
            (line,) = (line for line in found.splitlines() if line.startswith(name))
            assert float(line.split()[-1]) >= 2 * (len(ODD_ANSWERS) - 6)  # some are values that do not open


@contextlib.asynccontextmanager
async def linked(redis: RedisServer) -> AsyncIterator[RedisLink]:
    """Write and read as another program does."""
    link = RedisLink(Redis(url=redis.url, timeout_seconds=2), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


REVOCATION_ROUTES: tuple[dict[str, Any], ...] = ({"path": "/"}, {"path": "/open", "revocation_failure": "open"})


async def closed_is_503_and_open_goes_on(gateway: RunningGateway, token: bytes, revoked_token: bytes = b"") -> None:
    """Wait until it is not known what is revoked; no answer of an open route is refused for that."""
    client = await gateway.client()
    again = request(b"GET", "/open", token=token)
    await until_status(lambda: gateway.get("/", token=token), 503, within=paced(1.5))
    for _ in range(3):
        assert (await client.exchange(again)).status == 200
        assert (await client.exchange(request(b"GET", "/", token=token))).status == 503
    if revoked_token:
        assert (await gateway.get("/open", token=revoked_token)).status == 401, "what was known stays known"
        assert (await gateway.get("/", token=revoked_token)).status == 401


@pytest.mark.rule("R406", "R435")
async def test_odd_answers_about_revocations_are_no_knowledge(tmp_path: Path) -> None:
    """Each route has its own word then; the look goes on, and the next good answer is one."""
    odd = iter(ODD_ANSWERS)
    async with RespServer() as store, served(tmp_path, store.url, routes=REVOCATION_ROUTES) as (gateway, _):
        token = gateway.token()
        await until_status(lambda: gateway.get("/", token=token), 200, within=paced(1.5))
        store.odd[b"EVALSHA"] = lambda: next(odd, ODD_ANSWERS[0])
        await closed_is_503_and_open_goes_on(gateway, token)
        assert await sample(gateway, "gateway_revocation_known") == 0
        del store.odd[b"EVALSHA"]
        await until_status(lambda: gateway.get("/", token=token), 200, within=paced(1.5))


LOG, EPOCH, HEAD = KEYS_OF_LOG = tuple(f"gateway:{{revocation}}:{part}" for part in ("log", "epoch", "head"))

#: What another program has put into Redis. Where the number of the last write would not show it, that is moved on, too.
ODD_VALUES: dict[str, list[tuple[Any, ...]]] = {
    "head is not a number": [("SET", HEAD, "inf")],
    "head is a list": [("DEL", HEAD), ("LPUSH", HEAD, "5")],
    "epoch is empty": [("SET", EPOCH, "")],
    "log is text": [("SET", LOG, "x"), ("INCR", HEAD)],
    "record makes no sense": [("ZADD", LOG, "7", b"\x06" + b"\xff" * 27), ("INCR", HEAD)],
    "number of a record": [("ZADD", LOG, "inf", b"\x00" * 16 + b"\xff" * 4 + b"\x00" * 8), ("INCR", HEAD)],
}


@pytest.mark.parametrize("fault", ODD_VALUES)
@pytest.mark.rule("R406")
async def test_an_odd_value_and_then_no_redis_never_pass_for_knowledge(fault: str, tmp_path: Path) -> None:
    """The looks go on: ``closed`` answers 503 and ``open`` goes on, with the value there and with Redis gone.

    What is known to be revoked stays refused. With the value put right and Redis back, everything is known again. Gone
    is a server that was killed in one case, and one that stands still in the others.
    """
    async with (
        RedisServer(tmp_path / "redis") as redis,
        served(tmp_path, redis.url, routes=REVOCATION_ROUTES) as (gateway, _),
        linked(redis) as link,
    ):
        token, gone = gateway.token(jti="good"), gateway.token(jti="gone")
        await RevocationLog(link).add(revoked(EntryKind.TOKEN, "gone", expires=time.time() + 3600))
        await until_status(lambda: gateway.get("/", token=gone), 401, within=paced(1.5))
        assert (await gateway.get("/", token=token)).status == 200
        kept = {name: redis.run("DUMP", name) for name in KEYS_OF_LOG}
        for command in ODD_VALUES[fault]:
            redis.run(*command)
        await closed_is_503_and_open_goes_on(gateway, token, gone)
        with pytest.raises(StoreUnavailableError):  # nor is it written on
            await RevocationLog(link).page(0)
        if fault == "head is not a number":
            await redis.kill()
            await closed_is_503_and_open_goes_on(gateway, token, gone)
            return
        redis.pause()
        await closed_is_503_and_open_goes_on(gateway, token, gone)
        redis.resume()
        for name, value in kept.items():
            redis.run("RESTORE", name, 0, value, "REPLACE")
        await until_status(lambda: gateway.get("/", token=token), 200, within=paced(2))
        assert (await gateway.get("/", token=gone)).status == 401
        assert await sample(gateway, "gateway_redis_odd_answers_total") > 0
        assert await sample(gateway, "gateway_revocation_failures_total") > 0


@pytest.mark.parametrize("seconds", [0.1, 10])
@pytest.mark.rule("R406", "R441")
async def test_a_silent_store_is_no_knowledge_however_long_it_may_take(seconds: float, tmp_path: Path) -> None:
    """A command under way makes nothing younger, and no request waits for it."""
    async with RespServer() as store, contextlib.AsyncExitStack() as stack:
        options: dict[str, Any] = {"redis": {"url": store.url, "timeout_seconds": seconds}, "routes": REVOCATION_ROUTES}
        upstream = await stack.enter_async_context(raw_upstream())
        gateway = await stack.enter_async_context(running_gateway(upstream.url, tmp_path, **options))
        token = gateway.token()
        await until_status(lambda: gateway.get("/", token=token), 200, within=paced(1.5))
        store.odd[b"EVALSHA"] = b""
        await closed_is_503_and_open_goes_on(gateway, token)


@pytest.mark.rule("R406", "R441")
async def test_looks_that_have_ended_leave_nothing_known(tmp_path: Path) -> None:
    """There is no flag that they would have to take back."""
    async with RespServer() as store, served(tmp_path, store.url, routes=REVOCATION_ROUTES) as (gateway, _):
        token = gateway.token()
        await until_status(lambda: gateway.get("/", token=token), 200, within=paced(1.5))
        (looks,) = (each for each in periodic() if each.kind == "revocations from Redis")
        await looks.stop()
        await closed_is_503_and_open_goes_on(gateway, token)
