"""The metrics page: the gateway's plain counters in Prometheus' words.

Translates the counters, which are kept where things happen. Every label is a
configured name or one of a fixed set, never something that a client chose
(R198). ``docs/metrics.md`` explains each metric.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway import tasks
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import Tenants
from gateway.server.admin.worker_view import WorkerView
from gateway.server.seam.feature import Part
from gateway.store.one_time_ids import ReplayStore
from gateway.store.redis_link import RedisLink
from gateway.tasks import where
from gateway.telemetry.counters import Histogram, Telemetry, cumulative
from gateway.telemetry.prometheus import Gauge, counter
from gateway.telemetry.unhandled_errors import counts
from gateway.upstream.pool.upstream import Upstream

_log = logging.getLogger("gateway.admin")


class GatewayCollector(Collector):
    """Reads every counter at the moment of a scrape."""

    def __init__(self, worker: WorkerView) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of one scrape, of the core and then of the features."""
        taken: set[str] = set()
        for family in self._of_core():
            taken.add(family.name)
            yield family
        for part in self._worker.parts:
            yield from _of_part(part, taken)

    def _of_core(self) -> Iterator[Metric]:
        worker = self._worker
        yield from _requests(worker.telemetry)
        yield from _connections(worker.telemetry)
        yield from _process(worker.telemetry)
        yield from _cache(worker.authenticator)
        lookups = {kind.name: kind.lookups for kind in worker.kinds}
        yield counter("gateway_credential_lookups", "Tokens and API keys looked up, good or not.", "kind", lookups)
        yield from _redis(worker.redis)
        yield from _used_ids(worker.used_ids)
        yield from _issuers(worker.issuers)
        yield from _tenants([table for table in worker.issuers.values() if isinstance(table, Tenants)])
        yield from _upstreams(worker.upstreams)


def _of_part(part: Part, taken: set[str]) -> Iterator[Metric]:
    """Return the metrics of a feature. One that fails, or has the name of another, is missing, and nothing else is."""
    try:
        for family in part.metrics():
            if family.name in taken:
                _log.error("metric %s of %s is left out: another one has its name", family.name, type(part).__name__)
                continue
            taken.add(family.name)
            yield family
    except Exception as error:
        _log.error("metrics of %s are left out: %s", type(part).__name__, where(error))


def _requests(telemetry: Telemetry) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "gateway_requests",
        "Finished requests, by configured route, kind of method, status and outcome.",
        labels=("route", "method_class", "status", "outcome"),
    )
    for (route, method, status, outcome), count in telemetry.requests.items():
        requests.add_metric((route, method, str(status), outcome), count)
    yield requests
    yield counter("gateway_refusals", "Requests refused or failed, by reason code.", "reason", telemetry.refusals)
    observed = CounterMetricFamily(
        "gateway_observed_refusals",
        "Requests that a route with observe = true let pass, by the reason they would have been refused for.",
        labels=("route", "reason"),
    )
    for labels, count in telemetry.observed.items():
        observed.add_metric(labels, count)
    yield observed
    yield _histogram("gateway_request_duration_seconds", "Whole time of a request.", telemetry.whole)
    yield _histogram(
        "gateway_upstream_duration_seconds",
        "Time from asking for an upstream connection to the response's head.",
        telemetry.upstream,
    )
    yield _histogram(
        "gateway_verification_duration_seconds",
        "Time to verify a token that was not cached, waiting for keys included.",
        telemetry.verification,
    )


def _connections(telemetry: Telemetry) -> Iterator[Metric]:
    yield Gauge("gateway_open_connections", "Client connections open now.", telemetry.connections)
    yield Gauge("gateway_open_tunnels", "WebSockets open now.", telemetry.tunnels)
    yield counter("gateway_tunnels", "WebSockets that ended, by how.", "reason", telemetry.tunnel_ends)
    yield CounterMetricFamily(
        "gateway_connections_refused", "Client connections over max_connections.", telemetry.connections_refused
    )
    yield Gauge(
        "gateway_lingering_connections",
        "Client connections open now beside those: turned away, or refused and still sending.",
        telemetry.lingering,
    )
    yield counter(
        "gateway_not_http", "Connections that began with something else, by what.", "kind", telemetry.not_http
    )
    yield counter(
        "gateway_tls_handshake_failures", "TLS handshakes that failed, by cause.", "cause", telemetry.handshake_failures
    )


