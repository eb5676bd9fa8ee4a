"""What is wrong, or doubtful, with resources and routes together: loaded as from a file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, faults_of, warnings_of
from tests.support.tokens.api_keys import entry


def config(*resources: dict[str, Any], routes: tuple[dict[str, Any], ...] = (), **issuer: Any) -> dict[str, Any]:
    """``SMALL`` with resources, with other routes if there are some, and with other options of its issuer."""
    found = copy.deepcopy(SMALL)
    found["issuers"][0].update(issuer)
    if routes:
        found["routes"] = [{"upstream": "orders", **route} for route in routes]
    found["resources"] = list(resources)
    return found


API = {"resource": "https://a.test/orders"}
NO_SERVER = (
    "resources[0].authorization_servers: is required: the value of issuers[0] is not a URL at which clients could find"
    " a server"
)
KEYS_ONLY = {"path": "/x", "credentials": ["api_key"], "resource": API["resource"]}
TWIN = {"resource": "https://b.test/orders"}

# fmt: off
FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one identifier twice": (
        config(API, {**API, "name": "b"}), ["resources[1].resource: is also the identifier of resources[0]"]),
    "one document for two, by a slash": (
        config({"resource": "https://a.test"}, {"resource": "https://a.test/"}),
        ["resources[1].resource: has the host and path of resources[0], so one document would have to serve both"]),
    "one document for two, by port and case": (
        config({"resource": "https://A.test/%61"}, {"resource": "https://a.test:8443/a"}),
        ["resources[1].resource: has the host and path of resources[0], so one document would have to serve both"]),
    "a reference to nothing": (
        config(API, routes=({"path": "/x", "resource": "https://a.test/order"},)),
        ["routes[0].resource: unknown resource; did you mean `https://a.test/orders`?"]),
    "a reference without resources": (
        config(routes=({"path": "/x", "resource": "https://a.test/order"},)),
        ["routes[0].resource: unknown resource"]),
    "a route of two": (
        config(API, TWIN),
        ["routes[0].resource: is required: resources[0] and resources[1] both fit; or give the route `hosts`"]),
    "a public route": (
        config(API, routes=({"path": "/x", "auth": "public", "resource": API["resource"]}, {"path": "/orders"})),
        ['routes[0].resource: can never apply: with auth = "public" tokens are not looked at']),
    "a route without tokens": (
        {**config(API, routes=(KEYS_ONLY, {"path": "/orders"})), "api_keys": [entry()]},
        ["routes[0].resource: has no effect: `credentials` has no tokens, and resources are about tokens"]),
    "an issuer that is no address": (
        config(API, issuer="idp", jwks_url="https://idp.test/keys"),
        [NO_SERVER]),
    "an issuer with a query": (
        config(API, issuer="https://idp.test/?a", jwks_url="https://idp.test/keys"),
        [NO_SERVER]),
    "bad values, all at once": (
        config({"resource": "https://a.test/?q", "scopes_supported": ["a b"]},
               {"resource": "http://a.test", "authorization_servers": ["https://i.test", "https://i.test/#"]},
               {"nmae": "x"}),
        ["resources[0].resource: has a query; an identifier is scheme, host, port and path",
         'resources[0].scopes_supported[0]: is not a scope: printable ASCII without spaces, quotes and backslashes;'
         ' write several as ["a", "b"]',
         "resources[1].resource: must begin with https://; http:// is for loopback only",
         "resources[1].authorization_servers[1]: has a fragment",
         "resources[2].resource: is required",
         "resources[2].nmae: unknown key; did you mean `name`?"]),
    "references while a resource is faulty": (  # which may be the one that is meant
        config({"resource": "https://a.test/#"}, routes=({"path": "/x", "resource": "https://a.test/"},)),
        ["resources[0].resource: has a fragment"]),
    "a route that cannot be compared": (
        config(API, routes=({"path": "([", "match": "regex"},)),
        ["routes[0].path: is not a valid regular expression: unterminated character set at character 2"]),
}
# fmt: on


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.rule("R115", "R116")
def test_faults_are_told_with_their_keys_and_no_others(name: str, tmp_path: Path) -> None:
    given, wanted = FAULTS[name]
    assert sorted(faults_of(tmp_path, given)) == sorted(wanted)


# fmt: off
VALID: dict[str, dict[str, Any]] = {
    "one": config(API),
    "two hosts, told apart by hosts": config(
        API, TWIN, routes=({"path": "/orders", "hosts": ["a.test"]}, {"path": "/orders", "hosts": ["b.test"]})),
    "two hosts, told apart by name": config(
        API, TWIN, routes=({"path": "/orders", "resource": API["resource"]},
                           {"path": "/orders/b", "resource": TWIN["resource"]})),
    "an issuer that is no address, with servers": config(
        {**API, "authorization_servers": ["https://idp.test"]}, issuer="idp", jwks_url="https://idp.test/keys"),
    "all options": config(
        {**API, "scopes_supported": ["a"], "name": "Orders", "documentation": "https://a.test/docs",
         "policy_uri": "https://a.test/policy", "tos_uri": "https://a.test/tos"}),
}
# fmt: on


@pytest.mark.parametrize("name", VALID)
def test_what_is_meant_is_taken_without_a_word(name: str, tmp_path: Path) -> None:
    assert warnings_of(tmp_path, VALID[name]) == []


def test_what_has_no_effect_is_a_warning(tmp_path: Path) -> None:
    document = {"path": "/.well-known/oauth-protected-resource/orders", "auth": "public"}
    given = config(API, {"resource": "https://a.test/idle"}, routes=({"path": "/orders"}, document))
    assert warnings_of(tmp_path, given) == [
        "resources[1].resource: no route that looks at tokens belongs to it, so no challenge leads to its document",
        "routes[1].path: this route serves the document of resources[0], not the gateway",
    ]


def test_resources_may_come_from_the_environment(tmp_path: Path) -> None:
    """As JSON, like every table of the user's own number."""
    env = {"GATEWAY_RESOURCES": '[{"resource": "http://a.test"}]'}
    assert faults_of(tmp_path, SMALL, env) == [
        "resources[0].resource (GATEWAY_RESOURCES): must begin with https://; http:// is for loopback only"
    ]
