"""Counters of several workers as one page: sums, worst cases, and that nothing counted is lost."""

from __future__ import annotations

from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from gateway.process.merged_metrics import Merged, Wire, to_wire
from gateway.telemetry.prometheus import Gauge, Merge
from tests.support.gateways.every_feature import every_feature
from tests.support.gateways.running import running_gateway
from tests.support.stores.redis import RedisServer
from tests.support.upstreams.recording import raw_upstream


def worker(count: float, age: float, usable: float) -> Wire:
    """What a worker with these numbers sends, as it arrives."""
    requests = CounterMetricFamily("gateway_requests", "Requests.", labels=("route", "status"))
    requests.add_metric(("/", "200"), count)
    requests.add_metric(('/a"b\n', "502"), 1)
    ages = Gauge("gateway_jwks_age_seconds", "Age.", labels=("issuer",), merge="max")
    ages.add_metric(("main",), age)
    state = Gauge("gateway_jwks_usable", "Usable.", labels=("issuer",), merge="min")
    state.add_metric(("main",), usable)
    open_now = Gauge("gateway_open_connections", "Open.", count)
    times = HistogramMetricFamily(
        "gateway_request_duration_seconds", "Time.", buckets=[("0.1", count), ("+Inf", count + 1)], sum_value=2.5
    )
    sent: Wire = orjson.loads(orjson.dumps(to_wire([requests, ages, state, open_now, times])))
    return sent


def values(merged: Merged) -> dict[str, float]:
    """The page as Prometheus reads it."""

    class Page(Collector):
        def collect(self) -> list[Metric]:
            return list(merged.families())

    registry = CollectorRegistry()
    registry.register(Page())
    text = generate_latest(registry).decode()
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_are_added_and_states_show_the_worst() -> None:
    merged = Merged()
    merged.add(worker(3, 10, 1))
    merged.add(worker(4, 25, 0))
    assert values(merged) == {
        "gateway_requests_total / 200": 7,
        'gateway_requests_total /a"b\n 502': 2,
        "gateway_jwks_age_seconds main": 25,
        "gateway_jwks_usable main": 0,
        "gateway_open_connections": 7,
        "gateway_request_duration_seconds_bucket 0.1": 7,
        "gateway_request_duration_seconds_bucket +Inf": 9,
        "gateway_request_duration_seconds_count": 9,
        "gateway_request_duration_seconds_sum": 5,
    }


def test_worker_that_is_gone_leaves_its_counts_and_not_its_state() -> None:
    merged = Merged()
    merged.add(worker(100, 1000, 0), gauges=False)
    merged.add(worker(1, 5, 1))
    found = values(merged)
    assert found["gateway_requests_total / 200"] == 101
    assert found["gateway_request_duration_seconds_count"] == 103
    assert (found["gateway_open_connections"], found["gateway_jwks_age_seconds main"]) == (1, 5)
    assert found["gateway_jwks_usable main"] == 1


def test_sums_can_be_added_to_others() -> None:
    gone, merged = Merged(), Merged()
    gone.add(worker(1, 1, 1), gauges=False)
    gone.add(worker(2, 1, 1), gauges=False)
    merged.add(gone.to_wire())
    merged.add(worker(4, 1, 1))
    assert values(merged)["gateway_requests_total / 200"] == 7
    assert values(gone)["gateway_requests_total / 200"] == 3


#: How the gauges of two workers become one.
GAUGES: dict[str, Merge] = {
    "gateway_open_connections": "sum",
    "gateway_lingering_connections": "sum",
    "gateway_open_tunnels": "sum",
    "gateway_running_requests": "sum",
    "gateway_deferred_requests": "sum",
    "gateway_loop_lag_seconds": "max",
    "gateway_token_cache_entries": "sum",
    "gateway_token_cache_bytes": "sum",
    "gateway_api_keys": "min",
    "gateway_rate_limit_callers": "sum",
    "gateway_abuse_refused": "sum",
    "gateway_redis_available": "min",
    "gateway_revocation_known": "min",
    "gateway_revocation_age_seconds": "max",
    "gateway_revocation_entries": "max",
    "gateway_tenants": "max",
    "gateway_introspections_in_flight": "sum",
    "gateway_introspections_waiting": "sum",
    "gateway_introspection_cache_entries": "sum",
    "gateway_replay_entries": "sum",
    "gateway_jwks_usable": "min",
    "gateway_jwks_age_seconds": "max",
    "gateway_jwks_keys": "min",
    "gateway_jwks_rejected_keys": "max",
    "gateway_upstream_connections_in_use": "sum",
    "gateway_upstream_connections_idle": "sum",
    "gateway_upstream_waiting": "sum",
    "gateway_upstream_healthy": "min",
}


async def test_it_is_said_of_every_gauge_how_it_is_merged(tmp_path: Path) -> None:
    """A gauge that is added to the metrics needs a decision here: a sum of ages would mean nothing."""
    async with (
        raw_upstream() as upstream,
        RedisServer(tmp_path / "redis") as server,
        running_gateway(
            upstream.url, tmp_path, redis={"url": server.url, "timeout_seconds": 2}, **every_feature(tmp_path)
        ) as gateway,
    ):
        families = list(gateway.app.admin.collector().collect())
    gauges = [family for family in families if isinstance(family, Gauge)]
    assert {family.name: family.merge for family in gauges} == GAUGES
    assert {family.type for family in families if not isinstance(family, Gauge)} == {"counter", "histogram"}
    for family in gauges:
        merged = Merged()
        for number in (2.0, 5.0):
            family.samples = []
            family.add_sample(family.name, {"of": "both"}, number)
            merged.add(orjson.loads(orjson.dumps(to_wire([family]))))
        # Once more by the supervisor, of workers whose pages were merged before.
        again = Merged()
        again.add(orjson.loads(orjson.dumps(merged.to_wire())))
        wanted = {"sum": 7.0, "min": 2.0, "max": 5.0}[GAUGES[family.name]]
        assert [sample.value for one in (merged, again) for each in one.families() for sample in each.samples] == [
            wanted,
            wanted,
        ], family.name
