"""The metrics page: the gateway's plain counters in Prometheus' words.

Only the translation lives here; the counters are kept where things happen.
Every label is a configured name or one of a fixed set, never something that a
client chose (R198). ``docs/metrics.md`` explains each metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway import tasks
from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.metrics import introspection_metrics
from gateway.features.rate_limits.guard import RateLimitGuard
from gateway.features.revocation.metrics import redis_metrics, revocation_metrics
from gateway.features.sender_constrained.metrics import sender_metrics
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import Tenants
from gateway.server.admin.parts import Parts
from gateway.telemetry.counters import Histogram, Telemetry, cumulative
from gateway.telemetry.unhandled_errors import counts
from gateway.upstream.pool.upstream import Upstream


class GatewayCollector(Collector):
    """Reads every counter at the moment of a scrape."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        parts = self._parts
        yield from _requests(parts.telemetry)
        yield from _connections(parts.telemetry)
        yield from _process(parts.telemetry)
        yield from _cache(parts.authenticator)
        yield from _credentials(parts.authenticator, parts.api_keys, parts.introspectors)
        yield from _rate_limits(parts.rate_limits)
        yield from _watch(parts.watch)
        yield from revocation_metrics(parts.authenticator.revocations)
        yield from redis_metrics(parts.redis)
        yield from sender_metrics(parts.proofs, parts.single_use)
        yield from _issuers(parts.issuers)
        yield from _tenants([table for table in parts.issuers.values() if isinstance(table, Tenants)])
        yield from introspection_metrics(parts.introspectors)
        yield from _upstreams(parts.upstreams)


def _requests(telemetry: Telemetry) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "gateway_requests",
        "Finished requests, by configured route, kind of method, status and outcome.",
        labels=("route", "method_class", "status", "outcome"),
    )
    for (route, method, status, outcome), count in telemetry.requests.items():
        requests.add_metric((route, method, str(status), outcome), count)
    yield requests
    yield _counter("gateway_refusals", "Requests refused or failed, by reason code.", "reason", telemetry.refusals)
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
    yield GaugeMetricFamily("gateway_open_connections", "Client connections open now.", telemetry.connections)
    yield GaugeMetricFamily("gateway_open_tunnels", "WebSockets open now.", telemetry.tunnels)
    yield _counter("gateway_tunnels", "WebSockets that ended, by how.", "reason", telemetry.tunnel_ends)
    yield CounterMetricFamily(
        "gateway_connections_refused", "Client connections over max_connections.", telemetry.connections_refused
    )
    yield GaugeMetricFamily(
        "gateway_lingering_connections",
        "Client connections open now beside those: turned away, or refused and still sending.",
        telemetry.lingering,
    )
    yield _counter(
        "gateway_not_http", "Connections that began with something else, by what.", "kind", telemetry.not_http
    )
    yield _counter(
        "gateway_tls_handshake_failures", "TLS handshakes that failed, by cause.", "cause", telemetry.handshake_failures
    )


def _process(telemetry: Telemetry) -> Iterator[Metric]:
    yield _counter("gateway_unexpected_errors", "Errors that nothing had foreseen, by who found them.", "where", counts)
    yield GaugeMetricFamily("gateway_running_requests", "Requests that are being served now.", telemetry.running)
    yield GaugeMetricFamily(
        "gateway_deferred_requests", "Requests that wait behind those that are served.", telemetry.deferred
    )
    yield GaugeMetricFamily(
        "gateway_loop_lag_seconds", "Longest wait of a due callback for its turn, lately.", telemetry.loop_lag
    )
    yield CounterMetricFamily(
        "gateway_tls_reload_failures", "Changed TLS files that could not be used.", telemetry.tls_reload_failures
    )
    yield CounterMetricFamily("gateway_access_log_dropped", "Access log lines dropped.", telemetry.access_log.dropped)
    yield _counter(
        "gateway_task_failures", "Failed rounds of work that goes on in the background.", "task", tasks.failures
    )


def _cache(authenticator: Authenticator) -> Iterator[Metric]:
    cache = authenticator.cache
    yield GaugeMetricFamily("gateway_token_cache_entries", "Verified tokens remembered now.", len(cache))
    yield GaugeMetricFamily("gateway_token_cache_bytes", "Estimated size of what is remembered.", cache.bytes_used)
    yield CounterMetricFamily("gateway_token_cache_hits", "Tokens found in the cache.", cache.hits)
    yield CounterMetricFamily("gateway_token_cache_misses", "Tokens not found in the cache.", cache.misses)
    yield CounterMetricFamily("gateway_token_cache_evictions", "Entries pushed out by newer ones.", cache.evictions)
    yield CounterMetricFamily(
        "gateway_bad_token_cache_hits", "Bad tokens refused from memory, without verification.", cache.bad_hits
    )


