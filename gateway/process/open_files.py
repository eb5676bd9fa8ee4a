"""The limit of open files: raised as far as is needed and permitted, and kept.

Raises and checks that limit. The danger is a gateway that has no file left for the clients that it has promised to
serve, so it accepts fewer where there are too few.
"""

from __future__ import annotations

import logging
import resource

from gateway.server.admin.port import MAX_CONNECTIONS, most_connections
from gateway.server.sockets.listen import ACCEPTS
from gateway.server.sockets.slots import lingering_places
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Settings

_log = logging.getLogger("gateway")

#: Files for what is not counted one by one: the admin port, standard streams, the event loop's own, the files that are
#: read again, looking up names.
SPARE_FILES = 48

#: Connections to one issuer for keys.
FETCHES = 2


def fit_open_files(settings: Settings) -> Settings:
    """Raise the limit of open files as far as is needed and permitted, and stay below it.

    Returns:
        The settings, with fewer ``max_connections`` when the limit is too low
        for them: a client that gets 503 is better off than one that is
        never answered.
    """
    most = settings.server.max_connections
    reserve = SPARE_FILES + ACCEPTS * len(settings.server.addresses) + _stores(settings)
    wanted = most + lingering_places(most) + _pools(settings) + reserve + MAX_CONNECTIONS
    limit = _raise_limit(wanted)
    if limit >= wanted:
        return settings
    connections = connections_within(limit - reserve - most_connections(limit), most, _pools(settings))
    _log.warning(
        "open-files limit is %d, but server.max_connections and the pools need %d: "
        "only %d connections are accepted; raise it (LimitNOFILE, ulimit -n)",
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
    files = _redis() if settings.redis.url else 0
    files += FETCHES * len(settings.issuers)
    for feature in settings.features:
        with Hook(feature.name, "open_files"):
            files += feature.open_files(settings)
    return files


def _redis() -> int:
    from gateway.store.redis_link import POOL_SIZE  # noqa: PLC0415 - only with Redis

    return 2 * POOL_SIZE + 1


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
