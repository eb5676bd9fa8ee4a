"""The admin port: health, readiness, status and metrics.

This file has these pages; the port that they are on, which no route reaches, is
``port.py``'s. They answer from memory: none of them waits for an issuer or an
upstream.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from gateway import __version__, tasks
from gateway.server.admin.collector import GatewayCollector
from gateway.server.admin.worker_view import WorkerView
from gateway.tasks import where
from gateway.upstream.pool.upstream import Upstream

_log = logging.getLogger("gateway.admin")

#: The status and the JSON of a page, and what makes one.
Page = tuple[int, dict[str, Any]]
PageContent = Callable[[], Awaitable[Page]]


@dataclass(slots=True)
class Admin:
    """The pages, and whether the gateway is on its way out.

    Attributes:
        generation: how many times the configuration was loaded.
        draining: readiness is refused from now on.
    """

    worker: WorkerView
    generation: int = 1
    draining: bool = False

    def application(self) -> web.Application:
        """Return the pages as an aiohttp application."""
        collector = self.collector()

        async def metrics() -> Collector:
            return collector

        return application(_at_once(self.health), _at_once(self.readiness), _at_once(self.status), metrics)

    def collector(self) -> GatewayCollector:
        """Return what reads the counters."""
        return GatewayCollector(self.worker)

    def health(self) -> Page:
        """The process lives; nothing else is looked at (R379)."""
        return 200, {"status": "ok"}

    def readiness(self) -> Page:
        """Ready once every issuer has had keys and what is revoked was read, until the drain (R378).

        Later outages of what says so leave a worker ready: other gateways have the same, and routes have their own word
        for them (R442). Only a file of keys is this gateway's own. Tenants with keys of their own are not waited for:
        none is asked for before its first token.
        """
        issuers, found = {}, True
        for name, issuer in self.worker.issuers.items():
            problem = issuer.usable()
            issuers[name] = {"ready": problem is None, "reason": "" if problem is None else problem.code}
            found = found and issuer.ready
        complete = self.worker.authenticator.revocations.complete
        ready = not self.draining and complete and found
        body = {"ready": ready, "draining": self.draining, "revocations_read": complete, "issuers": issuers}
        return 200 if ready else 503, body

    def _problems(self) -> list[str]:
        return [] if self.worker.conditions is None else list(self.worker.conditions.problems)

    def status(self) -> Page:
        """What the core and the features show. What one feature fails to show is missing, and nothing else is."""
        found = self._status_of_core()
        for part in self.worker.parts:
            try:
                shown = part.status()
            except Exception as error:
                _log.error("status of %s is left out: %s", type(part).__name__, where(error))
                continue
            if taken := found.keys() & shown.keys():
                _log.error("status of %s is left out: taken already: %s", type(part).__name__, ", ".join(sorted(taken)))
                continue
            found |= shown
        return 200, found

    def _status_of_core(self) -> dict[str, Any]:
        """Return what the gateway knows of its issuers, keys, cache, upstreams and configuration."""
        worker, cache = self.worker, self.worker.authenticator.cache
        return {
            "version": __version__,
            "config_generation": self.generation,
            "draining": self.draining,
            "open_connections": worker.telemetry.connections,
            "task_failures": dict(tasks.failures),
            "issuers": {name: issuer.status() for name, issuer in worker.issuers.items()},
            "token_cache": {
                "size": len(cache),
                "bytes": cache.bytes_used,
                "hits": cache.hits,
                "misses": cache.misses,
                "evictions": cache.evictions,
            },
            "revocation": worker.authenticator.revocations.status(),
            "redis": None if worker.redis is None else {**worker.redis.status(), "problems": self._problems()},
            "fleet": None if worker.fleet is None else worker.fleet.status(),
            "replay": {f"{purpose}s": used.status() for purpose, used in worker.used_ids.items()},
            "upstreams": {name: _upstream(upstream) for name, upstream in worker.upstreams.items()},
        }


def _upstream(upstream: Upstream) -> dict[str, Any]:
    return {
        "urls": [dataclasses.asdict(origin.state()) for origin in upstream.origins],
        "failures": dict(upstream.failures),
    }


def application(
    health: PageContent, readiness: PageContent, status: PageContent, metrics: Callable[[], Awaitable[Collector]]
) -> web.Application:
    """Return the pages as an aiohttp application; the arguments supply what is on them."""
    pages = {"/healthz": health, "/readyz": readiness, "/status": status}

    async def index() -> Page:
        return 200, {"pages": [*pages, "/metrics"]}

    async def metrics_page(request: web.Request) -> web.Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(await metrics())
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    made = web.Application()
    made.add_routes(web.get(path, _page(content)) for path, content in {"/": index, **pages}.items())
    made.add_routes([web.get("/metrics", metrics_page)])
    return made


def _at_once(content: Callable[[], Page]) -> PageContent:
    async def known() -> Page:
        return content()

    return known


def _page(content: PageContent) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def page(request: web.Request) -> web.Response:
        status, body = await content()
        return web.Response(
            status=status,
            body=orjson.dumps(body),
            headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
        )

    return page
