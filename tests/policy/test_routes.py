"""The choice of a route, and the path that it sends upstream."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.target import parse_target
from gateway.policy.routes import MAX_REGEX_PATH, ClaimRule, RouteTable, upstream_path
from gateway.settings.tables.routes import RouteSettings as CoreRoute
from tests.support.composed import Route


def route(path: str, **options: Any) -> Route:
    return Route.model_validate({"path": path, "upstream": "u", **options})


def chosen(routes: list[Route], path: str, *, host: str = "h", method: str = "GET") -> str | None:
    found = RouteTable(routes).match(host, method, path)
    return None if found is None else found.name


@pytest.mark.parametrize(
    ("configured", "path", "matches"),
    [
        ("/admin", "/admin", True),
        ("/admin", "/admin/", True),
        ("/admin", "/admin/x/y", True),
        ("/admin", "/administrator", False),
        ("/admin", "/admin.", False),
        ("/admin", "/admin ", False),
        ("/admin", "/Admin", False),
        ("/admin", "/adm", False),
        ("/admin", "/x/admin", False),
        ("/admin/", "/admin/", True),
        ("/admin/", "/admin/x", True),
        ("/admin/", "/admin", False),
        ("/admin/", "/administrator/", False),
        ("/a/b", "/a/b/c", True),
        ("/a/b", "/a/bc", False),
        ("/a/b", "/a", False),
        ("/", "/", True),
        ("/", "/anything/at/all", True),
        ("/caf\N{LATIN SMALL LETTER E WITH ACUTE}", "/caf\N{LATIN SMALL LETTER E WITH ACUTE}/x", True),
    ],
)
@pytest.mark.rule("R238", "R239")
def test_prefix_ends_on_a_segment_border(configured: str, path: str, matches: bool) -> None:
    """Letter case and a trailing slash count; /admin is not the beginning of /administrator."""
    assert chosen([route(configured)], path) == (configured if matches else None)


@pytest.mark.rule("R238")
def test_exact_is_exact() -> None:
    routes = [route("/a", match="exact"), route("/b/", match="exact")]
    assert chosen(routes, "/a") == "/a"
    assert chosen(routes, "/b/") == "/b/"
    for path in ("/a/", "/a/b", "/A", "/b", "/b/c", "/"):
        assert chosen(routes, path) is None


@pytest.mark.rule("R239")
def test_regex_matches_the_whole_path() -> None:
    """No match at the beginning only, and none across a line end."""
    routes = [route("/files/[a-z]+", match="regex")]
    assert chosen(routes, "/files/abc") == "/files/[a-z]+"
    for path in ("/files/abc1", "/files/abc/", "/x/files/abc", "/files/abc\n", "/files/"):
        assert chosen(routes, path) is None


@pytest.mark.rule("R242")
def test_nothing_is_served_without_a_route() -> None:
    """Also with routes for other hosts and methods."""
    assert chosen([], "/") is None
    assert chosen([route("/", hosts=["other"]), route("/", methods=["POST"])], "/") is None


@pytest.mark.rule("R244")
def test_more_specific_route_wins_whatever_the_order() -> None:
    """Exact, prefix, regex; longer path; with hosts; with methods."""
    routes = [
        route("/.*", match="regex"),
        route("/orders/[^/]*/lines", match="regex"),
        route("/"),
        route("/orders"),
        route("/orders", methods=["GET"]),
        route("/orders", hosts=["h"]),
        route("/orders", hosts=["h"], methods=["GET"]),
        route("/orders/open"),
        route("/orders", match="exact"),
    ]
    for ordered in (routes, routes[::-1]):
        table = RouteTable(ordered)

        def settings(path: str, host: str = "h", method: str = "GET", table: RouteTable = table) -> CoreRoute:
            found = table.match(host, method, path)
            assert found is not None
            return found.settings

        assert settings("/orders") == routes[8]
        assert settings("/orders/open/1") == routes[7]
        assert settings("/orders/1") == routes[6]
        assert settings("/orders/1", method="PUT") == routes[5]
        assert settings("/orders/1", host="i") == routes[4]
        assert settings("/orders/1", host="i", method="PUT") == routes[3]
        assert settings("/ordersX") == routes[2]
        assert settings("/orders/1/lines") == routes[6]
    longer_first = [route("/.*", match="regex"), route("/orders/.*", match="regex")]
    assert chosen(longer_first, "/orders/1") == "/orders/.*"
    assert chosen(longer_first, "/x") == "/.*"


@pytest.mark.rule("R244")
def test_order_holds_between_prefixes_that_differ_in_a_slash_and_between_patterns() -> None:
    """The slash makes a prefix longer; patterns of one length follow hosts, methods, and their order."""
    for routes in ([route("/a"), route("/a/")], [route("/a/"), route("/a")]):
        assert chosen(routes, "/a/b") == "/a/"
        assert chosen(routes, "/a/") == "/a/"
        assert chosen(routes, "/a") == "/a"
    patterns = [route("/[ab]", match="regex"), route("/[bc]", match="regex")]
    assert chosen(patterns, "/b") == "/[ab]"
    assert chosen([*patterns, route("/[bd]", match="regex", methods=["GET"])], "/b") == "/[bd]"
    hosted = [route("/[bd]", match="regex", methods=["GET"]), route("/[be]", match="regex", hosts=["h"])]
    assert chosen([*patterns, *hosted], "/b") == "/[be]"
    assert chosen([*patterns, *hosted], "/b", host="i") == "/[bd]"
    assert chosen([*patterns, *hosted], "/b", host="i", method="PUT") == "/[ab]"


@pytest.mark.rule("R244")
def test_more_specific_path_that_does_not_fit_is_passed_over() -> None:
    """Hosts and methods decide whether a route fits; then the next one is tried."""
    routes = [
        route("/a/b", match="exact", methods=["POST"]),
        route("/a/b", hosts=["other"]),
        route("/a/", methods=["GET"]),
        route("/a", methods=["PUT"]),
        route("/.*", match="regex", methods=["DELETE"]),
    ]
    assert chosen(routes, "/a/b", method="POST") == "/a/b"
    assert chosen(routes, "/a/b", host="other") == "/a/b#2"
    assert chosen(routes, "/a/b", method="GET") == "/a/"
    assert chosen(routes, "/a/b", method="PUT") == "/a"
    assert chosen(routes, "/a/b", method="DELETE") == "/.*"
    assert chosen(routes, "/a/b", method="HEAD") is None


@pytest.mark.rule("R226")
def test_methods_are_compared_as_they_are() -> None:
    """Case-sensitive, and GET does not stand for HEAD."""
    routes = [route("/", methods=["GET"])]
    assert chosen(routes, "/") == "/"
    for method in ("get", "HEAD", "OPTIONS", "GETX", ""):
        assert chosen(routes, "/", method=method) is None


@pytest.mark.rule("R243")
def test_host_of_a_route_is_canonical() -> None:
    routes = [route("/", hosts=["API.Example.", "[2001:DB8:0::1]"])]
    assert chosen(routes, "/", host="api.example") == "/"
    assert chosen(routes, "/", host="[2001:db8::1]") == "/"
    assert chosen(routes, "/", host="example") is None
    assert chosen(routes, "/", host="") is None


def test_names_are_the_paths_made_unique() -> None:
    """Labels of metrics and logs: stable, one for each route."""
    table = RouteTable([route("/a"), route("/a", methods=["GET"]), route("/a#2", match="exact"), route("/b")])
    assert [found.name for found in table.routes] == ["/a", "/a#2", "/a#2#2", "/b"]


@pytest.mark.rule("R244")
def test_what_cannot_be_compiled_is_refused_at_start() -> None:
    """Never at the first request."""
    with pytest.raises(ValueError, match="begins with '/'"):
        RouteTable([route("orders")])
    with pytest.raises(ValueError, match="not a host"):
        RouteTable([route("/").model_copy(update={"hosts": ["a b"]})])


@pytest.mark.rule("R242")
def test_long_path_never_reaches_a_pattern() -> None:
    """A pattern's time is bounded by the path's length; a path that is too long has no route."""
    routes = [route("/(.*)", match="regex")]
    assert chosen(routes, "/" + "a" * (MAX_REGEX_PATH - 1)) == "/(.*)"
    assert chosen(routes, "/" + "a" * MAX_REGEX_PATH) is None
    assert chosen([*routes, route("/")], "/" + "a" * MAX_REGEX_PATH) == "/"


def seconds(table: RouteTable, path: str, host: str = "h") -> float:
    """The quickest of several runs, so that a busy machine does not count."""
    best = float("inf")
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(200):
            table.match(host, "GET", path)
        best = min(best, time.perf_counter() - began)
    return best


@pytest.mark.rule("R414")
def test_the_methods_of_a_path_are_those_with_which_some_route_serves_it() -> None:
    """For ``Allow``: the usual ones and those that the configuration names, by host and path."""
    table = RouteTable(
        [
            route("/orders", methods=["GET", "OPTIONS"]),
            route("/orders", methods=["PURGE"], hosts=["a.test"]),
            route("/any"),
        ]
    )
    assert table.methods("h", "/orders/7") == ["GET", "OPTIONS"]
    assert table.methods("a.test", "/orders") == ["GET", "OPTIONS", "PURGE"]
    assert table.methods("h", "/any") == ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PURGE", "PUT"]
    assert table.methods("h", "/none") == []


@pytest.mark.rule("R242")
def test_thousand_routes_cost_what_ten_do() -> None:
    """The cost is the path's, by path and by host."""
    few = RouteTable([route(f"/service{number}/items") for number in range(10)])
    many = RouteTable([route(f"/service{number}/items") for number in range(1000)])
    assert seconds(many, "/service7/items/1/2") < 5 * seconds(few, "/service7/items/1/2")
    assert seconds(many, "/no/such/thing/here") < 5 * seconds(few, "/no/such/thing/here")
    few = RouteTable([route("/", hosts=[f"h{number}"]) for number in range(10)])
    many = RouteTable([route("/", hosts=[f"h{number}"]) for number in range(1000)])
    assert seconds(many, "/a", "h9") < 5 * seconds(few, "/a", "h9")


