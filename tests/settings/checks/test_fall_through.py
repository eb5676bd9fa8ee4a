"""Stricter routes that leave requests to weaker ones: which are named, and which are taken for meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.listed import FEATURES
from gateway.policy.routes import RouteTable
from gateway.settings.checks.fall_through import RouteOrder, fall_through_warnings, weakness
from tests.settings.configs import SMALL, load_text, toml
from tests.support.composed import Route, Settings

PUBLIC = {"auth": "public"}
ISSUERS = [SMALL["issuers"][0], {"name": "other", "issuer": "https://other.test/", "audience": ["api"]}]
UPSTREAMS = [
    {"name": "orders", "urls": ["http://127.0.0.1:9000"]},
    {"name": "again", "urls": ["http://127.0.0.1:9000/"]},
    {"name": "website", "urls": ["http://127.0.0.1:9001"]},
    {"name": "below", "urls": ["http://127.0.0.1:9000/admin"]},
    {"name": "beside", "urls": ["http://127.0.0.1:9000/docs/"]},
]


def warnings(*routes: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the warnings about routes, as key and sentence."""
    made = [{"upstream": "orders", **route} for route in routes]
    settings = Settings.model_validate({"issuers": ISSUERS, "upstreams": UPSTREAMS, "routes": made})
    return [(f"routes[{place[1]}].{place[2]}", text) for place, text in fall_through_warnings(settings)]


def keys(*routes: dict[str, Any]) -> list[str]:
    return [key for key, _ in warnings(*routes)]


POST = {"path": "/orders", "methods": ["POST"]}
ANY = {"path": "/orders"}

