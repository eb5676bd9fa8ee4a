"""Several workers behind one port and one admin port, as real processes: what is seen of them, and when one dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.gateways.fleet import remembering_server
from tests.support.gateways.running import RawClient, RawResponse, request, until
from tests.support.gateways.workers import PATIENCE, WorkersGateway, config_text, gone, workers_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.pace import paced
from tests.support.tokens.api_keys import KEY, OTHER, entry, write_keys
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.tokens.proofs import bound_to, make_proof, with_proof
from tests.support.upstreams.recording import Received, raw_upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def metric(gateway: WorkersGateway, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    page = await gateway.admin("/metrics")
    samples = [sample for family in text_string_to_metric_families(page.body.decode()) for sample in family.samples]
    series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples]
    assert len(series) == len(set(series)), "one line for each series"
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


async def counted(gateway: WorkersGateway, requests: int) -> bool:
    """Wait until this many were counted: a worker does so just after the response."""
    for _ in range(500):
        if await metric(gateway, "gateway_requests_total") >= requests:
            break
        await asyncio.sleep(0.01)
    return await metric(gateway, "gateway_requests_total") == requests


async def test_two_workers_share_a_port_and_are_seen_as_one(tmp_path: Path, cache: Path) -> None:
    """Connections spread over both; pages and log show all of them."""
    out = tmp_path / "access.log"
    with out.open("wb") as stdout:
        async with (
            raw_upstream() as upstream,
            workers_gateway(tmp_path, cache, config_text(upstream.url), stdout.fileno()) as gateway,
        ):
            clients = await gateway.spread(40)
            for client in clients:
                for _ in range(3):
                    assert (await client.exchange(request(b"GET", "/" + "a" * 500))).body == b"ok"
            status = await gateway.status()
            assert status["open_connections"] == len(clients)
            shares = [worker["open_connections"] for worker in status["workers"]]
            assert sum(shares) == len(clients)
            assert min(shares) > 0
            assert len(set(await gateway.pids())) == 2
            # R412: one gateway has one name, so that a request that comes back is known to every worker.
            assert len({received.one(b"via") for received in upstream.requests}) == 1
            assert await counted(gateway, 3 * len(clients))
            assert await metric(gateway, "gateway_requests_total", route="/", status="200") == 3 * len(clients)
            assert await metric(gateway, "gateway_request_duration_seconds_count") == 3 * len(clients)
            assert await metric(gateway, "gateway_worker_up") == 2
            assert (await gateway.admin("/healthz")).json == {"status": "ok", "workers": 2}
            for client in clients:
                await client.close()
            gateway.process.send_signal(signal.SIGTERM)
            assert await gateway.ended() == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 3 * len(clients)
    assert len({line["request_id"] for line in lines}) == 3 * len(clients)


async def _ask_for_ever(gateway: WorkersGateway, served: list[float], end: asyncio.Event) -> list[float]:
    """Ask again and again over one connection, and over a new one when it breaks; return when it broke.

    No connection may ever be refused: one worker always listens. A reset while connecting is a connection that the
    dying process's queue held, and counts as broken.
    """
    client: RawClient | None = None
    failed: list[float] = []
    while not end.is_set():
        try:
            if client is None:
                client = await gateway.client()
            assert (await client.exchange(request(b"GET", "/"))).body == b"ok"
            served.append(time.monotonic())
        except ConnectionRefusedError:
            raise
        except (ConnectionError, asyncio.IncompleteReadError):
            failed.append(time.monotonic())
            if client is not None:
                await client.close()
            client = None
    if client is not None:
        await client.close()
    return failed


@pytest.mark.rule("R386")
async def test_killed_worker_costs_what_it_held_and_is_replaced(tmp_path: Path, cache: Path) -> None:
    """All other clients are served all the time, new connections too; no counter goes down."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await asyncio.sleep(0.01)
        return OK

    async with (
        raw_upstream(respond) as upstream,
        workers_gateway(tmp_path, cache, config_text(upstream.url)) as gateway,
    ):
        await gateway.running()
        served: list[float] = []
        end = asyncio.Event()
        askers = [asyncio.ensure_future(_ask_for_ever(gateway, served, end)) for _ in range(16)]
        await until(lambda: len(served) > 100)
        before = await metric(gateway, "gateway_requests_total")
        victim = (await gateway.status())["workers"][0]
        assert victim["open_connections"] > 0
        os.kill(victim["pid"], signal.SIGKILL)
        killed = time.monotonic()
        counted = [before]
        while not (back := (await gateway.status())["workers"][0])["restarts"] or back["state"] != "running":
            counted.append(await metric(gateway, "gateway_requests_total"))
        assert time.monotonic() - killed < paced(2)
        count = len(served)
        await until(lambda: len(served) > count + 50)
        counted.append(await metric(gateway, "gateway_requests_total"))
        end.set()
        losses = [times for times in await asyncio.gather(*askers) if times]
        assert 0 < len(losses) <= victim["open_connections"]
        # A client that comes back within a moment can meet the dying process's queue once more; later nothing is
        # lost.
        assert all(len(times) <= 2 and killed <= times[0] and times[-1] < killed + 1 for times in losses)
        assert counted == sorted(counted)
        assert back["pid"] != victim["pid"]
        assert await metric(gateway, "gateway_worker_restarts_total", worker="0") == 1
        await gateway.running()  # with another process that stands by