def _credentials(
    authenticator: Authenticator, api_keys: ApiKeys, introspectors: Mapping[str, Introspector]
) -> Iterator[Metric]:
    cache = authenticator.cache
    lookups = {
        "jwt": cache.hits + cache.misses,
        "opaque": sum(asker.lookups for asker in introspectors.values()),
        "api_key": api_keys.lookups,
    }
    yield _counter("gateway_credential_lookups", "Tokens and API keys looked up, good or not.", "kind", lookups)
    yield GaugeMetricFamily("gateway_api_keys", "API keys in force.", len(api_keys))
    yield CounterMetricFamily(
        "gateway_api_key_reload_failures",
        "Versions of the API key file that could not be used.",
        api_keys.reload_failures,
    )


def _rate_limits(guard: RateLimitGuard) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "gateway_rate_limit_requests",
        "Requests that a limit was asked about, by route, limit, and whether it let them through.",
        labels=("route", "limit", "verdict"),
    )
    for labels, count in guard.counts.items():
        requests.add_metric(labels, count)
    yield requests
    yield CounterMetricFamily(
        "gateway_rate_limit_fallbacks",
        "Requests decided by a worker's own buckets because Redis was away.",
        guard.fallbacks,
    )
    yield GaugeMetricFamily(
        "gateway_rate_limit_callers", "Callers whose requests are counted now.", sum(map(len, guard.buckets))
    )
    yield CounterMetricFamily(
        "gateway_rate_limit_forgotten",
        "Callers forgotten too early, because there were more than limits.max_callers.",
        sum(buckets.forgotten for buckets in guard.buckets),
    )


def _watch(watch: AbuseWatch) -> Iterator[Metric]:
    yield _counter("gateway_abuse_flags", "What looked like abuse, by the option that found it.", "kind", watch.flags)
    refused = GaugeMetricFamily(
        "gateway_abuse_refused", "Addresses, tokens and subjects that are refused now.", labels=("what",)
    )
    for what, count in watch.status()["refused"].items():
        refused.add_metric((what,), count)
    yield refused


def _issuers(issuers: Mapping[str, IssuerKeys | Tenants]) -> Iterator[Metric]:
    names = ("issuer",)
    usable = GaugeMetricFamily("gateway_jwks_usable", "1 while the issuer's keys may be believed.", labels=names)
    age = GaugeMetricFamily("gateway_jwks_age_seconds", "Time since the last good fetch of keys.", labels=names)
    keys = GaugeMetricFamily("gateway_jwks_keys", "Keys in use.", labels=names)
    rejected = GaugeMetricFamily("gateway_jwks_rejected_keys", "Published keys that are not usable.", labels=names)
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
    count = GaugeMetricFamily("gateway_tenants", "Tenants of a template whose keys are kept now.", labels=names)
    begun = CounterMetricFamily("gateway_tenants_begun", "Times that keys of a tenant were asked for.", labels=names)
    ended = CounterMetricFamily(
        "gateway_tenants_ended", "Tenants whose keys were given up, by why.", labels=("issuer", "reason")
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
    in_use = GaugeMetricFamily("gateway_upstream_connections_in_use", "Connections serving a request.", labels=labels)
    idle = GaugeMetricFamily("gateway_upstream_connections_idle", "Connections kept for the next.", labels=labels)
    waiting = GaugeMetricFamily("gateway_upstream_waiting", "Requests waiting for a connection.", labels=labels)
    healthy = GaugeMetricFamily(
        "gateway_upstream_healthy", "1 while the URL is given requests in its turn.", labels=labels
    )
    connect_failures = CounterMetricFamily(
        "gateway_upstream_connect_failures", "Connections that could not be opened.", labels=labels
    )
    ejections = CounterMetricFamily(
        "gateway_upstream_ejections", "Times a URL was taken out after failures to connect.", labels=labels
    )
    failures = CounterMetricFamily(
        "gateway_upstream_failures", "Exchanges without a usable answer, by reason code.", labels=("upstream", "reason")
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


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=cumulative(histogram), sum_value=histogram.total)
