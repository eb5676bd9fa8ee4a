"""Which routes are parts of which protected resource, and what that says of the resource.

A route belongs to the resource that it names; else to the one with the longest
path that is a prefix of the route's, on a segment border, and whose host is one
of the route's. All of it follows from the configuration, and nothing from a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.features.resource_metadata.options import (
    WELL_KNOWN,
    Resource,
    ResourceRouteOptions,
    ResourceTables,
    resource_host,
    resource_path,
)
from gateway.settings.checks.routes import plain_ends
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import BEARER, RouteSettings
from gateway.settings.templates import fill


def fitting_resources(route: RouteSettings, resources: Sequence[Resource]) -> list[int]:
    """Return the indices of the resources that a route belongs to.

    One at most; none, for example, for a route that takes no tokens. Several are
    returned when the configuration does not decide between them, which is a fault.
    """
    if route.auth == "public" or BEARER.isdisjoint(route.credentials):
        return []
    if named := ResourceRouteOptions.of(route).resource:
        return [index for index, resource in enumerate(resources) if resource.resource == named][:1]
    start, whole = _known_start(route)
    fitting = []
    for index, resource in enumerate(resources):
        path, host = resource_path(resource.resource), resource_host(resource.resource)
        if (not route.hosts or host in route.hosts) and _covers(path, start, whole=whole):
            fitting.append((len(path), index))
    longest = max((length for length, _ in fitting), default=0)
    return [index for length, index in fitting if length == longest]


def routes_by_resource(settings: Settings) -> list[list[RouteSettings]]:
    """Return, for each resource of a valid configuration, the routes that belong to it."""
    found: list[list[RouteSettings]] = [[] for _ in ResourceTables.of(settings).resources]
    for route in settings.routes:
        for index in fitting_resources(route, ResourceTables.of(settings).resources):
            found[index].append(route)
    return found


def authorization_servers(resource: Resource, routes: Iterable[RouteSettings], issuers: Iterable[Issuer]) -> list[str]:
    """Return the servers that issue tokens for a resource: as configured, else the issuers that its routes accept."""
    if resource.authorization_servers:
        return list(dict.fromkeys(resource.authorization_servers))
    accepted = [route.issuers for route in routes]
    return [
        server
        for issuer in issuers
        if any(not names or issuer.name in names for names in accepted)
        for server in _identifiers(issuer)
    ]


def _identifiers(issuer: Issuer) -> list[str]:
    """Return the identifiers of an issuer; of a template whose tenants are listed, those of all of them."""
    first = issuer_values(issuer)[0]
    return [fill(first, tenant) for tenant in issuer.tenants] or [first]


def scopes_supported(resource: Resource, routes: Iterable[RouteSettings]) -> list[str]:
    """Return the scopes of a resource: as configured, else those that its routes ask for, sorted."""
    if resource.scopes_supported:
        return list(dict.fromkeys(resource.scopes_supported))
    return sorted({scope for route in routes for scope in (*route.scopes, *route.any_scopes)})


def names_document(route: RouteSettings, path: str) -> bool:
    """Return whether a route is evidently meant to serve the document at this path.

    That is a route whose own path is the well-known one or below it; not a
    wider one such as ``/``, and not a pattern.
    """
    if route.match == "regex" or not _covers(WELL_KNOWN, route.path, whole=True):
        return False
    return route.path == path if route.match == "exact" else _covers(route.path, path, whole=True)


def _known_start(route: RouteSettings) -> tuple[str, bool]:
    """Return the text with which all paths of a route begin, and whether a path may end there."""
    if route.match != "regex":
        return route.path, True
    head = plain_ends(route.path)[0]
    return head, head == route.path


def _covers(prefix: str, path: str, *, whole: bool) -> bool:
    """Return whether a prefix covers a path, on a segment border.

    Args:
        whole: the path may end here; else this is only how it begins.
    """
    return not prefix or (whole and path == prefix) or path.startswith(prefix.removesuffix("/") + "/")