# fmt: off
BY_METHOD: dict[str, tuple[list[dict[str, Any]], str]] = {
    "the same path, public": ([POST, {**ANY, **PUBLIC}],
        "only POST must follow this route's rules: a request with any other method reaches routes[1], which is"
        " public; leave `methods` out, or list in routes[1].methods what it is for"),
    "everything, public": ([POST, {"path": "/", **PUBLIC}], "any other method reaches routes[1], which is public"),
    "whatever the order": ([{"path": "/", **PUBLIC}, POST], "reaches routes[0], which is public"),
    "another service": ([POST, {"path": "/", "upstream": "website", **PUBLIC}], "which is public"),
    "a path below": ([{**POST, "path": "/shop/orders"}, {"path": "/shop", **PUBLIC}], "reaches routes[1]"),
    "one path exactly": ([{**POST, "match": "exact"}, {"path": "/orders", **PUBLIC}], "reaches routes[1]"),
    "a pattern behind": ([POST, {"path": "/orders(/.*)?", "match": "regex", **PUBLIC}], "reaches routes[1]"),
    "a pattern in front": ([{**POST, "path": "/orders/[0-9]+", "match": "regex"},
                            {"path": "/orders/[^/]+", "match": "regex", **PUBLIC},],
        "reaches routes[1]"),
    "a pattern over a prefix of its own": ([{**POST, "path": "/v[0-9]+/orders(/.*)?", "match": "regex"},
                                             {"path": "/v[0-9]/.*", "match": "regex", **PUBLIC}],
        "reaches routes[1]"),
    "a token that may be left out": ([POST, {**ANY, "auth": "optional"}], "lets requests without a credential pass"),
    "a roll-out": ([POST, {**ANY, "observe": True}], "lets every request pass (observe = true)"),
    "fewer scopes": ([{**POST, "scopes": ["a", "b"]}, {**ANY, "scopes": ["a"]}], "does not ask for the same scopes"),
    "other scopes of several": ([{**POST, "any_scopes": ["a"]}, {**ANY, "any_scopes": ["a", "b"]}], "same scopes"),
    "no claims": ([{**POST, "claims": {"role": "admin"}}, ANY], "does not ask for the same claims"),
    "more values": ([{**POST, "claims": {"role": "admin"}}, {**ANY, "claims": {"role": ["admin", "user"]}}],
        "does not ask for the same claims"),
    "a value of another type": ([{**POST, "claims": {"role": "1"}}, {**ANY, "claims": {"role": 1}}], "same claims"),
    "more issuers": ([{**POST, "issuers": ["main"]}, ANY], "accepts tokens of more issuers"),
    "other credentials": ([POST, {**ANY, "credentials": ["jwt", "api_key"]}], "accepts other kinds of credentials"),
    "bearer tokens": ([{**POST, "sender_constrained": "required"}, ANY], "not bound in the same way"),
    "another binding": ([{**POST, "sender_constrained": "dpop"}, {**ANY, "sender_constrained": "mtls"}], "not bound"),
    "tokens for many requests": ([{**POST, "single_use": True}, ANY], "accepts a token more than once"),
    "one of several methods": ([{**ANY, "methods": ["POST", "PUT"]}, {**ANY, **PUBLIC}], "only POST and PUT must"),
    "HEAD, which is GET": ([{**ANY, "methods": ["GET"]}, {**ANY, "methods": ["HEAD"], **PUBLIC, "path": "/"}],
        "a request with HEAD reaches routes[1]"),
    "an exception that is too narrow": ([{**POST, "path": "/orders/x"},
                                         {**ANY, "methods": ["POST", "PUT", "DELETE"], **PUBLIC}],
        "a request with PUT or DELETE reaches routes[1]"),
    "methods not named": ([{**ANY, "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]},
                          {**ANY, **PUBLIC}], "any other method"),
    "past a route that holds some": ([POST, {**ANY, "methods": ["PUT"]}, {**ANY, "path": "/", **PUBLIC}],
        "a request with GET, HEAD, PATCH, DELETE, OPTIONS or one that no route names reaches routes[2]"),
    "one host of several": ([{**POST, "hosts": ["a.test"]}, {**ANY, "hosts": ["a.test"], **PUBLIC}],
        "reaches routes[1]"),
    "a limit that HEAD goes round": ([{**ANY, "methods": ["GET"], "rate_limit": {"requests": 9}}, ANY],
        "no `rate_limit`"),
}
# fmt: on


# fmt: off
BY_HOST: dict[str, tuple[list[dict[str, Any]], str]] = {
    "any other host": ([{"path": "/", "hosts": ["api.test"]}, {"path": "/", **PUBLIC}],
        "only requests for api.test must follow this route's rules: one with any other Host reaches the same service by"
        " routes[1], which is public; leave `hosts` out, or list in routes[1].hosts what it is for"),
    "the same service by another name": ([{"path": "/x", "hosts": ["api.test"]},
                                          {"path": "/", "upstream": "again", **PUBLIC}],
        "which is public"),
    "one host too few": ([{"path": "/x", "hosts": ["a.test"]}, {"path": "/", "hosts": ["a.test", "b.test"], **PUBLIC}],
        "one with Host b.test reaches"),
    "no limit": ([{"path": "/", "hosts": ["a.test"], "rate_limit": {"requests": 9}}, {"path": "/"}], "no `rate_limit`"),
    "only for one method": ([{"path": "/x", "hosts": ["a.test"]}, {"path": "/x", "methods": ["DELETE"], **PUBLIC}],
        "any other Host reaches"),
}
# fmt: on


@pytest.mark.parametrize(
    ("option", "routes", "sentence"),
    [
        pytest.param(option, *case, id=f"{option}: {name}")
        for option, cases in (("methods", BY_METHOD), ("hosts", BY_HOST))
        for name, case in cases.items()
    ],
)
@pytest.mark.rule("R403")
def test_a_route_for_some_methods_or_hosts_over_a_weaker_one_is_named(
    option: str, routes: list[dict[str, Any]], sentence: str
) -> None:
    """CWE-650: the key, which requests pass, and what to write instead."""
    found = [text for key, text in warnings(*routes) if key.endswith(f".{option}")]
    assert found
    assert sentence in found[0]


WRITES = ["POST", "PUT", "PATCH", "DELETE"]

# fmt: off
MEANT: dict[str, list[dict[str, Any]]] = {
    "public reading, named": [{"path": "/orders", "methods": ["GET", "HEAD"], **PUBLIC}, ANY],
    "all writing over reading": [{**ANY, "methods": WRITES}, {**ANY, **PUBLIC}],
    "all writing over reading by scope": [{**ANY, "methods": WRITES, "scopes": ["w"]}, {**ANY, "scopes": ["r"]}],
    "each method named": [{**POST, "scopes": ["w"]}, {**ANY, "methods": ["GET", "HEAD"], "scopes": ["r"]}],
    "the rest refused as strictly": [{**POST, "scopes": ["w"]}, {**ANY, "scopes": ["w", "x"]}],
    "a stricter one behind": [{**POST, "scopes": ["w"]}, {**ANY, "scopes": ["w"], "claims": {"role": "a"}}],
    "one of the same scopes": [{**POST, "any_scopes": ["a", "b"]}, {**ANY, "any_scopes": ["a"]}],
    "a scope instead of one of several": [{**POST, "any_scopes": ["a", "b"]}, {**ANY, "scopes": ["b"]}],
    "HEAD to another service": [{**ANY, "methods": ["GET"], "scopes": ["r"]},
                                {**ANY, "methods": WRITES, "scopes": ["w"]},
                                {"path": "/", "upstream": "website", **PUBLIC}],
    "a limit for one method": [{**POST, "rate_limit": {"requests": 9}}, ANY],
    "public over protected": [{**POST, **PUBLIC}, ANY],
    "nothing behind": [POST],
    "another path": [POST, {"path": "/public", **PUBLIC}],
    "an exact exception": [POST, {**ANY, "scopes": ["a"]}, {"path": "/orders/health", "match": "exact", **PUBLIC}],
    "sites by name": [{"path": "/", "hosts": ["api.test"]}, {"path": "/", "hosts": ["www.test"], **PUBLIC}],
    "a default site": [{"path": "/", "hosts": ["api.test"]}, {"path": "/", "upstream": "website", **PUBLIC}],
    "bound in one of two ways": [{**POST, "sender_constrained": "required"}, {**ANY, "sender_constrained": "dpop"}],
    "fewer issuers": [{**POST, "issuers": ["main", "other"]}, {**ANY, "issuers": ["main"]}],
    "fewer credentials": [{**POST, "credentials": ["jwt", "opaque"]}, ANY],
    "two services": [{"path": "/api", "strip_prefix": True}, {"path": "/", "upstream": "website", **PUBLIC}],
    "a health page": [{"path": "/api", "strip_prefix": True}, {"path": "/healthz", "match": "exact", **PUBLIC}],
    "the same prefix": [{"path": "/api", "strip_prefix": True},
                        {"path": "/api", "strip_prefix": True, "methods": ["GET", "HEAD"], **PUBLIC}],
    "rules alike": [{"path": "/v1", "strip_prefix": True}, {"path": "/v2", "strip_prefix": True}],
    "a slow pattern is not run": [POST, {"path": "/(([a-z]+)+)+!", "match": "regex", **PUBLIC}],
    "a pattern of which no path is found": [{"path": r"/(a)\1(?<=b)", "match": "regex", "methods": ["POST"]},
                                            {"path": "/", **PUBLIC}],
}
# fmt: on


@pytest.mark.parametrize("case", MEANT)
@pytest.mark.rule("R403")
def test_what_is_meant_is_not_named(case: str) -> None:
    """A warning that is not about anything hides those that are."""
    assert warnings(*MEANT[case]) == []


# fmt: off
SAME_SERVICE: dict[str, list[dict[str, Any]]] = {
    "a public prefix that is stripped": [{"path": "/admin"}, {"path": "/public", "strip_prefix": True, **PUBLIC}],
    "a protected prefix that is stripped": [{"path": "/api", "strip_prefix": True}, {"path": "/", **PUBLIC}],
    "both stripped": [{"path": "/api", "strip_prefix": True}, {"path": "/docs", "strip_prefix": True, **PUBLIC}],
    "one within the other": [{"path": "/api", "strip_prefix": True},
                             {"path": "/api/docs", "strip_prefix": True, **PUBLIC}],
    "a base path within it": [{"path": "/admin"},
                              {"path": "/docs", "strip_prefix": True, "upstream": "below", **PUBLIC}],
    "a base path that is protected": [{"path": "/api", "strip_prefix": True, "upstream": "below"},
                                      {"path": "/", **PUBLIC}],
    "a base path within a part of it": [{"path": "/admin/users"},
                                        {"path": "/x", "strip_prefix": True, "upstream": "below", **PUBLIC}],
}
# fmt: on


@pytest.mark.parametrize("case", SAME_SERVICE)
@pytest.mark.rule("R403")
def test_a_weaker_way_to_the_same_paths_of_a_service_is_named(case: str) -> None:
    """`/public/admin` is `/admin` to the service when `/public` is stripped."""
    ((key, text),) = warnings(*SAME_SERVICE[case])
    assert key == "routes[0].upstream"
    assert text.startswith("routes[1] leads to the same paths of this service, under /")
    assert "and is public: what this route protects is reached there" in text


@pytest.mark.rule("R403")
def test_base_paths_beside_each_other_are_no_way_around() -> None:
    """What the sentence says to write."""
    stripped: dict[str, Any] = {"strip_prefix": True}
    assert keys({"path": "/admin"}, {"path": "/docs", "upstream": "beside", **stripped, **PUBLIC}) == []
    below, beside = {"path": "/api", "upstream": "below"}, {"path": "/docs", "upstream": "beside"}
    assert keys({**below, **stripped}, {**beside, **stripped, **PUBLIC}) == []
    assert keys(below, {**beside, **PUBLIC}) == []


EXACT = {"path": "/admin", "match": "exact"}


@pytest.mark.parametrize(
    ("routes", "is_named"),
    [
        ([EXACT, {"path": "/", **PUBLIC}], True),
        ([{**EXACT, "scopes": ["a"]}, {"path": "/"}], True),
        ([EXACT, {"path": "/(.*)/", "match": "regex", **PUBLIC}], True),
        ([EXACT, {"path": "/", "upstream": "website", **PUBLIC}], False),
        ([EXACT, {**EXACT, "path": "/admin/"}, {"path": "/", **PUBLIC}], False),
        ([{**EXACT, "match": "prefix"}, {"path": "/", **PUBLIC}], False),
        ([EXACT, {"path": "/"}], False),
        ([{**EXACT, **PUBLIC}, {"path": "/"}], False),
        ([EXACT], False),
    ],
)
@pytest.mark.rule("R403")
def test_an_exact_path_that_a_final_slash_leaves_is_named(routes: list[dict[str, Any]], is_named: bool) -> None:
    """`/admin/` is `/admin` to many services."""
    assert ("routes[0].match" in keys(*routes)) == is_named


def test_a_route_in_between_closes_the_other_way() -> None:
    routes: list[dict[str, Any]] = [
        {"path": "/admin"},
        {"path": "/public", "strip_prefix": True, **PUBLIC},
        {"path": "/public/admin"},
    ]
    assert keys(*routes) == []


@pytest.mark.rule("R403")
def test_the_sentence_comes_with_the_load_and_nothing_is_refused(tmp_path: Path) -> None:
    """`check` and the start print it."""
    config = {**SMALL, "routes": [{**POST, "upstream": "orders"}, {**ANY, **PUBLIC, "upstream": "orders"}]}
    warnings = [str(warning) for warning in load_text(tmp_path, toml(config)).warnings]
    assert [text for text in warnings if text.startswith("routes[0].methods: only POST must follow")]


def test_a_route_is_as_strict_as_itself() -> None:
    for route in (POST, {**ANY, "scopes": ["a"], "any_scopes": ["b"], "claims": {"c": [1, "d"]}, "single_use": True}):
        made = Route.model_validate({**route, "upstream": "orders", "rate_limit": {"requests": 1}})
        assert weakness(made, made, FEATURES) is None


PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/b"])
MADE = st.builds(
    lambda path, match, hosts, methods: Route.model_validate(
        {"path": path, "match": match, "hosts": hosts, "methods": methods, "upstream": "u"}
    ),
    PATHS,
    st.sampled_from(["prefix", "prefix", "exact", "regex"]),
    st.sampled_from([[], ["x.test"], ["x.test", "y.test"]]),
    st.sampled_from([[], ["GET"], ["GET", "POST"]]),
)


@given(
    routes=st.lists(MADE, max_size=8),
    path=st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b"]),
    method=st.sampled_from(["GET", "POST", "PUT"]),
    host=st.sampled_from(["x.test", "y.test", "z.test"]),
)
@pytest.mark.rule("R403")
def test_routes_are_compared_in_the_order_in_which_requests_find_them(
    routes: list[Route], path: str, method: str, host: str
) -> None:
    """The warnings would be wrong if the two orders differed."""
    served = RouteTable(routes).match(host, method, path)
    table = RouteOrder(routes, FEATURES)
    chosen = table.chosen(table.covering(path), method, host)
    assert (served.settings if served else None) == (None if chosen is None else routes[chosen])


def test_many_routes_are_compared_in_a_moment() -> None:
    """Bounded by the routes of a path, not by all of them."""
    routes = [
        {"path": f"/service-{number}/x", "methods": ["POST"], "hosts": [f"h{number}.test"]} for number in range(500)
    ]
    assert len(keys(*routes, {"path": "/", **PUBLIC})) == 1000
