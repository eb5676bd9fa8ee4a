"""Route paths that could never match, and routes between which nothing decides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.routes import RouteTable
from gateway.settings.checks.routes import path_problems, ties
from tests.settings.configs import changed, faults_of
from tests.support.composed import Route


def _route(path: str, match: str = "prefix", **options: Any) -> Route:
    return Route.model_validate({"path": path, "match": match, "upstream": "u", **options})


# fmt: off
@pytest.mark.parametrize(
    ("path", "problem"),
    [("orders", 'begin with "/"'), ("/a?b", "without a query"), ("/a#b", "without a fragment"), ("/%61", "decoded"),
     ("/a\\b", "backslash"), ("/a;v=1", "path parameters"), ("/a/../b", "dot segments"), ("/a/.", "dot segments"),
     ("/..", "dot segments"), ("//a", "empty segment"), ("/a//b", "empty segment"), ("/a\nb", "control character"),
     ("/a\x7f", "control character"), ("/a\x85", "control character")],
)
@pytest.mark.parametrize("match", ["prefix", "exact"])
@pytest.mark.rule("R229", "R233", "R235", "R236", "R381")
def test_a_path_that_no_request_can_have_is_a_fault(path: str, match: str, problem: str) -> None:
    assert problem in " / ".join(path_problems(_route(path, match)))
# fmt: on


@pytest.mark.parametrize("path", ["/", "/orders", "/orders/", "/größe", "/a b", "/...", "/.well-known", "/a:b@c,d=e"])
@pytest.mark.parametrize("match", ["prefix", "exact"])
def test_other_paths_are_taken(path: str, match: str) -> None:
    assert list(path_problems(_route(path, match))) == []


@pytest.mark.parametrize("pattern", ["([", "/a**", "/(?P<n>a)(?P<n>b)", "/[[a]", "/a{1,99999999999}", "orders/.*"])
def test_a_pattern_that_cannot_mean_one_thing_is_a_fault(pattern: str) -> None:
    assert len(list(path_problems(_route(pattern, "regex")))) == 1


@pytest.mark.parametrize("pattern", ["/orders/[0-9]+", "(/a|/b)", ".*", r"\/a", "^/a$", "/a%20b"])
def test_other_patterns_are_taken(pattern: str) -> None:
    assert list(path_problems(_route(pattern, "regex"))) == []


# fmt: off
TIES = {
    "the same prefix": (_route("/a"), _route("/a")),
    "the same path exactly": (_route("/a", "exact"), _route("/a", "exact")),
    "the same pattern": (_route("/a.*", "regex"), _route("/a.*", "regex")),
    "a host in common": (_route("/a", hosts=["x.test", "y.test"]), _route("/a", hosts=["Y.test."])),
    "a method in common": (_route("/a", methods=["GET", "PUT"]), _route("/a", methods=["PUT", "DELETE"])),
    "both in common": (_route("/a", hosts=["x"], methods=["GET"]), _route("/a", hosts=["x"], methods=["GET"])),
    "patterns of one length that may overlap": (_route("/a/[^x]+", "regex"), _route("/a/[^y]+", "regex")),
    "an alternative": (_route("/a/b|/x/y", "regex"), _route("/a/c|/x/y", "regex")),
    "an optional letter": (_route("/ab?c", "regex"), _route("/a.?c", "regex")),
    "classes": (_route(r"/a\d", "regex"), _route(r"/a\w", "regex")),
    "letters in any case": (_route("(?i)/a.", "regex"), _route("/A[b]c?", "regex")),
}
NO_TIES = {
    "different prefixes": (_route("/a"), _route("/b")),
    "longer and shorter": (_route("/a"), _route("/a/b")),
    "with and without a last slash": (_route("/a"), _route("/a/")),
    "prefix and exact": (_route("/a"), _route("/a", "exact")),
    "exact and pattern": (_route("/a", "exact"), _route("/a", "regex")),
    "with and without hosts": (_route("/a", hosts=["x"]), _route("/a")),
    "with and without methods": (_route("/a", methods=["GET"]), _route("/a")),
    "hosts here, methods there": (_route("/a", hosts=["x"]), _route("/a", methods=["GET"])),
    "no host in common": (_route("/a", hosts=["x"]), _route("/a", hosts=["y"])),
    "no method in common": (_route("/a", methods=["GET"]), _route("/a", methods=["POST"])),
    "patterns of different length": (_route("/a.*", "regex"), _route("/a/.*", "regex")),
    "patterns that begin differently": (_route("/a/[0-9]+", "regex"), _route("/b/[0-9]+", "regex")),
    "patterns that end differently": (_route("/[0-9]+/a", "regex"), _route("/[0-9]+/b", "regex")),
}
# fmt: on


@pytest.mark.parametrize("case", TIES)
@pytest.mark.rule("R244")
def test_a_tie_is_found(case: str) -> None:
    """No order is ever guessed."""
    one, other = TIES[case]
    assert ties([one, other]) == [(1, 0)]
    assert ties([other, None, one]) == [(2, 0)]


@pytest.mark.parametrize("case", NO_TIES)
@pytest.mark.rule("R244")
def test_what_can_be_told_apart_is_no_tie(case: str) -> None:
    assert ties(list(NO_TIES[case])) == []


_PLAIN = st.builds(
    _route,
    st.sampled_from(["/", "/a", "/a/", "/a/b"]),
    st.sampled_from(["prefix", "exact"]),
    hosts=st.lists(st.sampled_from(["x", "y"]), unique=True, max_size=2),
    methods=st.lists(st.sampled_from(["GET", "PUT"]), unique=True, max_size=2),
)


@given(st.lists(_PLAIN, min_size=2, max_size=4), st.randoms())
@pytest.mark.rule("R244")
def test_without_ties_the_order_of_the_file_means_nothing(routes: list[Route], random: Any) -> None:
    """The check here and the choice of the data path follow one order."""
    if ties(routes):
        return
    shuffled = routes[:]
    random.shuffle(shuffled)
    one, other = RouteTable(routes), RouteTable(shuffled)
    for path in ("/", "/a", "/a/", "/a/b", "/a/b/c", "/x"):
        for host in ("x", "y", "z"):
            for method in ("GET", "PUT", "POST"):
                found, again = one.match(host, method, path), other.match(host, method, path)
                assert (found and found.settings) is (again and again.settings)


_PATTERN = st.lists(st.sampled_from(["/", "a", "b", "[ab]", "a?", "b*", "(a|b)", ".", r"\.", "(?:ab)?"]), max_size=4)


@given(_PATTERN, _PATTERN, st.text("/ab.", max_size=5))
@pytest.mark.rule("R244")
def test_patterns_that_both_match_a_path_are_not_told_apart_by_their_ends(
    one: list[str], other: list[str], text: str
) -> None:
    """The shortcut for patterns may find too many ties, never too few."""
    patterns, path = ["/" + "".join(one), "/" + "".join(other)], "/" + text
    try:
        both = all(re.fullmatch(pattern, path) for pattern in patterns)
    except re.error:
        return
    if both and len(patterns[0]) == len(patterns[1]):
        assert ties([_route(pattern, "regex") for pattern in patterns]) == [(1, 0)]


# fmt: off
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "scopes on a public route": (
        "routes", {"auth": "public", "scopes": ["a"]},
        'routes[0].scopes: can never apply: with auth = "public" tokens are not looked at'),
    "claims on a public route": (
        "routes", {"auth": "public", "claims": {"role": "admin"}},
        'routes[0].claims: can never apply: with auth = "public" tokens are not looked at'),
    "issuers on a public route": (
        "routes", {"auth": "public", "issuers": ["main"]},
        'routes[0].issuers: can never apply: with auth = "public" tokens are not looked at'),
    "observing a public route": (
        "routes", {"auth": "public", "observe": True},
        'routes[0].observe: only has an effect with auth = "required"'),
    "observing an optional token": (
        "routes", {"auth": "optional", "observe": True},
        'routes[0].observe: only has an effect with auth = "required"'),
    "a token among the subprotocols of a public route": (
        "routes", {"auth": "public", "websocket_protocol_token": True},
        'routes[0].websocket_protocol_token: can never apply: with auth = "public" tokens are not looked at'),
    "a token among the subprotocols of no WebSocket": (
        "routes", {"websocket": False, "websocket_protocol_token": True},
        "routes[0].websocket_protocol_token: has no effect with `websocket = false`"),
    "ending with a token that is not looked at": (
        "routes", {"auth": "public", "end_at_expiry": True},
        'routes[0].end_at_expiry: can never apply: with auth = "public" tokens are not looked at'),
    "CORS options without origins": (
        "routes", {"cors_credentials": True}, "routes[0].cors_credentials: has no effect without `cors_origins`"),
    "CORS for a method that the route does not serve": (
        "routes", {"methods": ["GET"], "cors_origins": ["https://app.test"], "cors_methods": ["GET", "PUT"]},
        "routes[0].cors_methods: has a method that is not one of this route's `methods`"),
    "every origin with credentials": (
        "routes", {"cors_origins": ["*"], "cors_credentials": True},
        'routes[0].cors_credentials: with "*" every page could act for its visitors: list the origins'),
    "every origin and another": (
        "routes", {"cors_origins": ["*", "https://app.test"]},
        'routes[0].cors_origins: "*" is every origin: it stands alone'),
    "stripping a pattern": (
        "routes", {"path": "/a.*", "match": "regex", "strip_prefix": True},
        'routes[0].strip_prefix: has no effect with match = "regex"'),
}
# fmt: on


@pytest.mark.parametrize("case", CONTRADICTIONS)
@pytest.mark.rule("R381", "R383")
def test_a_contradiction_is_a_fault_at_its_key(case: str, tmp_path: Path) -> None:
    """What can never apply or points nowhere stops the start."""
    table, options, fault = CONTRADICTIONS[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]
