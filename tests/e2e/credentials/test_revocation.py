"""Revocation through a whole gateway, in both lanes: tokens, keys, tunnels, and every state that Redis can be in."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation import redis_source as revocation_redis
from gateway.features.revocation.redis_log import RevocationLog
from gateway.features.revocation.redis_source import SETTLING_SECONDS
from gateway.jwt.revocations.table import MAX_RECORDS, EntryKind
from gateway.process.foreground import calm_collector
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from tests.support.clients.websockets import close_of, dial, socket_upstream
from tests.support.clock import eventually
from tests.support.gateways.revoking import revoked, until_status
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.pace import own_time, paced
from tests.support.stores.redis import RedisServer
from tests.support.tokens.api_keys import KEY, OTHER, entry
from tests.support.upstreams.recording import Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/open", "revocation_failure": "open"},
    {"path": "/optional", "auth": "optional"},
    {"path": "/public", "auth": "public"},
    {"path": "/observe", "observe": True},
    {"path": "/keys", "credentials": ["api_key"]},
    {"path": "/keys-open", "credentials": ["api_key"], "revocation_failure": "open"},
    {"path": "/long", "end_at_expiry": True},
)
KEYS = [entry(owner="alice inc"), entry(OTHER, "other")]
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"


def address(server: RedisServer) -> dict[str, Any]:
    return {"url": server.url, "timeout_seconds": paced(0.1)}


class Shared:
    """A gateway with Redis, and the writing of revocations to it as another program does it."""

    def __init__(self, gateway: RunningGateway, server: RedisServer, directory: Path) -> None:
        self.gateway, self.server = gateway, server
        self._config = directory / "revoke.toml"

    async def revoke(self, *arguments: str) -> None:
        """Write with the command, in a process of its own."""
        self._config.write_text(
            '[[upstreams]]\nname = "u"\nurls = ["http://127.0.0.1:1"]\n[[routes]]\npath = "/"\nupstream = "u"\n'
            'auth = "public"\n[[issuers]]\nname = "main"\nissuer = "https://idp.test/"\naudience = ["api"]\n'
            f'[redis]\nurl = "{self.server.url}"\n'
        )
        await revoke(self._config, *arguments)


async def revoke(config: Path, *arguments: str) -> None:
    """Run ``gateway revoke``, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "revoke", "--config", str(config), *arguments, stderr=asyncio.subprocess.PIPE
    )
    errors = (await process.communicate())[1]
    assert process.returncode == 0, errors


@contextlib.asynccontextmanager
async def shared(directory: Path, upstream_url: str, *, keep: bool = False) -> AsyncIterator[Shared]:
    async with (
        RedisServer(directory / "redis", keep=keep) as server,
        running_gateway(
            upstream_url,
            directory,
            routes=ROUTES,
            api_keys=KEYS,
            redis=address(server),
        ) as gateway,
    ):
        yield Shared(gateway, server, directory)


async def again(client: RawClient, path: str, token: bytes) -> int:
    """Ask over a connection that knows the request already."""
    return (await client.exchange(request(b"GET", path, token=token))).status


@pytest.mark.rule("C79", "R128")
async def test_a_hot_token_is_refused_within_a_second_of_the_command(tmp_path: Path) -> None:
    """Over a connection that has served it a hundred times; other tokens go on."""
    async with raw_upstream() as upstream, shared(tmp_path, upstream.url) as made:
        token, other = made.gateway.token(jti="a:b\r\nDEL x"), made.gateway.token(jti="b", sub="bob")
        client, second = await made.gateway.client(), await made.gateway.client()
        for _ in range(100):
            assert await again(client, "/", token) == 200
        await made.revoke("--jti", "a:b\r\nDEL x")
        seen = len(upstream.requests)
        await until_status(lambda: client.exchange(request(b"GET", "/", token=token)), 401, within=paced(1))
        seen = len(upstream.requests)
        refused = await client.exchange(request(b"GET", "/", token=token))
        assert (refused.status, refused.json["error"]) == (401, "invalid_token")
        assert refused.json["error_description"] == "The credential was revoked."
        assert b'error="invalid_token"' in (refused.one(b"www-authenticate") or b"")
        assert len(upstream.requests) == seen
        assert await again(second, "/", other) == 200
        log = await made.gateway.log(103)
        assert log[-2]["reason"] == "revoked"
        assert "DEL" not in json.dumps(log)


