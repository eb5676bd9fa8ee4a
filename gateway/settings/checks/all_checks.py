"""Checks that need several options, or a file that an option names.

They find what types and bounds cannot see: names that point nowhere, rules that
can never apply, two routes of which nobody could say which is meant. Faults
stop the start; warnings are for what is allowed but seldom meant. The
danger of this file is the false fault: a check looks only at options that are
sound, because the others already have a fault of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from gateway.features.abuse_watch.checks import watch_problems
from gateway.features.api_keys import checks as key_checks
from gateway.features.introspection.checks import introspection_problems
from gateway.features.introspection.choice_rules import needs_keys
from gateway.features.rate_limits.checks import rate_limit_problems
from gateway.features.resource_metadata.checks import resource_problems
from gateway.features.revocation import checks as revocation_checks
from gateway.features.sender_constrained.checks import find_sender_faults
from gateway.settings import readable as files
from gateway.settings import templates
from gateway.settings.checks import redis as redis_checks
from gateway.settings.checks import routes as route_checks
from gateway.settings.checks.exposures import exposure_faults
from gateway.settings.checks.own_ports import own_port_problems
from gateway.settings.checks.tenants import tenant_problems
from gateway.settings.faults import KeyPath, did_you_mean, path_text
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import Route
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import Upstream
from gateway.settings.tenants import listed_values
from gateway.settings.values import fold_header_name, http_url, ip_version, is_loopback, split_address, url_key

#: The place of an option and what is wrong with it.
Problem = tuple[KeyPath, str]

_UPSTREAM_TLS = ("tls_client_cert", "tls_client_key", "tls_ca_file", "tls_server_name")
_CORS = ("cors_origins", "cors_methods", "cors_headers", "cors_max_age_seconds", "cors_credentials")
_OF_TOKENS = ("issuers", "scopes", "any_scopes", "claims", "resource")
_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not listened on)


class _Sound:
    """Tells whether options are free of faults of their own."""

    def __init__(self, faulty: Collection[KeyPath]) -> None:
        self._faulty = faulty

    def __call__(self, *paths: KeyPath) -> bool:
        return not any(path[: len(other)] == other[: len(path)] for path in paths for other in self._faulty if other)

    def table(self, name: str) -> bool:
        """Tell it for a table as such, whatever is wrong inside."""
        return (name,) not in self._faulty

    def options(self, place: KeyPath, *names: str) -> bool:
        """Tell it for several options of one table."""
        return self(*((*place, name) for name in names))


def find_faults(settings: Settings, faulty: Collection[KeyPath], identity: Sequence[str]) -> list[Problem]:
    """Return what is wrong between options.

    Args:
        settings: the configuration; where an option has a fault of its own, any value.
        faulty: the keys that have a fault of their own.
        identity: the headers' names as they are written.
    """
    sound = _Sound(faulty)
    return [
        *_server(settings.server, sound),
        *redis_checks.redis_problems(settings.redis, sound),
        *revocation_checks.revocation_problems(settings, sound),
        *_repeated(settings, sound),
        *_issuers(settings, sound),
        *introspection_problems(settings, sound),
        *_issuer_values(settings, sound),
        *tenant_problems(settings, sound),
        *(problem for i, one in enumerate(settings.upstreams) for problem in _upstream(one, ("upstreams", i), sound)),
        *own_port_problems(settings, sound),
        *_references(settings, sound),
        *_need_of_issuers(settings, sound),
        *key_checks.find_key_faults(settings, sound),
        *key_checks.find_need_of_keys(settings, sound),
        *(
            problem
            for i, route in enumerate(settings.routes)
            for problem in (
                *_route(route, ("routes", i), sound),
                *_credentials(route, ("routes", i), sound, settings.identity),
            )
        ),
        *_ties(settings, sound),
        *_identity(identity),
        *resource_problems(settings, sound),
        *rate_limit_problems(settings, sound),
        *watch_problems(settings, sound),
        *find_sender_faults(settings, sound),
        *exposure_faults(settings, sound),
    ]


def _server(server: Server, sound: _Sound) -> Iterator[Problem]:
    place = ("server",)
    if sound.options(place, "listen"):
        yield from _listen(server)
        if sound.options(place, "admin_listen") and any(_overlap(one, server.admin_listen) for one in server.addresses):
            yield (*place, "admin_listen"), "is the address of `listen`; the admin port is a port of its own"
    if server.admin_hosts and server.admin_listen.startswith("unix:") and sound.options(place, "admin_hosts"):
        yield (*place, "admin_hosts"), "has no effect: `admin_listen` is a Unix socket, which is asked by any name"
    if sound.options(place, "tls_cert", "tls_key", "tls_client_ca"):
        if server.tls_cert and not server.tls_key:
            yield (*place, "tls_key"), "is required with `tls_cert`"
        elif server.tls_key and not server.tls_cert:
            yield (*place, "tls_cert"), "is required with `tls_key`"
        elif server.tls_cert and (problem := files.certificate_problem(server.tls_cert, server.tls_key)):
            yield (*place, problem[0]), problem[1]
        if server.tls_client_ca and not server.tls_cert and not server.tls_key:
            yield (*place, "tls_client_ca"), "has no effect without `tls_cert` and `tls_key`"
        elif server.tls_client_ca and (text := files.authorities_problem(server.tls_client_ca)):
            yield (*place, "tls_client_ca"), text


def _listen(server: Server) -> Iterator[Problem]:
    addresses = server.addresses
    for index, one in enumerate(addresses):
        for earlier, other in enumerate(addresses[:index]):
            if _overlap(one, other):
                text = "is also" if one == other else "is a part of, or holds,"
                yield ("server", "listen", index), f"{text} listen[{earlier}]: each address is listened on once"
                break
    if server.tls_cert and all(one.startswith("unix:") for one in addresses):
        yield ("server", "tls_cert"), "has no effect: `listen` has no TCP address, and a Unix socket stays plain"


def _overlap(one: str, other: str) -> bool:
    """Tell whether one connection could arrive at both addresses. `[::]` holds no IPv4 address."""
    if one.startswith("unix:") or other.startswith("unix:"):
        return one == other
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    if port != other_port or not port:
        return False
    families = {ip_version(host), ip_version(other_host)} - {0}
    return host == other_host or (len(families) < 2 and bool(_WILDCARDS & {host, other_host}))


def _repeated(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    tables: dict[str, list[str]] = {
        "issuers": [issuer.name for issuer in settings.issuers],
        "upstreams": [upstream.name for upstream in settings.upstreams],
    }
    for table, names in tables.items():
        for index, name in enumerate(names):
            if sound((table, index, "name")) and name in names[:index]:
                yield (table, index, "name"), f"is also the name of {path_text((table, names.index(name)))}"


def _issuers(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        # Whose tokens are all introspected has keys at no address.
        if not sound((*place, "introspection_url"), ("routes",)) or needs_keys(issuer, settings.routes):
            yield from _issuer(issuer, place, sound)


def _issuer(issuer: Issuer, place: KeyPath, sound: _Sound) -> Iterator[Problem]:
    if not sound.options(place, "jwks_url", "jwks_file"):
        return
    if issuer.jwks_url and issuer.jwks_file:
        yield (*place, "jwks_file"), "excludes `jwks_url`: the keys come from one place"
    elif not issuer.jwks_file and sound.options(place, "issuer", "allow_http"):
        key = "jwks_url" if issuer.jwks_url else "issuer"
        yield from (((*place, key), text) for text in _address_problems(issuer))
    if (
        sound.options(place, "jwks_ca_file")
        and issuer.jwks_ca_file
        and (text := files.authorities_problem(issuer.jwks_ca_file))
    ):
        yield (*place, "jwks_ca_file"), text


def _address_problems(issuer: Issuer) -> Iterator[str]:
    """Look at the address of the keys or of the discovery document (OIDC Discovery 1.0 section 4)."""
    url = templates.fill(issuer.jwks_url or issuer_values(issuer)[0], "tenant")
    try:
        parts = http_url(url)
    except ValueError as error:
        yield f"keys are looked for at this address by discovery, but it {error}; or give `jwks_url` or `jwks_file`"
        return
    if not issuer.jwks_url and "?" in url:
        yield "has a query, so discovery cannot use it; give `jwks_url` or `jwks_file`"
    if parts.scheme == "http" and not issuer.allow_http and not is_loopback(parts.hostname or ""):
        yield "keys over http:// can be replaced on the way: use https://, or `allow_http = true` in a private network"


def _issuer_values(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    owner: dict[str, int] = {}
    for index, issuer in enumerate(settings.issuers):
        if not sound(("issuers", index, "issuer")):
            continue
        for value in listed_values(issuer):
            if owner.setdefault(value, index) != index:
                yield ("issuers", index, "issuer"), f"a value of it also belongs to issuers[{owner[value]}]"
                break


def _upstream(upstream: Upstream, place: KeyPath, sound: _Sound) -> Iterator[Problem]:
    urls = [url_key(url) for url in upstream.urls]
    for number, url in enumerate(urls):
        if url in urls[:number]:
            yield (*place, "urls", number), f"is also urls[{urls.index(url)}]: each URL has one pool"
    if not sound.options(place, "urls", *_UPSTREAM_TLS):
        return
    if not any(url.startswith("https://") for url in upstream.urls):
        given = (name for name in _UPSTREAM_TLS if getattr(upstream, name))
        yield from (((*place, name), "has no effect: none of the `urls` is https://") for name in given)
        return
    certificate, key = upstream.tls_client_cert, upstream.tls_client_key
    if certificate and not key:
        yield (*place, "tls_client_key"), "is required with `tls_client_cert`"
    elif key and not certificate:
        yield (*place, "tls_client_cert"), "is required with `tls_client_key`"
    elif certificate and (problem := files.certificate_problem(certificate, key, _UPSTREAM_TLS[:2])):
        yield (*place, problem[0]), problem[1]
    if upstream.tls_ca_file and (text := files.authorities_problem(upstream.tls_ca_file)):
        yield (*place, "tls_ca_file"), text


def _references(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    named: dict[str, list[tuple[KeyPath, str]]] = {"upstreams": [], "issuers": []}
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        if sound((*place, "upstream")):
            named["upstreams"].append(((*place, "upstream"), route.upstream))
        if sound((*place, "issuers")):
            named["issuers"] += [((*place, "issuers", number), name) for number, name in enumerate(route.issuers)]
    if settings.upstreams:
        yield from _unknown(named["upstreams"], "upstreams", [one.name for one in settings.upstreams], sound)
    if sound.table("issuers"):
        yield from _unknown(named["issuers"], "issuers", [issuer.name for issuer in settings.issuers], sound)


def _unknown(named: list[tuple[KeyPath, str]], table: str, names: list[str], sound: _Sound) -> Iterator[Problem]:
    """Find names that point nowhere; not those that a table's faulty name may stand for."""
    faulty = sum(not sound((table, index, "name")) for index in range(len(names)))
    unknown = {name for _, name in named if name not in names}
    for place, name in named:
        hint = did_you_mean(name, filter(None, names))
        if name in unknown and (hint or len(unknown) > faulty):
            yield place, f"is the name of no {table[:-1]}{hint}"


