"""The options of the table ``[server]``.

This file has declarations only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.http1.trusted_proxies import ForwardedFields
from gateway.settings import values
from gateway.settings.tables.base import Section

Address = Annotated[str, AfterValidator(values.listen_address)]
Addresses = Annotated[Address | Annotated[list[Address], Field(min_length=1)], AfterValidator(values.listen_addresses)]

TrustedNetwork = Annotated[str, AfterValidator(values.proxies)]


def certificate_field(text: str) -> str:
    """Check the name of the field that holds a client's certificate; empty is "not given"."""
    return values.identity_header_name(text) if text else text


class Server(Section):
    """The listener, the admin port, and the limits of one connection."""

    listen: Addresses = "0.0.0.0:8080"
    """Where clients connect: `host:port`, `[v6]:port`, `unix:/path`, or a list of them. Port 0 lets the system pick.
    `[::]` is every IPv6 address and no IPv4 one; for both, list `0.0.0.0:8080` and `[::]:8080`."""
    admin_listen: Address = "127.0.0.1:9090"
    """Health, readiness, metrics and status: never on the public port. One address in the forms of `listen`."""
    admin_hosts: list[Annotated[str, AfterValidator(values.host)]] = []
    """Names by which the admin port may be called besides IP addresses and `localhost`, such as that of a Kubernetes
    Service. Any other `Host` gets 421, so that no web page can read the port by a name that resolves to it."""
    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Worker processes that share `listen`; `"auto"` is one for each CPU core that the gateway may run on. From two on,
    a supervisor starts them, replaces dead ones, and shows all of them on the one admin port."""
    tls_cert: str = ""
    """PEM certificate chain; with `tls_key`, the TCP addresses of `listen` speak HTTPS. A Unix socket stays plain."""
    tls_key: str = ""
    """PEM private key of `tls_cert`."""
    tls_client_ca: str = ""
    """PEM bundle of authorities: clients must then present a certificate that one of them signed, or is one of them."""
    tls_client_auth: Literal["required", "optional"] = "required"
    """With `tls_client_ca`: whether a client without a certificate may connect. A wrong one never may."""
    client_certificate_header: Annotated[str, AfterValidator(certificate_field)] = ""
    """The header in which trusted proxies that end TLS put the client's certificate, such as `client-cert` (RFC 9440)
    or `x-forwarded-client-cert`: believed for tokens that are bound to one. Removed from every request."""
    trusted_proxies: list[TrustedNetwork] = []
    """CIDRs of proxies whose forwarding headers are believed; `unix`: every client of a Unix socket in `listen`. Empty:
    no proxy is trusted."""
    forwarded_fields: ForwardedFields = "x-forwarded"
    """Which forwarding headers every trusted proxy writes itself: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, or
    `Forwarded` (RFC 7239). The other kind is removed: clients could forge it. `both` only if every trusted proxy
    overwrites both kinds: from one that does not, any client's address, scheme and host would be believed."""
    underscore_headers: Literal["drop", "pass"] = "drop"
    """Request headers whose name has anything but letters, digits and `-`, such as `X_Tenant`: services read several of
    these names as one. `pass` sends those on that cannot be taken for a protected name."""
    strip_headers: list[Annotated[str, AfterValidator(values.stripped_header)]] = []
    """Names of further request headers that clients must not send to services, such as one that a service believes
    because only a proxy writes it. Removed in every spelling."""
    tls_handshake_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 10
    """From the connection to the end of its TLS handshake; then it is closed."""
    request_head_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 10
    """From the first byte of a request to the end of its header section; then the connection is closed."""
    request_body_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """Timeout for the next piece of a request's content: then 408, or the end of a response that has begun. 0 = no
    limit."""
    response_write_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 60
    """Timeout for a client that does not read its response; then the connection is closed. 0 = no limit."""
    keepalive_timeout_seconds: Annotated[float, Field(gt=0, le=86400)] = 75
    """How long an idle client connection is kept."""
    max_head_bytes: Annotated[int, Field(ge=1024, le=1048576)] = 65536
    """The whole header section of a request; above: 431."""
    max_body_bytes: Annotated[int, Field(ge=0)] = 0
    """A request's content; above: 413. 0 = no limit."""
    max_connections: Annotated[int, Field(ge=1)] = 10000
    """Client connections per worker; the next one is answered 503 and closed."""
    max_concurrent_requests: Annotated[int, Field(ge=0)] = 0
    """Requests that are served at one time per worker, streams included and open WebSockets not; the next one is
    answered 503 at once. 0 = no limit."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 30
    """How long running requests may take to finish after SIGTERM or SIGINT."""
    express: bool = True
    """Serve plain requests in the express lane, by the same rules; off: the full lane (aiohttp) serves all."""
    access_log: Literal["json", "text", "off"] = "json"
    """One line per request on standard output, in this form."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of the gateway's own messages on standard error."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address of `listen`."""
        return (self.listen,) if isinstance(self.listen, str) else tuple(self.listen)
