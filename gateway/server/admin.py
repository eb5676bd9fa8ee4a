"""The admin port: health, readiness, status and metrics.

Only these pages live here, on a listener of their own that no route reaches.
They answer from memory: none of them waits for an issuer or an upstream.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from gateway import __version__
from gateway.proxy.upstreams import Upstream
from gateway.server.metrics import GatewayCollector
from gateway.telemetry import Telemetry
from gateway.tokens.authenticate import Authenticator
from gateway.tokens.jwks_refresh import IssuerKeys


@dataclass(slots=True)
class Admin:
    """The pages, and whether the gateway is on its way out.

    Attributes:
        generation: how many times the configuration was loaded.
        draining: readiness is refused from now on.
    """

    telemetry: Telemetry
    authenticator: Authenticator
    issuers: Mapping[str, IssuerKeys]
    upstreams: Mapping[str, Upstream]
    generation: int = 1
    draining: bool = False

    def application(self) -> web.Application:
        """Return the pages as an aiohttp application."""
        registry = CollectorRegistry()
        registry.register(GatewayCollector(self.telemetry, self.authenticator, self.issuers, self.upstreams))

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

        application = web.Application()
        application.add_routes(
            [
                web.get("/", _page(self.pages)),
                web.get("/healthz", _page(self.health)),
                web.get("/readyz", _page(self.readiness)),
                web.get("/status", _page(self.status)),
                web.get("/metrics", metrics),
            ]
        )
        return application

    def pages(self) -> tuple[int, dict[str, Any]]:
        """What there is to see here."""
        return 200, {"pages": ["/healthz", "/readyz", "/status", "/metrics"]}

    def health(self) -> tuple[int, dict[str, Any]]:
        """The process lives; nothing else is looked at (R379)."""
        return 200, {"status": "ok"}

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Ready once every issuer has keys that may be believed, until the drain begins (R378)."""
        issuers = {}
        for name, issuer in self.issuers.items():
            problem = issuer.usable()
            issuers[name] = {"ready": problem is None, "reason": "" if problem is None else problem.code}
        ready = not self.draining and all(state["ready"] for state in issuers.values())
        return 200 if ready else 503, {"ready": ready, "draining": self.draining, "issuers": issuers}

    def status(self) -> tuple[int, dict[str, Any]]:
        """What the gateway knows of its issuers, cache, upstreams and configuration."""
        cache = self.authenticator.cache
        return 200, {
            "version": __version__,
            "config_generation": self.generation,
            "draining": self.draining,
            "open_connections": self.telemetry.connections,
            "issuers": {name: issuer.status() for name, issuer in self.issuers.items()},
            "token_cache": {
                "size": len(cache),
                "bytes": cache.bytes_used,
                "hits": cache.hits,
                "misses": cache.misses,
                "evictions": cache.evictions,
            },
            "upstreams": {name: _upstream(upstream) for name, upstream in self.upstreams.items()},
        }


def _upstream(upstream: Upstream) -> dict[str, Any]:
    return {
        "urls": [dataclasses.asdict(origin.state()) for origin in upstream.origins],
        "failures": dict(upstream.failures),
    }


def _page(content: Callable[[], tuple[int, dict[str, Any]]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def page(request: web.Request) -> web.Response:
        status, body = content()
        return web.Response(
            status=status,
            body=orjson.dumps(body),
            headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
        )

    return page