def _need_of_issuers(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    if settings.issuers or not sound(("issuers",)):
        return
    for index, route in enumerate(settings.routes):
        options = ("routes", index, "auth"), ("routes", index, "credentials")
        if sound(*options) and key_checks.takes_tokens(route):
            yield (
                ("issuers",),
                f'is empty, but routes[{index}] looks at tokens; name an issuer, or write auth = "public"',
            )
            return


def _route(route: Route, place: KeyPath, sound: _Sound) -> Iterator[Problem]:
    if sound.options(place, "path", "match"):
        for text in route_checks.path_problems(route):
            yield (*place, "path"), text
    if sound.options(place, "match", "strip_prefix") and route.strip_prefix and route.match == "regex":
        yield (*place, "strip_prefix"), 'has no meaning with match = "regex"'
    if sound.options(place, *_CORS, "methods"):
        yield from (((*place, name), text) for name, text in route_checks.cors_problems(route))
    websocket = sound.options(place, "websocket", "websocket_protocol_token")
    if websocket and route.websocket_protocol_token and not route.websocket:
        yield (*place, "websocket_protocol_token"), "has no effect with `websocket = false`"
    if not sound((*place, "auth")):
        return
    if route.auth == "public":
        for name in (*_OF_TOKENS, "websocket_protocol_token", "end_at_expiry"):
            if sound((*place, name)) and getattr(route, name):
                yield (*place, name), 'can never apply: with auth = "public" tokens are not looked at'
    if sound((*place, "observe")) and route.observe and route.auth != "required":
        yield (*place, "observe"), 'has a meaning with auth = "required" only'


def _credentials(
    route: Route, place: KeyPath, sound: _Sound, identity: dict[str, str | list[str]]
) -> Iterator[Problem]:
    if not sound.options(place, "auth", "credentials"):
        return
    if route.auth == "public":
        for name in ("credentials", "api_key_header"):
            if sound((*place, name)) and getattr(route, name) != Route.model_fields[name].default:
                yield (*place, name), 'can never apply: with auth = "public" credentials are not looked at'
        return
    for name, text in key_checks.route_problems(route, identity if sound(("identity",)) else {}):
        if sound((*place, name)):
            yield (*place, name), text


def _ties(settings: Settings, sound: _Sound) -> Iterator[Problem]:
    for index, earlier in route_checks.ties(
        [
            route if sound.options(("routes", index), "path", "match", "hosts", "methods") else None
            for index, route in enumerate(settings.routes)
        ]
    ):
        yield (
            ("routes", index, "path"),
            f"ties with routes[{earlier}]: one request could match both, and neither is more specific",
        )


def _identity(names: Sequence[str]) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(fold_header_name(name), name)) != name:
            yield ("identity", name), f"is the same header as {other} for services that fold names"