@pytest.mark.rule("R242")
def test_many_segments_cost_little() -> None:
    """Only borders up to the longest configured prefix are looked at."""
    table = RouteTable([route("/a/b/c/d"), route("/")])
    deep, shallow = "/a" * 30_000, "/a" * 4
    found = table.match("h", "GET", deep)
    assert found is not None
    assert found.name == "/"
    assert seconds(table, deep) < 200 * seconds(table, shallow)  # 7,500 times the segments


@pytest.mark.parametrize(
    ("options", "target", "sent"),
    [
        ({"path": "/orders"}, b"/orders/1", b"/orders/1"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders/1", b"/1"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders/1/", b"/1/"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders", b"/"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders/", b"/"),
        ({"path": "/orders/", "strip_prefix": True}, b"/orders/1", b"/1"),
        ({"path": "/", "strip_prefix": True}, b"/orders/1", b"/orders/1"),
        ({"path": "/a/b", "strip_prefix": True}, b"/a/b/c/d", b"/c/d"),
        ({"path": "/orders", "strip_prefix": True}, b"/%6Frders/%31", b"/%31"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders;v=1/2;w", b"/2;w"),
        ({"path": "/orders", "strip_prefix": True}, b"/orders/%2Fevil.test", b"/%2Fevil.test"),
        ({"path": "/orders", "match": "exact", "strip_prefix": True}, b"/orders", b"/"),
        ({"path": "/o[a-z]+", "match": "regex", "strip_prefix": True}, b"/orders", b"/orders"),
    ],
)
@pytest.mark.rule("R228", "R234")
def test_prefix_is_stripped_on_raw_bytes(options: dict[str, Any], target: bytes, sent: bytes) -> None:
    """What is left is what the client sent, and never begins with two slashes."""
    parsed = parse_target("GET", target)
    found = RouteTable([route(**options)]).match("", "GET", parsed.match_path)
    assert found is not None
    assert upstream_path(found, parsed) == sent


@pytest.mark.rule("R092")
def test_claim_values_are_compiled_apart_by_type() -> None:
    """True, 1 and "1" are three values."""
    table = RouteTable([route("/", claims={"a": [True, 1, 2.5, "1"], "b": "x"})])
    one, two = table.routes[0].claim_rules
    assert one == ClaimRule("a", frozenset({"1"}), frozenset({1, 2.5}), frozenset({True}))
    assert two == ClaimRule("b", frozenset({"x"}), frozenset(), frozenset())


# --- against the contract's sentence, read literally ---

_paths = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda names: "/" + "/".join(names))
_routes = st.lists(
    st.builds(
        route,
        _paths | _paths.map(lambda path: path.rstrip("/") + "/"),
        match=st.sampled_from(["exact", "prefix"]),
        hosts=st.lists(st.sampled_from(["h", "i"]), max_size=2, unique=True),
        methods=st.lists(st.sampled_from(["GET", "PUT"]), max_size=2, unique=True),
    ),
    max_size=8,
)


def fits(settings: Route, host: str, method: str, path: str) -> bool:
    if settings.hosts and host not in settings.hosts:
        return False
    if settings.methods and method not in settings.methods:
        return False
    if settings.match == "exact":
        return path == settings.path
    return path == settings.path or path.startswith(settings.path.removesuffix("/") + "/")


@given(_routes, st.sampled_from(["h", "i", ""]), st.sampled_from(["GET", "PUT"]), _paths, st.booleans())
@pytest.mark.rule("R239", "R244")
def test_table_agrees_with_a_search_through_all_routes(
    routes: list[Route], host: str, method: str, path: str, slash: bool
) -> None:
    """Sort everything that fits by the contract's order and take the first."""
    path = path.rstrip("/") + "/" if slash else path
    fitting = [settings for settings in routes if fits(settings, host, method, path)]
    fitting.sort(key=lambda s: (s.match != "exact", -len(s.path), not s.hosts, not s.methods))
    found = RouteTable(routes).match(host, method, path)
    assert (found.settings if found else None) == (fitting[0] if fitting else None)
