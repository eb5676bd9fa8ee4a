"""Proofs and used tokens on the metrics and status pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.proving import bound_token, proved
from tests.support.gateways.running import running_gateway
from tests.support.upstreams.recording import raw_upstream


@pytest.mark.rule("R198")
async def test_proofs_and_used_tokens_are_counted(tmp_path: Path) -> None:
    """Labels are fixed words; nothing of a token is among them."""
    routes = ({"path": "/"}, {"path": "/once", "single_use": True})
    options: dict[str, Any] = {"routes": routes, "tokens": {"replay_size": 2}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        bound, once = bound_token(gateway), gateway.token(jti="secret-id")
        same = proved(bound)
        for data in (same, same, proved(bound), proved(bound)):
            await gateway.exchange(data)
        await gateway.get("/", token=bound)
        for _ in range(2):
            await gateway.get("/once", token=once)
        page = (await gateway.admin("/metrics")).body.decode()
        status = (await gateway.admin("/status")).json["replay"]
    for line in (
        'gateway_proofs_total{kind="dpop",outcome="accepted"} 2.0',
        'gateway_proofs_total{kind="dpop",outcome="replayed_proof"} 1.0',
        'gateway_proofs_total{kind="dpop",outcome="replay_store"} 1.0',
        'gateway_proofs_total{kind="dpop",outcome="sender_constrained"} 1.0',
        'gateway_replay_entries{kind="proof"} 2.0',
        'gateway_replay_entries{kind="token"} 1.0',
        'gateway_replays_total{kind="proof"} 1.0',
        'gateway_replays_total{kind="token"} 1.0',
        'gateway_replay_store_failures_total{kind="proof"} 1.0',
        "gateway_single_use_passed_undecided_total 0.0",
    ):
        assert line in page.splitlines()
    assert "secret-id" not in page
    assert status == {
        "proofs": {"store": "memory", "entries": 2, "replays": 1, "failures": 1},
        "tokens": {"store": "memory", "entries": 1, "replays": 1, "failures": 0},
    }
