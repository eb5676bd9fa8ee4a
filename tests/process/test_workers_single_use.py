"""A gateway with two workers and one Redis that loses everything, all real processes: what was used stays used."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.clients.proving import BASE, CLIENT
from tests.support.gateways.fleet import remembering_server
from tests.support.gateways.running import request
from tests.support.gateways.workers import WorkersGateway, config_text, workers_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.tokens.proofs import bound_to, make_proof, with_proof
from tests.support.upstreams.recording import raw_upstream

KEY = SigningKey.ec("a")


def uses(count: int) -> list[bytes]:
    """Return requests with tokens for one request, and with proofs."""
    now = time.time()
    tokens = [mint(KEY, good_claims(now, jti=f"{now}-{number}")) for number in range(count)]
    bound = mint(KEY, good_claims(now, cnf=bound_to(CLIENT)))
    proofs = [make_proof(CLIENT, bound, now, uri=f"{BASE}/me") for _ in tokens]
    return [
        *(request(b"GET", "/once", token=token) for token in tokens),
        *(request(b"GET", "/me", *with_proof(bound, proof)) for proof in proofs),
    ]


async def statuses(gateway: WorkersGateway, requests: list[bytes]) -> Counter[int]:
    """Send each over a connection of its own, which either worker may take."""
    found: Counter[int] = Counter()
    for data in requests:
        client = await gateway.client()
        found[(await client.exchange(data)).status] += 1
        await client.close()
    return found


@pytest.mark.rule("R439", "C122")
async def test_what_was_used_stays_used_at_every_worker_old_or_new(tmp_path: Path, cache: Path) -> None:
    """Redis restarts without persistence; a worker dies besides."""
    async with raw_upstream() as upstream, FakeIdp() as idp, remembering_server(tmp_path / "redis") as server:
        idp.publish(KEY)
        text = config_text(upstream.url, idp.jwks_url)
        text += '\n[[routes]]\npath = "/once"\nupstream = "main"\nsingle_use = true'
        text += f'\n[redis]\nurl = "{server.url}"\ntimeout_seconds = 2\n[revocation]\nredis = false\n'
        async with workers_gateway(tmp_path, cache, text) as gateway:
            await gateway.running()
            used = uses(20)
            assert await statuses(gateway, used) == {200: 40}
            await server.restart()
            again = await statuses(gateway, used * 3)
            assert set(again) == {401, 503}  # by who served it, and by the other one
            first, _ = await gateway.pids()
            os.kill(first, signal.SIGKILL)
            again = await statuses_of_all(gateway, used, first)
            assert 200 not in again
            assert len(upstream.requests) == 40
            deadline = time.monotonic() + 10
            while (new := await statuses(gateway, uses(3))) != {200: 6}:
                assert time.monotonic() < deadline, new


async def statuses_of_all(gateway: WorkersGateway, used: list[bytes], gone: int) -> Counter[int]:
    """Try everything at both workers once one of them was replaced."""
    deadline = time.monotonic() + 20
    while gone in await gateway.pids():
        assert time.monotonic() < deadline
    await gateway.until("/readyz", ready=True)
    return await statuses(gateway, used * 2)