@pytest.mark.rule("R132")
async def test_keys_are_revoked_by_their_owner(tmp_path: Path) -> None:
    """A subject is a subject, whatever it shows; entries of an issuer are about tokens only."""
    async with raw_upstream() as upstream, shared(tmp_path, upstream.url) as made:

        def ask(key: bytes) -> Any:
            return made.gateway.get("/keys", (b"X-Api-Key", key))

        await made.revoke("--sub", "other", "--issuer", "https://idp.test/")
        await made.revoke("--sub", "alice inc", "--before", "2020-01-01T00:00:00Z")
        await until_status(lambda: ask(KEY), 401, within=paced(1))
        assert (await ask(OTHER)).status == 200


@pytest.mark.rule("R128", "R322")
async def test_sockets_and_streams_end_with_a_revocation(tmp_path: Path) -> None:
    """At the next look."""
    async with socket_upstream() as upstream, shared(tmp_path, upstream.url) as made:
        client = dial(made.gateway, token=made.gateway.token(sid="s1"))
        async with client as tunnel:
            await tunnel.send("hello")
            assert await tunnel.recv() == "hello"
            await made.revoke("--sid", "s1")
            assert await close_of(tunnel) == (1008, "token or API key revoked")


async def test_a_response_that_ends_with_its_token_ends_with_a_revocation(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(STREAM)
        await reader.read()
        return None

    async with raw_upstream(respond) as upstream, shared(tmp_path, upstream.url) as made:
        client = await made.gateway.client()
        await client.send(request(b"GET", "/long", token=made.gateway.token(sub="carol")))
        assert await client.reader.readuntil(b"event\r\n")
        await made.revoke("--sub", "carol")
        assert await client.at_end(within=3)
        assert (await made.gateway.log())[0]["reason"] == "revoked"


@pytest.fixture
def calm() -> Iterator[None]:
    """Have garbage collected as the command does, which does not look at all that the tests before have left."""
    before = gc.get_threshold()
    calm_collector()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("fault", ["killed", "paused"])
@pytest.mark.rule("R130")
async def test_while_redis_is_away_each_route_has_its_word_and_nothing_waits(fault: str, tmp_path: Path) -> None:
    """503 or what was known last; nothing takes 100 ms longer; what came meanwhile is in force in a second."""
    async with raw_upstream() as upstream, shared(tmp_path, upstream.url, keep=True) as made:
        gateway = made.gateway
        revoked, token = gateway.token(jti="before"), gateway.token(jti="good")
        await made.revoke("--jti", "before")
        await until_status(lambda: gateway.get(token=revoked), 401, within=paced(1))
        clients = {path: await gateway.client() for path in ("/", "/open", "/public", "/optional", "/observe")}
        for path, client in clients.items():
            for _ in range(3):
                assert await again(client, path, token) == 200
        slowest = 0.0

        async def ask(path: str, shown: bytes = token) -> int:
            nonlocal slowest
            began = own_time()
            status = await again(clients[path], path, shown)
            slowest = max(slowest, own_time() - began)
            return status

        if fault == "killed":
            await made.server.kill()
        else:
            made.server.pause()
        began = time.monotonic()
        while await ask("/") == 200:
            assert time.monotonic() - began < paced(1.5)
            await asyncio.sleep(0.005)
        for _ in range(50):
            assert [await ask(path) for path in clients] == [503, 200, 200, 503, 200]
        assert await ask("/open", revoked) == 401, "what was known stays known"
        assert (await gateway.get("/")).status == 401, "without a token there is nothing to decide"
        assert (await gateway.get("/", token=b"bad")).status == 401
        refused = await gateway.get("/", token=token)
        assert (refused.status, refused.json["error"], refused.one(b"retry-after")) == (503, "unavailable", b"1")
        assert (await gateway.get("/keys", (b"X-Api-Key", KEY))).status == 503
        assert (await gateway.get("/keys-open", (b"X-Api-Key", KEY))).status == 200
        assert slowest < 0.1
        if fault == "killed":
            await made.server.restart()
        else:
            made.server.resume()
        await made.revoke("--jti", "good")
        await until_status(lambda: gateway.get(token=token), 401, within=paced(1))
        # A restart counts as a loss: for a second others may know more.
        await until_status(
            lambda: gateway.get(token=gateway.token(jti="fresh")), 200, within=paced(SETTLING_SECONDS + 1)
        )
        assert (await gateway.get(token=revoked)).status == 401
        samples = (await gateway.admin("/metrics")).body
        assert b'gateway_observed_refusals_total{reason="revocation_unknown",route="/observe"} 50.0' in samples


@pytest.mark.rule("R128", "R130")
async def test_a_redis_that_comes_back_empty_makes_nobody_forget(tmp_path: Path) -> None:
    """What is known stays in force, and is written back."""
    async with raw_upstream() as upstream, shared(tmp_path, upstream.url) as made:
        token = made.gateway.token(jti="a")
        await made.revoke("--jti", "a")
        await until_status(lambda: made.gateway.get(token=token), 401, within=paced(1))
        await made.server.kill()
        await made.server.restart()
        assert (await made.gateway.get(token=token)).status == 401
        await eventually(lambda: made.server.run("ZCOUNT", "gateway:{revocation}:log", "(0", "+inf") == 1)
        assert (await made.gateway.get(token=token)).status == 401


@pytest.mark.rule("R130")
async def test_a_gateway_that_starts_without_redis_serves_when_it_comes(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    async with (
        raw_upstream() as upstream,
        running_gateway(
            upstream.url,
            tmp_path,
            routes=ROUTES,
            api_keys=KEYS,
            redis=address(server),
        ) as gateway,
    ):
        token = gateway.token()
        wanted = {"/": 503, "/open": 200, "/optional": 503, "/public": 200}
        assert {path: (await gateway.get(path, token=token)).status for path in wanted} == wanted
        assert (await gateway.admin("/readyz")).status == 503
        async with server:
            await until_status(lambda: gateway.get(token=token), 200, within=paced(1))
            assert (await gateway.admin("/readyz")).status == 200


@pytest.mark.untraced
@pytest.mark.usefixtures("calm")
@pytest.mark.rule("R128")
async def test_a_list_that_is_filled_under_load_holds_no_request_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty thousand at once, while others are served; and each of them is in force."""
    # Reading all of it takes longer on a busy machine, and is not to count as an outage here.
    monkeypatch.setattr(revocation_redis, "STALE_SECONDS", paced(2))
    async with raw_upstream() as upstream, shared(tmp_path, upstream.url) as made:
        gateway = made.gateway
        token, last = gateway.token(jti="good"), gateway.token(jti="49999")
        clients = [await gateway.client() for _ in range(4)]
        assert await again(clients[0], "/", last) == 200
        took: list[float] = []
        filled = asyncio.Event()

        async def load(client: RawClient) -> None:
            while not filled.is_set():
                began = own_time()
                assert await again(client, "/", token) == 200
                took.append(own_time() - began)

        async def fill() -> int:
            await write_apart(made.server.url, 0, 50_000)
            await until_status(lambda: gateway.get(token=last), 401, within=paced(1))
            count = 50_000
            while len(took) <= 100:  # a slow machine served too few meanwhile to say anything: go on
                await write_apart(made.server.url, count, count + 10_000)
                count += 10_000
            filled.set()
            return count

        *_, count = await asyncio.gather(*map(load, clients), fill())
        assert len(took) > 100
        assert max(took) < 0.1

        (source,) = gateway.app.authenticator.revocations.sources
        await until(lambda: len(source.table) == count, within=paced(1))
        page = (await gateway.admin("/status")).json
        assert page["revocation"]["redis"]["entries"] == count


async def write_apart(url: str, first: int, end: int) -> None:
    """Revoke so many tokens as another program does: in the same one it would take time from the gateway."""
    call = f"from {__name__} import write_many; write_many({url!r}, {first}, {end})"
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", call, cwd=Path(__file__).parents[3])
    assert await writer.wait() == 0


def write_many(url: str, first: int, end: int) -> None:
    """Revoke the tokens with these numbers as ids."""

    async def write() -> None:
        link = RedisLink(Redis(url=url, timeout_seconds=5), SystemClock())
        await link.start()
        ends = time.time() + 3600
        for start in range(first, end, MAX_RECORDS):
            numbers = range(start, min(end, start + MAX_RECORDS))
            records = b"".join(revoked(EntryKind.TOKEN, str(number), expires=ends) for number in numbers)
            await RevocationLog(link).add(records)
        await link.stop()

    asyncio.run(write())
