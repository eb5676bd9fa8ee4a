"""What one process can carry, and how well it does.

Only the limit of open files and the lag of the event loop live here: read, or
measured, never guessed.
"""

from __future__ import annotations

import asyncio
import logging
import resource

from gateway.server.admin.port import MAX_CONNECTIONS, most_connections
from gateway.server.sockets.slots import lingering_places
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import POOL_SIZE
from gateway.telemetry.counters import Telemetry

_log = logging.getLogger("gateway")

#: Files for what is not counted one by one: the ports, standard streams, the event loop's own, the files that are
#: read again, looking up names.
SPARE_FILES = 56

#: Connections to one issuer for keys.
FETCHES = 2

#: How often the loop's lag is measured, and how long the worst of it is shown, in seconds.
LAG_INTERVAL = 0.1
LAG_SHOWN = 15.0


def fit_open_files(settings: Settings) -> Settings:
    """Raise the limit of open files as far as is needed and permitted, and stay below it.

    Returns:
        The settings, with fewer ``max_connections`` when the limit is too low
        for them: a client that is told 503 is better off than one that is
        never answered.
    """
    most = settings.server.max_connections
    reserve = SPARE_FILES + _stores(settings)
    wanted = most + lingering_places(most) + _pools(settings) + reserve + MAX_CONNECTIONS
    limit = _raise_limit(wanted)
    if limit >= wanted:
        return settings
    connections = connections_within(limit - reserve - most_connections(limit), most, _pools(settings))
    _log.warning(
        "the limit of open files is %d: too low for max_connections and the pools, which need %d; "
        "%d connections are accepted",
        limit,
        wanted,
        connections,
    )
    server = settings.server.model_copy(update={"max_connections": connections})
    return settings.model_copy(update={"server": server})


def connections_within(room: int, connections: int, pools: int) -> int:
    """Return how many client connections fit into so many open files.

    Each needs a connection to an upstream while it is served, so half of the
    files are for clients where the pools could take all. Some of the clients'
    half are for those that are turned away, or linger (``sockets/slots.py``).
    """
    room = max(4, room)
    clients = max(room - pools, room // 2)
    return min(connections, max(1, clients * 8 // 9))  # of nine, one is for those: see ``lingering_places``


def _stores(settings: Settings) -> int:
    """Return the most files that issuers and Redis need, besides those that every gateway needs."""
    files = 2 * POOL_SIZE + 1 if settings.redis.url else 0
    files += FETCHES * len(settings.issuers)
    return files + sum(feature.open_files(settings) for feature in settings.features)


def _pools(settings: Settings) -> int:
    return sum(upstream.pool_size * len(upstream.urls) for upstream in settings.upstreams)


def _raise_limit(wanted: int) -> int:
    """Raise the process's own limit within what the system permits, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    aim = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft >= aim:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
    except (OSError, ValueError):
        return soft
    return aim


class LoopLag:
    """Measures how late the event loop is: how long a callback that is due has to wait for its turn.

    It runs on the loop's own time, not on the gateway's clock: what is
    measured is the loop itself.

    Args:
        telemetry: shows the longest lag of the last ``LAG_SHOWN`` to twice as many seconds.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._worst = [0.0, 0.0]  # in the running period and the one before
        self._period_ends = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._period_ends = self._loop.time() + LAG_SHOWN
        self._again()

    def stop(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()

    def _again(self) -> None:
        self._due = self._loop.time() + LAG_INTERVAL
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        now, due = self._loop.time(), self._due
        self._again()  # first: whatever happens below, it is measured again
        if now >= self._period_ends:
            self._worst = [0.0, self._worst[0]]
            self._period_ends = now + LAG_SHOWN
        self._worst[0] = max(self._worst[0], now - due)
        self._telemetry.loop_lag = max(self._worst)
