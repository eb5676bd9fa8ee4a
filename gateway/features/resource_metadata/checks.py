"""Checks of protected resources against each other and against the routes.

Three faults stop the start: two resources whose documents clients could not
distinguish, names of unknown resources, and routes that fit several resources
alike. The warnings are for what has no effect. As in ``all_checks.py``, only
options that are sound are checked.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.resource_metadata.options import (
    ResourceRouteOptions,
    ResourceTables,
    document_path,
    resource_host,
)
from gateway.features.resource_metadata.routes import (
    authorization_servers,
    fitting_resources,
    names_document,
    routes_by_resource,
)
from gateway.settings import values
from gateway.settings.checks.routes import path_problems
from gateway.settings.faults import KeyPath, did_you_mean
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import BEARER, RouteSettings
from gateway.settings.templates import placeholder_in


def resource_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Find what is wrong with resources.

    Args:
        settings: the configuration; where an option has a fault of its own, any value.
        sound: says whether an option, or all of a table, is free of such faults.
    """
    yield from _repeated(settings, sound)
    yield from _never_applied(settings, sound)
    if not all(sound(("resources", index, "resource")) for index in range(len(ResourceTables.of(settings).resources))):
        return
    yield from _unknown(settings, sound)
    yield from _without_tokens(settings, sound)
    yield from _undecided(settings, sound)
    if all(sound((table,)) for table in ("resources", "routes", "issuers")):
        yield from _foreign_issuers(settings)


def _never_applied(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for index, route in enumerate(settings.routes):
        place = ("routes", index)
        if (
            sound.options(place, "auth", "resource")
            and route.auth == "public"
            and ResourceRouteOptions.of(route).resource
        ):
            yield (*place, "resource"), 'can never apply: with auth = "public" tokens are not looked at'


def _repeated(settings: Settings, sound: Sound) -> Iterator[Problem]:
    identifiers: dict[str, int] = {}
    places: dict[tuple[str, str], int] = {}
    for index, resource in enumerate(ResourceTables.of(settings).resources):
        place: KeyPath = ("resources", index, "resource")
        if not sound(place):
            continue
        text = resource.resource
        if (first := identifiers.setdefault(text, index)) != index:
            yield place, f"is also the identifier of resources[{first}]"
        elif (first := places.setdefault((resource_host(text), document_path(text)), index)) != index:
            yield place, f"has the host and path of resources[{first}], so one document would have to serve both"


def _unknown(settings: Settings, sound: Sound) -> Iterator[Problem]:
    if not sound(("resources",)) and not ResourceTables.of(settings).resources:
        return
    known = [resource.resource for resource in ResourceTables.of(settings).resources]
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index, "resource")
        named = ResourceRouteOptions.of(route).resource
        if sound(place) and named and named not in known:
            yield place, "unknown resource" + did_you_mean(named, known)


def _without_tokens(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        named = ResourceRouteOptions.of(route).resource and route.auth != "public"
        if sound(place) and named and BEARER.isdisjoint(route.credentials):
            yield (*place, "resource"), "has no effect: `credentials` has no tokens, and resources are about tokens"


def _undecided(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for index, route in enumerate(settings.routes):
        if not sound(("routes", index)) or list(path_problems(route)):
            continue
        fitting = fitting_resources(route, ResourceTables.of(settings).resources)
        if len({resource_host(ResourceTables.of(settings).resources[number].resource) for number in fitting}) > 1:
            names = " and ".join(f"resources[{number}]" for number in fitting[:2])
            yield ("routes", index, "resource"), f"is required: {names} both fit; or give the route `hosts`"


def _foreign_issuers(settings: Settings) -> Iterator[Problem]:
    """Find resources for which the issuer that follows from the routes is not a URL that clients can use."""
    if any(list(path_problems(route)) for route in settings.routes):
        return
    for index, routes in enumerate(routes_by_resource(settings)):
        resource = ResourceTables.of(settings).resources[index]
        if resource.authorization_servers:
            continue
        for number, issuer in enumerate(settings.issuers):
            if not all(map(_is_url, authorization_servers(resource, routes, [issuer]))):
                yield (
                    ("resources", index, "authorization_servers"),
                    f"is required: the value of issuers[{number}] is not a URL at which clients could find a server",
                )
                break


def _is_url(text: str) -> bool:
    try:
        values.http_url(text)
    except ValueError:
        return False
    return "?" not in text and not placeholder_in(text)


def resource_warnings(settings: Settings) -> Iterator[Problem]:
    """Find what a valid configuration says of resources without an effect, or with an unusual one."""
    for index, routes in enumerate(routes_by_resource(settings)):
        if not routes:
            yield (
                ("resources", index, "resource"),
                "no route that looks at tokens belongs to it, so no challenge leads to its document",
            )
    for index, route in enumerate(settings.routes):
        if (number := _served_instead(route, settings)) is not None:
            yield ("routes", index, "path"), f"this route serves the document of resources[{number}], not the gateway"


def _served_instead(route: RouteSettings, settings: Settings) -> int | None:
    for number, resource in enumerate(ResourceTables.of(settings).resources):
        if names_document(route, document_path(resource.resource)):
            return number
    return None
