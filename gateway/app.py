"""The running gateway: every part built once, started and stopped in order.

Builds the parts, and defines the order in which they start and stop; the process around
them is ``foreground.py``'s. Start: keys, upstream pools, admin port, then the public port. Stop:
readiness off, no new connections, running requests to their end, then pools
and refreshers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock, SystemClock
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.inheritance import Estate, take_over
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.registry import build_issuers, build_tenants
from gateway.jwt.issuers.tenants import Tenants
from gateway.jwt.revocations.revocations import Revocations
from gateway.outbound.origin_turns import OriginTurns
from gateway.policy.routes import RouteTable
from gateway.server.admin.pages import Admin
from gateway.server.admin.port import open_admin
from gateway.server.admin.worker_view import WorkerView
from gateway.server.aiohttp_lane.lane import FullLane
from gateway.server.aiohttp_lane.listener import Listener
from gateway.server.aiohttp_lane.protocol import demand_native_parser
from gateway.server.express_lane.listener import ExpressLane
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.pipeline.runner import Serving
from gateway.server.seam.feature import Core, Part, demand_distinct, features_of
from gateway.server.seam.parts import start_parts
from gateway.server.sockets.listen import ACCEPTS, BACKLOG, Port, SharedAddress, listen, tcp_sockets
from gateway.server.sockets.tls import RELOAD_SECONDS, ServerTls
from gateway.server.sockets.tls_port import TlsPort
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Settings
from gateway.spare_memory import SpareMemory, trim_of_c
from gateway.store.one_time_ids import ReplayStore, make_store
from gateway.tasks import Periodic
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import Telemetry
from gateway.telemetry.log_writer import LogThread
from gateway.telemetry.loop_lag import LoopLag
from gateway.upstream.pool.upstream import open_upstreams

if TYPE_CHECKING:
    from gateway.store.conditions import Conditions
    from gateway.store.fleet import Fleet
    from gateway.store.redis_link import RedisLink

#: How long the last access log lines may take when everything else has ended.
LOG_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Share:
    """What one process has of a gateway of several.

    Attributes:
        listen: the public addresses, for all of them.
        first_wait: seconds before it asks an issuer for keys for the first time.
        secret: what all of them make nonces from.
        pseudonym: the name that all of them have in Via; empty: one of this process's own.
        left: what a process that began earlier leaves to this one (``inheritance.py``).
    """

    listen: tuple[SharedAddress, ...]
    first_wait: float
    secret: bytes = b""
    pseudonym: bytes = b""
    left: Mapping[str, Any] | None = None


class GatewayApp:
    """One gateway in this process.

    Args:
        settings: a validated configuration.
        clock: time, for tests.
        out: where the access log goes; standard output by default.
        share: this is one of several processes, and opens no admin port of its own.
        resolver: looks up the hosts of issuers; the system's by default.

    Raises:
        FeatureError: features of the configuration cannot be distinguished.

    Attributes:
        pseudonym: this gateway's name in Via (RFC 9110 section 7.6.3).
        parts: those of the features, by the feature's name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        out: TextIO | None = None,
        share: Share | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        demand_native_parser()
        self.settings = settings
        self.clock = clock or SystemClock()
        self._out = out or sys.stdout
        self._share = share
        self.pseudonym = (share.pseudonym if share else b"") or draw_pseudonym()
        self._resolver = resolver
        self._features = features_of(settings)
        demand_distinct(self._features)
        self.parts: dict[str, Part] = {}
        self._stop = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Open the ports. Keys are fetched in the background: until then protected routes answer 503.

        Raises:
            OSError: an address cannot be listened on, or a TLS file cannot be read.
            FeatureError: a feature failed. What had been started is stopped again.
        """
        try:
            await self._start()
        except BaseException:
            await self._stop.aclose()
            raise

    async def _start(self) -> None:
        settings, clock = self.settings, self.clock
        self._writer = LogThread()
        later = asyncio.get_running_loop().call_later
        access_log = AccessLog(settings.server.access_log, self._out, clock, self._writer.run, later)
        self.telemetry = Telemetry(access_log)
        self._stop.push_async_callback(self._writer.stop, LOG_STOP_SECONDS)
        self._stop.callback(access_log.flush)  # the requests have ended by then
        self.redis = await self._connect_redis()
        express = frozenset().union(*(feature.express for feature in self._features))
        self._routes = RouteTable(settings.routes, express)
        revocations = self.revocations = Revocations((), clock)
        self._build_parts(revocations)
        await self._start_judging(revocations)
        self.upstreams = open_upstreams(settings.upstreams, clock)
        for upstream in self.upstreams.values():
            self._stop.push_async_callback(upstream.close)
        await self._start_parts()
        lag = LoopLag(self.telemetry)
        lag.start()
        self._stop.callback(lag.stop)
        spare = SpareMemory(SystemClock(), trim_of_c())  # in real time: it is the process's
        self._stop.push_async_callback(spare.stop)
        spare.start()
        self.pipeline = Pipeline(settings, self._routes, self.authenticator, self.parts, clock, self.pseudonym)
        await self._open_admin()
        # A long list takes a while; the admin port shows that meanwhile.
        await revocations.start()
        await self._start_listener()

    async def _connect_redis(self) -> RedisLink | None:
        """Return a started link to what gateways share; None where no server is configured."""
        if not self.settings.redis.url:
            return None
        from gateway.store.redis_link import open_link  # noqa: PLC0415 - only with Redis: it takes a tenth of the start

        return await open_link(self.settings.redis, self.clock, self._stop)

    def _build_parts(self, revocations: Revocations) -> None:
        """Make the features' parts."""
        settings, clock, redis = self.settings, self.clock, self.redis
        self.used_ids: dict[str, ReplayStore] = {}

        def used_ids(purpose: str, window: float = 0.0) -> ReplayStore:
            return self.used_ids.setdefault(purpose, make_store(settings, clock, redis, purpose, window))

        secret = self._share.secret if self._share else b""
        core = Core(settings, clock, self._routes.routes, redis, revocations, used_ids, self._resolver, secret)
        for feature in self._features:
            with Hook(feature.name, "is_used"):
                if not feature.is_used(settings):
                    continue
            with Hook(feature.name, "build"):
                part = feature.build(core)
            if part is not None:
                self.parts[feature.name] = part

    async def _start_judging(self, revocations: Revocations) -> None:
        """Start what JWTs are judged by: keys, and what another worker left of both keys and revocations."""
        settings, clock = self.settings, self.clock
        first_wait = self._share.first_wait if self._share else 0.0
        turns = OriginTurns(clock)
        self.issuers = build_issuers(settings, clock, first_wait, self._resolver, turns)
        self.tenants = build_tenants(settings, clock, self._resolver, turns)
        keys: dict[str, IssuerKeys | Tenants] = {**self.issuers, **self.tenants}
        await take_over(self._share.left if self._share else None, keys, revocations)
        self.estate = Estate(keys, revocations)
        for each in keys.values():
            each.start()
            self._stop.push_async_callback(each.stop)
        self._stop.push_async_callback(revocations.stop)
        self.authenticator = Authenticator(settings, keys, clock, revocations)

    async def _start_parts(self) -> None:
        """Start the features' parts, and what remembers one-time ids for them."""
        await start_parts(self.parts, self._stop)
        for used in self.used_ids.values():
            self._stop.push_async_callback(used.stop)
            await used.start()

    async def _open_admin(self) -> None:
        """Make the admin pages, and open their port unless that is the supervisor's."""
        settings = self.settings
        self.admin = Admin(
            WorkerView(
                self.telemetry,
                self.authenticator,
                # JWTs are the kind that every gateway takes: they come first.
                tuple(reversed(self.pipeline.credentials.kinds.values())),
                {**self.issuers, **self.tenants},
                self.upstreams,
                self.used_ids,
                tuple(self.parts.values()),
                self.redis,
                await self._join_fleet(),
                self._watch_conditions(),
            )
        )
        if self._share is None:
            pages = self.admin.application()
            for feature in self._features:
                with Hook(feature.name, "pages"):
                    pages.add_routes(feature.pages(settings, self.clock, self._take_revoked))
            self.admin_port = await open_admin(pages, settings.server, self._stop)

    async def _start_listener(self) -> None:
        settings = self.settings
        serving = Serving(settings, self.pipeline, self.upstreams, self.telemetry, self.clock)
        self._stop.push_async_callback(serving.token_watch.stop)
        lane = FullLane(serving)
        self.websockets = lane.websockets
        self.listener = Listener(
            lane.handle,
            lane.refuse_connection,
            lane.turn_to_refuse,
            self.pipeline.reader,
            settings.server,
            self.telemetry,
        )
        # What is still there after the drain is cut off; 0 would mean no limit to aiohttp.
        self._stop.push_async_callback(self.listener.shutdown, 0.05)
        self.express = ExpressLane(serving, self.listener)
        self.express.start()
        if settings.server.express:
            self.listener.front = self.express
        self._stop.push_async_callback(self.express.stop)
        self._ports: list[Port | TlsPort] = []
        tls = self._start_tls()
        for address in self._share.listen if self._share else settings.server.addresses:
            self._ports.append(await self._open(address, tls))

    async def _open(self, address: str | SharedAddress, tls: ServerTls | None) -> Port | TlsPort:
        """Listen on one address: TCP speaks TLS where there is a certificate, and a Unix socket never does."""
        lane = self.express if self.settings.server.express else self.listener
        text = address if isinstance(address, str) else address.address
        if tls is None or text.startswith("unix:"):
            port = await listen(lane, address, backlog=BACKLOG, accepts=ACCEPTS)
            self._stop.callback(port.close)
            return port
        sockets = await tcp_sockets(text, share=self._share is not None)
        patience = self.settings.server.tls_handshake_timeout_seconds
        secure = TlsPort(sockets, lane.serve, self.listener, tls, patience)
        self._stop.push_async_callback(secure.stop)
        return secure

    @property
    def ports(self) -> tuple[int, ...]:
        """The TCP port of each address; 0 for a Unix socket."""
        return tuple(port.number for port in self._ports)

    @property
    def port(self) -> int:
        """The TCP port of the first address."""
        return self.ports[0]

    async def _join_fleet(self) -> Fleet | None:
        """Join the gateways that share the Redis; return None without Redis."""
        if self.redis is None:
            return None
        from gateway.store.fleet import Fleet  # noqa: PLC0415 - only with Redis

        fleet = Fleet(self.redis, self.settings, self.clock)
        self._stop.push_async_callback(fleet.stop)
        await fleet.start()
        return fleet

    def _watch_conditions(self) -> Conditions | None:
        """Begin to check how Redis is configured; return None without Redis."""
        if self.redis is None:
            return None
        from gateway.store.conditions import Conditions  # noqa: PLC0415 - only with Redis

        conditions = Conditions(self.redis, self.settings, self.clock)
        self._stop.push_async_callback(conditions.stop)
        conditions.start()
        return conditions

    async def _take_revoked(self, records: bytes, epoch: bytes) -> None:
        self.revocations.take(records, epoch)

    def _start_tls(self) -> ServerTls | None:
        """Return the contexts of an HTTPS listener, kept up to date; None for plain HTTP."""
        if not self.settings.server.tls_cert:
            return None
        tls = ServerTls(self.settings.server, self.telemetry)
        watching = Periodic("TLS files", tls.look, self.clock, RELOAD_SECONDS)
        watching.start()
        self._stop.push_async_callback(watching.stop)
        return tls

    async def drain(self) -> None:
        """Refuse readiness and new connections; let running requests end, up to ``drain_seconds`` (R370)."""
        self.admin.draining = True
        for port in self._ports:
            port.close()
        self.express.start_drain()
        self.listener.start_drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.server.drain_seconds):
                await self.listener.empty.wait()
        await self.websockets.drain()

    @property
    def log_stuck(self) -> bool:
        """Whether, after ``stop``, a write to the access log's reader is still blocked."""
        return self._writer.stuck

    async def stop(self) -> None:
        """Close everything that is still open."""
        await self._stop.aclose()


def draw_pseudonym() -> bytes:
    """Return a name for ``Via`` that no other gateway has (RFC 9110 section 7.6.3).

    All workers of one gateway have the same name, so that a loop is detected. Two gateways in a chain never have the
    same one, however alike their hosts and configurations are.
    """
    return b"gateway-" + os.urandom(6).hex().encode("ascii")