async def test_worker_that_hangs_is_shown_and_killed_after_the_drain(tmp_path: Path, cache: Path) -> None:
    """A page waits for a second, counters stay, and the exit code tells that requests may be lost."""
    async with (
        raw_upstream() as upstream,
        workers_gateway(tmp_path, cache, config_text(upstream.url, drain_seconds=0)) as gateway,
    ):
        for _ in range(10):
            await gateway.get()
        assert await counted(gateway, 10)
        pids = await gateway.pids()
        os.kill(pids[0], signal.SIGSTOP)
        began = time.monotonic()
        status, ready, count, up, health = await asyncio.gather(
            gateway.status(),
            gateway.admin("/readyz"),
            metric(gateway, "gateway_requests_total"),
            metric(gateway, "gateway_worker_up", worker="0"),
            gateway.admin("/healthz"),
        )
        assert 0.9 < time.monotonic() - began < paced(2.5)
        assert [worker["state"] for worker in status["workers"]] == ["no_answer", "running"]
        assert (ready.status, ready.json["workers"][0]["state"]) == (503, "no_answer")
        assert (count, up, health.status) == (10, 0, 200)
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended(paced(6)) == 1
        assert all(map(gone, pids))
    assert any("killing 1 workers" in line for line in gateway.lines)


@pytest.mark.rule("R174", "R378", "R442")
async def test_ready_when_each_worker_has_keys_and_each_asks_once(tmp_path: Path, cache: Path) -> None:
    """One worker without keys is enough to be unready; a replaced one has the others' keys."""
    key, gate = SigningKey.ec("a"), asyncio.Event()
    async with FakeIdp() as idp, raw_upstream() as upstream:
        idp.publish(key, gate=gate)
        async with workers_gateway(tmp_path, cache, config_text(upstream.url, idp.jwks_url)) as gateway:
            await until(lambda: idp.key_fetches() == 2)
            unready = await gateway.admin("/readyz")
            assert (unready.status, unready.json["issuers"]) == (503, {"main": {"ready": False, "reason": "no_keys"}})
            assert (await gateway.get()).status == 200  # what needs no keys
            gate.set()
            page, _ = await gateway.until("/readyz", ready=True)
            assert [worker["issuers"]["main"]["ready"] for worker in page["workers"]] == [True, True]
            token = mint(key, good_claims(time.time()))
            for _ in range(20):
                client = await gateway.client()
                assert (await client.exchange(request(b"GET", "/me", token=token))).status == 200
                await client.close()
            cache_sums = (await gateway.status())["token_cache"]
            assert (cache_sums["size"], cache_sums["hits"], cache_sums["misses"]) == (2, 18, 2)
            assert idp.key_fetches() == 2
            old = await gateway.pids()
            os.kill(old[1], signal.SIGKILL)
            while not all(one not in (None, old[1]) for one in await gateway.pids()):
                assert (await gateway.admin("/readyz")).status == 200
            page, _ = await gateway.until("/readyz", ready=True)
            for _ in range(20):
                client = await gateway.client()
                assert (await client.exchange(request(b"GET", "/me", token=token))).status == 200
                await client.close()
            assert idp.key_fetches() == 2


