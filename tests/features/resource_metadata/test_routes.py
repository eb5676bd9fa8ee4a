"""Which route is part of which resource, and what a resource learns from its routes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.resource_metadata.options import WELL_KNOWN, Resource
from gateway.features.resource_metadata.routes import (
    authorization_servers,
    fitting_resources,
    names_document,
    routes_by_resource,
    scopes_supported,
)
from tests.support.composed import Route, Settings

ALL = [
    Resource(resource="https://a.test"),
    Resource(resource="https://a.test/api"),
    Resource(resource="https://a.test/api/v1/"),
    Resource(resource="https://b.test/other"),
]
ONE, TWO = "https://one.test/", "https://two.test"


def route(path: str, **options: Any) -> Route:
    return Route.model_validate({"path": path, "upstream": "u", **options})


# fmt: off
@pytest.mark.parametrize(
    ("path", "options", "index"),
    [("/", {}, 0), ("/api", {}, 1), ("/api/x", {}, 1), ("/apix", {}, 0), ("/api/v1", {}, 1), ("/api/v1/", {}, 2),
     ("/api/v1/x", {}, 2), ("/other", {}, 3), ("/API", {}, 0), ("/api", {"match": "exact"}, 1),
     ("/api/[0-9]+", {"match": "regex"}, 1), ("/api.*", {"match": "regex"}, 0), ("/api", {"match": "regex"}, 1),
     ("/api/v1/x?", {"match": "regex"}, 2), (".*", {"match": "regex"}, 0), ("(/api/a|/b)", {"match": "regex"}, 0),
     ("/other", {"hosts": ["a.test"]}, 0), ("/other", {"hosts": ["B.test."]}, 3), ("/api", {"hosts": ["b.test"]}, None),
     ("/api", {"auth": "optional"}, 1), ("/api", {"auth": "public"}, None),
     ("/api", {"credentials": ["api_key"]}, None), ("/api", {"credentials": ["api_key", "jwt"]}, 1),
     ("/api", {"resource": "https://b.test/other"}, 3), ("/api", {"resource": "https://nowhere.test"}, None)],
)
@pytest.mark.rule("R115")
def test_the_most_specific_resource_that_fits_is_taken(path: str, options: dict[str, Any], index: int | None) -> None:
    assert fitting_resources(route(path, **options), ALL) == ([] if index is None else [index])
# fmt: on


def test_without_resources_no_route_has_one() -> None:
    assert fitting_resources(route("/"), []) == []


def test_two_that_fit_alike_are_both_told() -> None:
    twins = [Resource(resource="https://a.test/x"), Resource(resource="https://b.test/x")]
    assert fitting_resources(route("/x/y"), twins) == [0, 1]
    assert fitting_resources(route("/x/y", hosts=["b.test"]), twins) == [1]


def settings(*routes: Route, **options: Any) -> Settings:
    issuers = [
        {"name": "one", "issuer": [ONE, "https://old.test/"], "audience": ["api"]},
        {"name": "two", "issuer": TWO, "audience": ["api"]},
    ]
    upstreams = [{"name": "u", "urls": ["http://127.0.0.1:1"]}]
    return Settings.model_validate(
        {
            "issuers": issuers,
            "upstreams": upstreams,
            "routes": [one.model_dump() for one in routes],
            "resources": [{"resource": "https://a.test/api", **options}],
        }
    )


def learned(*routes: Route, **options: Any) -> tuple[list[str], list[str]]:
    """The servers and scopes of the one resource."""
    config = settings(*routes, **options)
    members, resource = routes_by_resource(config)[0], config.resources[0]
    return authorization_servers(resource, members, config.issuers), scopes_supported(resource, members)


@pytest.mark.parametrize(
    ("routes", "servers", "scopes"),
    [
        ((route("/api"),), ["https://one.test/", "https://two.test"], []),
        (
            (route("/api", issuers=["two"], scopes=["b", "a"], any_scopes=["c", "a"]),),
            ["https://two.test"],
            list("abc"),
        ),
        (
            (route("/api/x", issuers=["two"]), route("/api", issuers=["one"])),
            ["https://one.test/", "https://two.test"],
            [],
        ),
        ((route("/api", auth="public"), route("/x", scopes=["x"])), [], []),
    ],
)
@pytest.mark.rule("R116")
def test_servers_and_scopes_follow_from_the_routes(routes: Any, servers: list[str], scopes: list[str]) -> None:
    """In the order of the issuers, of each its first value; scopes sorted."""
    assert learned(*routes) == (servers, scopes)


def test_what_is_configured_wins() -> None:
    """In its own order, and each once."""
    given = {
        "authorization_servers": ["https://z.test", "https://y.test", "https://z.test"],
        "scopes_supported": ["z", "y"],
    }
    assert learned(route("/api", scopes=["a"]), **given) == (["https://z.test", "https://y.test"], ["z", "y"])


# fmt: off
@pytest.mark.parametrize(
    ("path", "match", "names"),
    [("/", "prefix", False), ("/.well-known", "prefix", False), (WELL_KNOWN, "prefix", True),
     (f"{WELL_KNOWN}/", "prefix", True), (f"{WELL_KNOWN}/api", "prefix", True), (f"{WELL_KNOWN}/api", "exact", True),
     (WELL_KNOWN, "exact", False), (f"{WELL_KNOWN}/api/", "prefix", False), (f"{WELL_KNOWN}/other", "prefix", False),
     (f"{WELL_KNOWN}s", "prefix", False), (f"{WELL_KNOWN}/api", "regex", False)],
)
def test_only_a_route_at_the_well_known_path_or_below_names_a_document(path: str, match: str, names: bool) -> None:
    assert names_document(route(path, match=match), f"{WELL_KNOWN}/api") is names
# fmt: on