def _process(telemetry: Telemetry) -> Iterator[Metric]:
    """Return how the work in this process fares."""
    yield counter("gateway_unexpected_errors", "Unexpected errors, by where they were caught.", "where", counts)
    yield Gauge("gateway_running_requests", "Requests that are being served now.", telemetry.running)
    yield Gauge(
        "gateway_deferred_requests",
        "Requests of recently refused connections that wait while others are served.",
        telemetry.deferred,
    )
    yield Gauge(
        "gateway_loop_lag_seconds",
        "Recent maximum event-loop lag.",
        telemetry.loop_lag,
        merge="max",
    )
    yield CounterMetricFamily(
        "gateway_tls_reload_failures", "Changed TLS files that could not be used.", telemetry.tls_reload_failures
    )
    yield CounterMetricFamily("gateway_access_log_dropped", "Access log lines dropped.", telemetry.access_log.dropped)
    yield counter("gateway_task_failures", "Failed rounds of background tasks.", "task", tasks.failures)


def _cache(authenticator: Authenticator) -> Iterator[Metric]:
    cache = authenticator.cache
    yield Gauge("gateway_token_cache_entries", "Verified tokens remembered now.", len(cache))
    yield Gauge("gateway_token_cache_bytes", "Estimated size of what is remembered.", cache.bytes_used)
    yield CounterMetricFamily("gateway_token_cache_hits", "Tokens found in the cache.", cache.hits)
    yield CounterMetricFamily("gateway_token_cache_misses", "Tokens not found in the cache.", cache.misses)
    yield CounterMetricFamily("gateway_token_cache_evictions", "Entries evicted.", cache.evictions)
    yield CounterMetricFamily(
        "gateway_bad_token_cache_hits", "Bad tokens refused from memory, without verification.", cache.bad_hits
    )


def _redis(link: RedisLink | None) -> Iterator[Metric]:
    """Return how the link fares; nothing without one."""
    if link is None:
        return
    yield Gauge("gateway_redis_available", "1 while connected to Redis.", float(link.available), merge="min")
    yield CounterMetricFamily("gateway_redis_commands", "Commands sent to Redis.", link.commands)
    yield CounterMetricFamily("gateway_redis_failures", "Commands that failed or took too long.", link.failures)
    yield CounterMetricFamily(
        "gateway_redis_odd_answers", "Unexpected answers and stored values of Redis.", link.odd_answers
    )
    yield CounterMetricFamily(
        "gateway_redis_refusals", "Commands not sent because Redis was unavailable.", link.refusals
    )
    yield CounterMetricFamily("gateway_redis_outages", "Lost connections to Redis.", link.outages)


def _used_ids(stores: Mapping[str, ReplayStore]) -> Iterator[Metric]:
    entries = Gauge(
        "gateway_replay_entries", "Proofs and tokens that this process remembers as used.", labels=("kind",)
    )
    replays = CounterMetricFamily("gateway_replays", "Replayed proofs and single-use tokens.", labels=("kind",))
    undecided = CounterMetricFamily(
        "gateway_replay_store_failures",
        "Proofs and single-use tokens for which it was unknown whether they were used.",
        labels=("kind",),
    )
    for purpose, used in stores.items():
        entries.add_metric((purpose,), used.entries)
        replays.add_metric((purpose,), used.replays)
        undecided.add_metric((purpose,), used.undecided)
    yield from (entries, replays, undecided)