async def test_every_worker_reads_the_file_of_keys_again(tmp_path: Path, cache: Path) -> None:
    """A key comes into force and is withdrawn in all of them; the pages tell the least that one knows."""
    file = tmp_path / "keys.jsonl"
    write_keys(file, entry(OTHER, "other"))
    async with raw_upstream() as upstream:
        text = (
            config_text(upstream.url) + '\n[[routes]]\npath = "/keys"\nupstream = "main"\ncredentials = ["api_key"]\n'
        )
        async with workers_gateway(tmp_path, cache, f'{text}[tokens]\napi_keys_file = "{file}"\n') as gateway:
            await gateway.running()
            clients = await gateway.spread(20)

            async def statuses() -> set[int]:
                ask = request(b"GET", "/keys", (b"X-Api-Key", KEY))
                return {(await client.exchange(ask)).status for client in clients}

            async def until_all_say(status: int) -> None:
                for _ in range(int(PATIENCE / 0.1)):
                    if await statuses() == {status}:
                        return
                    await asyncio.sleep(0.1)
                raise AssertionError(f"not all of them say {status}")

            assert await statuses() == {401}
            write_keys(file, entry(OTHER, "other"), entry())
            await until_all_say(200)
            assert await metric(gateway, "gateway_api_keys") == 2
            write_keys(file, "no entry")
            for _ in range(int(PATIENCE / 0.1)):
                if await metric(gateway, "gateway_api_key_reload_failures_total") == 2:
                    break
                await asyncio.sleep(0.1)
            assert await statuses() == {200}
            told = [worker["api_keys"] for worker in (await gateway.status())["workers"]]
            assert [(one["keys"], "line 1" in one["last_error"]) for one in told] == [(2, True)] * 2
            write_keys(file)
            await until_all_say(401)
            for client in clients:
                await client.close()


@pytest.mark.rule("R137", "R138")
async def test_workers_share_nonces_and_what_was_used(tmp_path: Path, cache: Path) -> None:
    """What one worker gave out is good with all, and what was used with one is used with all."""
    key, client_key = SigningKey.ec("a"), SigningKey.ec("client")
    async with FakeIdp() as idp, raw_upstream() as upstream, remembering_server(tmp_path / "redis") as redis:
        idp.publish(key)
        shared = f'\n[dpop]\nnonce_seconds = 3600\n[redis]\nurl = "{redis.url}"\ntimeout_seconds = 1\n'
        text = config_text(upstream.url, idp.jwks_url) + shared
        async with workers_gateway(tmp_path, cache, text) as gateway:
            await gateway.until("/readyz", ready=True)
            token = mint(key, good_claims(time.time(), cnf=bound_to(client_key)))

            async def ask(proof: bytes) -> RawResponse:
                client = await gateway.client()
                answer = await client.exchange(request(b"GET", "/me", *with_proof(token, proof)))
                await client.close()
                return answer

            def proof(**claims: Any) -> bytes:
                return make_proof(client_key, token, time.time(), uri="http://gateway.test/me", **claims)

            nonces = {(await ask(proof())).one(b"dpop-nonce") for _ in range(20)}
            assert len(nonces) == 1
            nonce = (nonces.pop() or b"").decode()
            used = proof(nonce=nonce)
            assert [(await ask(used)).status for _ in range(20)] == [200] + [401] * 19
            assert {(await ask(proof(nonce=nonce))).status for _ in range(20)} == {200}
            per_worker = [worker["replay"]["proofs"]["replays"] for worker in (await gateway.status())["workers"]]
            assert sum(per_worker) == 19
            assert min(per_worker) > 0
            assert await metric(gateway, "gateway_proofs_total", outcome="accepted") == 21
