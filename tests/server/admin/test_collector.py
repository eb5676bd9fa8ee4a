"""The metrics page as Prometheus reads it: what is counted, once, and under bounded labels."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.features.listed import reasons
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.upstreams.recording import Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/public", "auth": "public"},
    {"path": "/observe", "observe": True},
    {"path": "/files", "auth": "public", "methods": ["GET", "PUT"]},
)


async def scrape(gateway: RunningGateway) -> dict[str, list[Sample]]:
    page = await gateway.admin("/metrics")
    assert page.status == 200
    assert (page.one(b"content-type") or b"").startswith(b"text/plain; version=0.0.4")
    samples: dict[str, list[Sample]] = defaultdict(list)
    for family in text_string_to_metric_families(page.body.decode()):
        assert family.documentation
        for sample in family.samples:
            samples[sample.name].append(sample)
    return samples


def value(samples: dict[str, list[Sample]], name: str, **labels: str) -> float:
    found = [sample.value for sample in samples[name] if sample.labels == labels]
    assert len(found) <= 1, "one sample for each set of labels"
    return found[0] if found else 0.0


@pytest.mark.rule("R389")
async def test_each_request_is_counted_once_by_route_method_status_and_outcome(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target == b"/public/closes":
            return None
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        token = gateway.token()
        for target, given in (("/", token), ("/", token), ("/", b""), ("/", b"x.y.z"), ("/public/1", b"")):
            await gateway.get(target, token=given)
        await gateway.get("/observe")
        await gateway.get("/public/closes")
        await gateway.exchange(request(b"PUT", "/files/1"))
        await gateway.log(8)
        samples = await scrape(gateway)
    order = ("route", "method_class", "status", "outcome")
    counted = {
        tuple(sample.labels[name] for name in order): sample.value for sample in samples["gateway_requests_total"]
    }
    assert counted == {
        ("/", "read", "200", "forwarded"): 2,
        ("/", "read", "401", "refused"): 2,
        ("/public", "read", "200", "forwarded"): 1,
        ("/public", "read", "502", "failed"): 1,
        ("/observe", "read", "200", "forwarded"): 1,
        ("/files", "write", "200", "forwarded"): 1,
    }
    assert value(samples, "gateway_refusals_total", reason="no_credential") == 1
    assert value(samples, "gateway_refusals_total", reason="upstream_disconnected") == 1
    assert value(samples, "gateway_observed_refusals_total", route="/observe", reason="no_credential") == 1
    assert value(samples, "gateway_upstream_failures_total", upstream="main", reason="upstream_disconnected") == 1
    assert value(samples, "gateway_token_cache_hits_total") == 1
    assert value(samples, "gateway_request_duration_seconds_count") == 8
    assert value(samples, "gateway_upstream_duration_seconds_count") == 6
    assert value(samples, "gateway_verification_duration_seconds_count") == 2
    assert value(samples, "gateway_jwks_usable", issuer="main") == 1
    assert value(samples, "gateway_jwks_keys", issuer="main") == 1
    assert value(samples, "gateway_jwks_fetches_total", issuer="main") == 1
    assert value(samples, "gateway_upstream_connections_in_use", upstream="main", url=upstream.url) == 0


async def test_histograms_are_cumulative_and_end_with_everything(tmp_path: Path) -> None:
    """Prometheus' exposition format: le rises, counts never fall, +Inf is the count."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        for _ in range(5):
            await gateway.get("/public")
        await gateway.log(5)
        samples = await scrape(gateway)
    for name in ("request", "upstream", "verification"):
        buckets = samples[f"gateway_{name}_duration_seconds_bucket"]
        bounds = [float(sample.labels["le"]) for sample in buckets]
        counts = [sample.value for sample in buckets]
        assert bounds == sorted(bounds)
        assert counts == sorted(counts)
        assert (bounds[-1], counts[-1]) == (float("inf"), value(samples, f"gateway_{name}_duration_seconds_count"))
    assert 0 < value(samples, "gateway_request_duration_seconds_sum") < 60


@pytest.mark.rule("R198", "R196")
async def test_nothing_that_a_client_chose_is_a_label(tmp_path: Path) -> None:
    """A thousand odd requests add no label value that the configuration does not know."""
    marker = "zq9marker"
    key = SigningKey.rsa("a")
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, key=key, routes=ROUTES) as gateway:
        await scrape(gateway)
        client = await gateway.client()
        for number in range(100):
            token = mint(
                SigningKey(f"{marker}{number}", key.private, key.algorithm),
                good_claims(time.time(), sub=f"{marker}{number}", scope=f"{marker}:{number}", aud=f"{marker}{number}"),
            )
            await client.exchange(request(b"GET", f"/{marker}/{number}?{marker}={number}", token=token))
            await client.exchange(request(b"GET", f"/public/{marker}/{number}"))
            await client.exchange(request(b"BREW", f"/{number}", (b"Host", f"{marker}{number}.test".encode())))
            await client.exchange(request(b"GET", f"/observe/{number}", token=f"{marker}{number}".encode()))
        good = gateway.token(sub=marker, role=marker)
        await client.exchange(request(b"GET", "/" + marker, (b"X-" + marker.encode(), b"a"), token=good))
        await gateway.log(401)
        page = (await gateway.admin("/metrics")).body.decode()
        samples = await scrape(gateway)
    assert marker not in page
    assert "brew" not in page.lower()
    known = {reason.code for reason in reasons()}
    routes = {route["path"] for route in ROUTES}
    allowed: dict[str, set[str]] = {
        "route": routes | {""},
        "reason": known,
        "method_class": {"read", "write", "other"},
        "outcome": {"forwarded", "refused", "failed", "client_gone", "answered"},
        "issuer": {"main"},
        "upstream": {"main"},
        "url": {upstream.url},
    }
    for name, found in samples.items():
        for sample in found:
            for label, text in sample.labels.items():
                if label == "status":
                    assert re.fullmatch(r"[1-5][0-9]{2}", text)
                elif label in allowed:
                    assert text in allowed[label], name
    assert len(samples["gateway_requests_total"]) <= 12


@pytest.mark.parametrize("name", ["gateway_open_connections", "gateway_connections_refused_total"])
async def test_connections_are_counted_and_given_back(name: str, tmp_path: Path) -> None:
    """Contract: open connections; a scrape's own connection is on another port."""
    server = {"max_connections": 2}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server) as gateway,
    ):
        clients = [await gateway.client() for _ in range(2)]
        for client in clients:
            await client.exchange(request(b"GET", "/public"))
        assert (await (await gateway.client()).response()).status == 503
        samples = await scrape(gateway)
    assert value(samples, name) == (2 if name == "gateway_open_connections" else 1)
