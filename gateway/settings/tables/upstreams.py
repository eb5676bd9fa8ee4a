"""The options of ``[[upstreams]]``.

This file has declarations only.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import Name, Section


class UpstreamSettings(Section):
    """A service behind the gateway, and the pool of connections to it."""

    name: Annotated[Name, Field(examples=["orders"])]
    """What routes, logs and metrics call this upstream."""
    urls: Annotated[
        list[Annotated[str, AfterValidator(values.upstream_url)]],
        Field(min_length=1, examples=[["http://127.0.0.1:9000"]]),
    ]
    """Base URLs: `http://`, `https://`, or `unix:/path/to.sock`. Requests are balanced (round robin) over the URLs that
    are healthy. A path is put before the request's; for a socket it is written behind a second colon,
    `unix:/path/to.sock:/base`."""
    pool_size: Annotated[int, Field(ge=1, le=65536)] = 256
    """Connections per worker and URL."""
    pool_wait_seconds: Annotated[float, Field(gt=0, le=3600)] = 2
    """Waiting longer than this for a connection of a full pool: 503."""
    connect_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 2
    """To an open connection, TLS included; above: 504."""
    response_timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = 30
    """From the end of the request to the end of the response's header section; above: 504."""
    idle_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 300
    """Between two reads of a response body; then the response is cut off. Also how long an upload may stand still whose
    response is complete already, and how long one without a response may wait for the upstream to read on: 504.
    0 = none, for server-sent events."""
    pool_idle_seconds: Annotated[float, Field(gt=0, le=3600)] = 4
    """How long an idle connection is kept. Below the upstream's own limit, so that it is not used as it closes."""
    pool_max_age_seconds: Annotated[float, Field(ge=0, le=86400)] = 300
    """A connection older than this serves no further request, so that busy ones follow a changed DNS answer, too.
    0 = no limit."""
    preserve_host: bool = False
    """Send the client's Host to the upstream instead of the URL's."""
    eject_after_failures: Annotated[int, Field(ge=0, le=1000)] = 3
    """After this many failures in a row to connect, a URL gets no requests for 1 s, and for twice as long each time
    that a single request then fails to connect. 0 = never."""
    eject_max_seconds: Annotated[float, Field(gt=0, le=86400)] = 60
    """Longest ejection: the time between two such tries."""
    health_path: Annotated[str, AfterValidator(values.health_path)] = ""
    """Path of health checks, sent to each URL's host (without the URL's own path): 2xx and 3xx are healthy. Two failed
    checks in a row mark a URL unhealthy, one successful check healthy. Empty: no checks."""
    health_interval_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5
    """Interval of health checks of one URL, give or take a tenth."""
    health_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 1
    """A health check that takes longer than this has failed."""
    tls_ca_file: str = ""
    """PEM bundle for the certificates of `https://` URLs, instead of the system's authorities. They are always checked.
    """
    tls_client_cert: str = ""
    """PEM certificate chain to present to `https://` URLs; with `tls_client_key`."""
    tls_client_key: str = ""
    """PEM private key of `tls_client_cert`."""
    tls_server_name: Annotated[str, AfterValidator(values.tls_name)] = ""
    """Name to ask for (SNI) and to find in the certificate, instead of the URL's host: for URLs that are addresses."""
