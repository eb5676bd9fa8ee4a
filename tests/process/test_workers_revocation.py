"""Two gateways with two workers each and one Redis, all real processes: a revocation is in force on all four."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.features.revocation.redis_source import SETTLING_SECONDS
from tests.support.gateways.revoking import SECRET, revoke_by_call
from tests.support.gateways.running import RawClient, request
from tests.support.gateways.workers import WorkersGateway, config_text, environment, workers_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.upstreams.recording import raw_upstream

#: Connections to each gateway: enough that both of its workers have some.
CONNECTIONS = 30


async def connected(gateway: WorkersGateway, token: bytes) -> list[RawClient]:
    """Return connections to both workers over which a token is hot."""
    clients = await gateway.spread(CONNECTIONS)
    for client in clients:
        for _ in range(3):
            assert (await client.exchange(request(b"GET", "/me", token=token))).status == 200
    shares = [worker["open_connections"] for worker in (await gateway.status())["workers"]]
    assert len(shares) == 2
    assert min(shares) > 0
    return clients


async def all_refused(clients: Sequence[RawClient], token: bytes) -> float:
    """Return after how many seconds no connection serves a token any more."""
    began = time.monotonic()
    left = list(clients)
    while left:
        answers = await asyncio.gather(*(client.exchange(request(b"GET", "/me", token=token)) for client in left))
        left = [client for client, answer in zip(left, answers, strict=True) if answer.status != 401]
    return time.monotonic() - began


@pytest.mark.rule("C79", "R128")
async def test_a_revocation_is_in_force_on_all_workers_of_all_gateways_within_a_second(
    tmp_path: Path, cache: Path
) -> None:
    """By the command, by the admin call of either gateway, and after an outage of Redis."""
    key = SigningKey.ec("a")
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    async with raw_upstream() as upstream, FakeIdp() as idp, RedisServer(tmp_path / "redis", keep=True) as server:
        idp.publish(key)
        text = config_text(upstream.url, idp.jwks_url)
        text += f'\n[redis]\nurl = "{server.url}"\ntimeout_seconds = 1\n[revocation]\nadmin_token_file = "{secret}"\n'
        async with (
            workers_gateway(folders[0], cache, text) as one,
            workers_gateway(folders[1], cache, text) as two,
        ):
            await one.until("/readyz", ready=True)
            await two.until("/readyz", ready=True)

            def token(name: str) -> bytes:
                return mint(key, good_claims(time.time(), jti=name))

            tokens = {name: token(name) for name in ("command", "call", "meanwhile", "good")}
            clients = [client for gateway in (one, two) for client in await connected(gateway, tokens["good"])]
            for shown in tokens.values():
                for client in clients:
                    assert (await client.exchange(request(b"GET", "/me", token=shown))).status == 200

            await command(folders[0] / "gateway.toml", cache, "--jti", "command")
            assert await all_refused(clients, tokens["command"]) < paced(1)

            answer = await revoke_by_call(two.admin_port, {"jti": "call"})
            assert (answer.status, answer.json) == (200, {"revoked": 1, "store": "redis"})
            assert await all_refused(clients, tokens["call"]) < paced(1)

            await server.kill()
            while (await clients[0].exchange(request(b"GET", "/me", token=tokens["good"]))).status != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await server.restart()
            await command(folders[0] / "gateway.toml", cache, "--jti", "meanwhile")
            assert await all_refused(clients, tokens["meanwhile"]) < paced(1)
            known_by = time.monotonic() + paced(SETTLING_SECONDS + 1)  # until then others may write back
            for client in clients:
                while (await client.exchange(request(b"GET", "/me", token=tokens["good"]))).status != 200:
                    assert time.monotonic() < known_by
                    await asyncio.sleep(0.01)
            page = (await one.admin("/metrics")).body
            assert b'gateway_revocation_entries{kind="token",source="redis"} 3.0' in page, "not once for each worker"
            assert b"gateway_revocation_known 1.0" in page
            assert [worker["revocation"]["redis"]["entries"] for worker in (await two.status())["workers"]] == [3, 3]
            for client in clients:
                await client.close()


@pytest.mark.rule("R128")
async def test_without_redis_the_file_tells_all_workers(tmp_path: Path, cache: Path) -> None:
    key = SigningKey.ec("a")
    secret, file = tmp_path / "secret", tmp_path / "revoked.jsonl"
    secret.write_bytes(SECRET)
    file.touch()
    async with raw_upstream() as upstream, FakeIdp() as idp:
        idp.publish(key)
        text = config_text(upstream.url, idp.jwks_url)
        text += f'\n[revocation]\nfile = "{file}"\nadmin_token_file = "{secret}"\n'
        async with workers_gateway(tmp_path, cache, text) as gateway:
            await gateway.until("/readyz", ready=True)
            first, second = (mint(key, good_claims(time.time(), sid=sid)) for sid in ("1", "2"))
            clients = await connected(gateway, first)
            await command(tmp_path / "gateway.toml", cache, "--sid", "1")
            assert await all_refused(clients, first) < paced(1)
            assert (await revoke_by_call(gateway.admin_port, {"sid": "2"})).json == {"revoked": 1, "store": "file"}
            assert await all_refused(clients, second) < paced(1)
            assert [json.loads(line)["sid"] for line in file.read_text().splitlines()] == ["1", "2"]
            for client in clients:
                await client.close()


async def command(config: Path, cache: Path, *arguments: str) -> None:
    """Run ``gateway revoke``."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "revoke", "--config", str(config), *arguments),
        env=environment(cache),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await process.wait() == 0