def _issuers(issuers: Mapping[str, IssuerKeys | Tenants]) -> Iterator[Metric]:
    names = ("issuer",)
    usable = Gauge("gateway_jwks_usable", "1 while the issuer's keys are not stale.", labels=names, merge="min")
    age = Gauge("gateway_jwks_age_seconds", "Time since the last good fetch of keys.", labels=names, merge="max")
    keys = Gauge("gateway_jwks_keys", "Keys in use.", labels=names, merge="min")
    rejected = Gauge("gateway_jwks_rejected_keys", "Published keys that are not usable.", labels=names, merge="max")
    fetches = CounterMetricFamily("gateway_jwks_fetches", "Fetches of keys that ended, good or not.", labels=names)
    failures = CounterMetricFamily("gateway_jwks_failures", "Fetches of keys that failed.", labels=names)
    unknown = CounterMetricFamily(
        "gateway_jwks_unknown_key_fetches", "Fetches that a token with an unknown kid caused.", labels=names
    )
    for name, issuer in issuers.items():
        labels, state = (name,), issuer.status()
        usable.add_metric(labels, 1.0 if state["usable"] else 0.0)
        if (seconds := state["age_seconds"]) is not None:
            age.add_metric(labels, seconds)
        keys.add_metric(labels, state["keys"])
        rejected.add_metric(labels, len(state["rejected_keys"]))
        fetches.add_metric(labels, state["fetches"])
        failures.add_metric(labels, state["failures"])
        unknown.add_metric(labels, state["unknown_keys"])
    yield from (usable, age, keys, rejected, fetches, failures, unknown)


def _tenants(tables: list[Tenants]) -> Iterator[Metric]:
    """Return the metrics of templates; the label is the configured issuer, never a tenant."""
    names = ("issuer",)
    count = Gauge("gateway_tenants", "Tenants of a template whose keys are kept now.", labels=names, merge="max")
    begun = CounterMetricFamily("gateway_tenants_begun", "Times that keys of a tenant were asked for.", labels=names)
    ended = CounterMetricFamily(
        "gateway_tenants_ended", "Tenants whose keys were dropped, by cause.", labels=("issuer", "reason")
    )
    refused = CounterMetricFamily(
        "gateway_tenants_refused", "Tokens of tenants for which there was no room.", labels=names
    )
    for table in tables:
        labels = (table.name,)
        count.add_metric(labels, len(table))
        begun.add_metric(labels, table.begun)
        for reason, number in (("failed", table.failed), ("idle", table.idle), ("evicted", table.evicted)):
            ended.add_metric((table.name, reason), number)
        refused.add_metric(labels, table.refused)
    yield from (count, begun, ended, refused)


def _upstreams(upstreams: Mapping[str, Upstream]) -> Iterator[Metric]:
    labels = ("upstream", "url")
    in_use = Gauge("gateway_upstream_connections_in_use", "Connections serving a request.", labels=labels)
    idle = Gauge("gateway_upstream_connections_idle", "Connections kept for the next.", labels=labels)
    waiting = Gauge("gateway_upstream_waiting", "Requests waiting for a connection.", labels=labels)
    healthy = Gauge(
        "gateway_upstream_healthy", "1 while the URL is neither ejected nor unhealthy.", labels=labels, merge="min"
    )
    connect_failures = CounterMetricFamily(
        "gateway_upstream_connect_failures", "Connections that could not be opened.", labels=labels
    )
    ejections = CounterMetricFamily(
        "gateway_upstream_ejections", "Times a URL was taken out after failures to connect.", labels=labels
    )
    failures = CounterMetricFamily(
        "gateway_upstream_failures",
        "Upstream exchanges without a usable response, by reason code.",
        labels=("upstream", "reason"),
    )
    for upstream in upstreams.values():
        for origin in upstream.origins:
            state = origin.state()
            url = (upstream.name, state.url)
            in_use.add_metric(url, state.in_use)
            idle.add_metric(url, state.idle)
            waiting.add_metric(url, state.waiting)
            healthy.add_metric(url, 1.0 if state.health == "healthy" else 0.0)
            connect_failures.add_metric(url, state.connect_failures)
            ejections.add_metric(url, state.ejections)
        for reason, count in upstream.failures.items():
            failures.add_metric((upstream.name, reason), count)
    yield from (in_use, idle, waiting, healthy, connect_failures, ejections, failures)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=cumulative(histogram), sum_value=histogram.total)
