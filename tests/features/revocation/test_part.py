"""What Prometheus and ``/status`` see of Redis and of what is revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.admin.test_collector import scrape, value
from tests.support.gateways.revoking import until_status
from tests.support.gateways.running import running_gateway
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.upstreams.recording import raw_upstream

ROUTES = ({"path": "/"}, {"path": "/open", "revocation_failure": "open"})


async def test_without_either_there_are_no_such_metrics(tmp_path: Path) -> None:
    async with running_gateway("http://127.0.0.1:1", tmp_path) as gateway:
        samples = await scrape(gateway)
        assert not [name for name in samples if name.startswith(("gateway_redis", "gateway_revocation"))]
        status = (await gateway.admin("/status")).json
        assert (status["redis"], status["revocation"]) == (None, {"known": True, "passed_unknown": 0})


@pytest.mark.rule("R130")
async def test_state_entries_and_outage_are_seen(tmp_path: Path) -> None:
    """The failure policy is visible."""
    file = tmp_path / "revoked.jsonl"
    file.write_text(
        '{"jti": "a"}\n{"sub": "b", "before": 5}\n{"issuer": "c", "before": 5}\n{"sid": "d"}\n{"sid": "e"}\n'
    )
    async with (
        raw_upstream() as upstream,
        RedisServer(tmp_path / "redis") as server,
        running_gateway(
            upstream.url,
            tmp_path,
            routes=ROUTES,
            redis={"url": server.url, "timeout_seconds": 2},
            revocation={"file": str(file)},
        ) as gateway,
    ):
        token = gateway.token()
        assert (await gateway.get(token=gateway.token(jti="a"))).status == 401
        await gateway.settled()
        samples = await scrape(gateway)
        assert value(samples, "gateway_revocation_known") == value(samples, "gateway_redis_available") == 1
        for kind, count in {"token": 1, "subject": 1, "issuer": 1, "session": 2}.items():
            assert value(samples, "gateway_revocation_entries", source="file", kind=kind) == count
        assert value(samples, "gateway_revocation_applied_total", source="file") == 5
        assert value(samples, "gateway_revocation_age_seconds", source="redis") < paced(1)
        assert value(samples, "gateway_refusals_total", reason="revoked") == 1
        await server.kill()
        await until_status(lambda: gateway.get(token=token), 503, within=paced(2))
        assert (await gateway.get("/open", token=token)).status == 200
        await gateway.settled()
        samples = await scrape(gateway)
        assert value(samples, "gateway_revocation_known") == value(samples, "gateway_redis_available") == 0
        assert value(samples, "gateway_revocation_passed_unknown_total") == 1
        assert value(samples, "gateway_revocation_failures_total", source="redis") > 0
        assert value(samples, "gateway_redis_outages_total") == 1
        assert value(samples, "gateway_redis_failures_total") + value(samples, "gateway_redis_refusals_total") > 0
        assert value(samples, "gateway_refusals_total", reason="revocation_unknown") == 1
        status = (await gateway.admin("/status")).json
        assert (status["revocation"]["known"], status["redis"]["available"]) == (False, False)
        assert (await gateway.admin("/readyz")).status == 200, "what was read once leaves a worker ready"


async def test_a_worker_that_never_read_what_is_revoked_is_not_ready(tmp_path: Path) -> None:
    async with running_gateway(
        "http://127.0.0.1:1", tmp_path, revocation={"file": str(tmp_path / "revoked.jsonl")}
    ) as gateway:
        page = await gateway.admin("/readyz")
        assert (page.status, page.json["revocations_read"]) == (503, False)
        (tmp_path / "revoked.jsonl").touch()
        await until_status(lambda: gateway.admin("/readyz"), 200, within=paced(2))
