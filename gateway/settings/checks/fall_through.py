"""Requests that a stricter route leaves to a weaker one.

Compares routes by what they demand. A route that is for some methods or hosts
says nothing about the others: they reach the next route that fits, which may
let every request pass (CWE-284, CWE-650). And a route that strips its prefix
may lead to paths of a service that another route protects. The danger of this
file is noise: a configuration whose routes are meant must not be warned about,
or warnings are no longer read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gateway.settings.checks.slow_patterns import sample, slow_problem
from gateway.settings.faults import KeyPath
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import FeatureRules, Settings, Weakness
from gateway.settings.tables.routes import RouteSettings
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.settings.values import url_key

_AUTH = {"public": 0, "optional": 1, "required": 2}
_CHANGING = ("POST", "PUT", "PATCH", "DELETE")
_METHODS = ("GET", "HEAD", *_CHANGING, "OPTIONS")

#: Stand for every method and host that the configuration does not name.
_OTHER_METHOD, _OTHER_HOST = "another", "another"

#: Ends of paths below a prefix, among them some that patterns often look for.
_BELOW = ("/-", "/1", "/a/b", "")


#: Servers, and the path at each below which everything is.
_Bases = frozenset[tuple[tuple[object, ...], str]]


class _Pass(NamedTuple):
    """Requests that a route leaves to another one.

    Attributes:
        to: the index of the other route.
        weakness: what it does not demand.
        values: the methods or hosts of the requests.
    """

    to: int
    weakness: str
    values: frozenset[str]


def fall_through_warnings(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Return the routes past which a weaker one is reached, each with who passes and what to write instead."""
    table = RouteOrder(settings.routes, settings.features)
    services = {upstream.name: _service(upstream) for upstream in settings.upstreams}
    bases = {upstream.name: _bases(upstream) for upstream in settings.upstreams}
    near = _near(settings.routes, bases)
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        if route.methods and (found := _by_method(table, index, services)):
            yield (*place, "methods"), _method_sentence(route, settings.routes[found.to], found)
        if route.hosts and (found := _by_host(table, index, services)):
            yield (*place, "hosts"), _host_sentence(route, settings.routes[found.to], found)
        if route.match == "exact" and (found := _with_slash(table, index, services)):
            yield (
                (*place, "match"),
                f"with a final slash the path reaches the same service by routes[{found.to}], which {found.weakness},"
                ' and many services make no difference between the two; write match = "prefix"',
            )
        if other := _same_service(table, index, near.get(index, ()), bases):
            yield (*place, "upstream"), other


def weakness(route: RouteSettings, other: RouteSettings, features: Sequence[FeatureRules]) -> Weakness | None:
    """Return what another route does not demand, and this one does; None when it demands as much."""
    if text := _weakness_of_core(route, other):
        return Weakness(text, lets_in=True)
    # What guards ask last comes first: it says most of a request.
    for feature in reversed(features):
        with Hook(feature.name, "weakness"):
            if found := feature.weakness(route, other):
                return found
    return None


def _weakness_of_core(route: RouteSettings, other: RouteSettings) -> str:
    if other.observe and not route.observe and route.auth != "public":
        return "lets every request pass (observe = true)"
    if _AUTH[other.auth] < _AUTH[route.auth] and not route.observe:
        return "is public" if other.auth == "public" else "lets requests without a credential pass"
    if route.auth == "public" or route.observe:
        return ""
    if not _scopes_hold(route, other):
        return "does not ask for the same scopes"
    if not all(
        _values(other.claims.get(name, ())) <= _values(value) and name in other.claims
        for name, value in route.claims.items()
    ):
        return "does not ask for the same claims"
    if route.issuers and not (other.issuers and set(other.issuers) <= set(route.issuers)):
        return "accepts tokens of more issuers"
    if not set(other.credentials) <= set(route.credentials):
        return "accepts other kinds of credentials"
    if route.sender_constrained not in ("optional", other.sender_constrained) and (
        route.sender_constrained != "required" or other.sender_constrained == "optional"
    ):
        return "accepts tokens that are not bound in the same way"
    return ""


def _scopes_hold(route: RouteSettings, other: RouteSettings) -> bool:
    if not set(route.scopes) <= set(other.scopes):
        return False
    wanted = set(route.any_scopes)
    any_of = set(other.any_scopes)
    return not wanted or bool(wanted & set(other.scopes)) or (bool(any_of) and any_of <= wanted)


def _values(value: object) -> set[str]:
    """Return accepted values, apart by type as they are compared."""
    return {repr(one) for one in (value if isinstance(value, list | tuple) else [value])}


class RouteOrder:
    """The routes in the order in which they are tried, found by path (``policy/routes.py``)."""

    def __init__(self, routes: Sequence[RouteSettings], features: Sequence[FeatureRules]) -> None:
        self.routes = routes
        self.features = features
        self._exact: dict[str, list[int]] = {}
        self._prefixes: dict[str, list[int]] = {}
        self._patterns: list[tuple[re.Pattern[str], int]] = []
        for index in sorted(range(len(routes)), key=lambda one: (not routes[one].hosts, not routes[one].methods)):
            route = routes[index]
            if route.match == "exact":
                self._exact.setdefault(route.path, []).append(index)
            elif route.match == "prefix":
                self._prefixes.setdefault(route.path, []).append(index)
            elif not slow_problem(route.path):
                self._patterns.append((re.compile(route.path), index))
        self._patterns.sort(key=lambda one: -len(routes[one[1]].path))

    def covering(self, path: str) -> list[int]:
        """Return the routes whose path fits, the most specific one first."""
        found = [*self._exact.get(path, ()), *self._prefixes.get(path, ())]
        border = path.rfind("/")
        while border >= 0:
            found += [*self._prefixes.get(path[: border + 1], ())] if path[: border + 1] != path else []
            found += [*self._prefixes.get(path[:border], ())] if border else []
            border = path.rfind("/", 0, border)
        return found + [index for pattern, index in self._patterns if pattern.fullmatch(path)]

    def paths_of(self, index: int) -> list[str]:
        """Return some paths that a route is for; none for a pattern of which none is found."""
        route = self.routes[index]
        if route.match == "prefix":
            return [path for end in _BELOW if (path := route.path.rstrip("/") + end)]
        found = route.path if route.match == "exact" else sample(route.path)
        return [] if found is None else [found]

    def chosen(self, covering: Sequence[int], method: str, host: str) -> int | None:
        """Return the route that serves a request, of those whose path fits."""
        for index in covering:
            route = self.routes[index]
            if (not route.hosts or host in route.hosts) and (not route.methods or method in route.methods):
                return index
        return None


def _by_method(table: RouteOrder, index: int, services: dict[str, frozenset[object]]) -> _Pass | None:
    """Find the weaker route that requests with other methods reach."""
    route = table.routes[index]
    passing: dict[int, set[str]] = {}
    for path in table.paths_of(index):
        covering = table.covering(path)
        if index not in covering:
            continue
        behind = covering[covering.index(index) + 1 :]
        named = {host for one in behind for host in table.routes[one].hosts}
        methods = {*_METHODS, _OTHER_METHOD, *(method for one in covering for method in table.routes[one].methods)}
        for host in route.hosts or [*sorted(named), _OTHER_HOST]:
            for method in methods - set(route.methods):
                to = table.chosen(covering, method, host)
                if to is not None and to in behind:
                    passing.setdefault(to, set()).add(method)
    for to, methods in sorted(passing.items()):
        other = table.routes[to]
        weak = weakness(route, other, table.features)
        if weak and _is_unmeant(route, other, methods, weak, same=_meet(route, other, services)):
            return _Pass(to, weak.text, frozenset(methods))
    return None


def _is_unmeant(route: RouteSettings, other: RouteSettings, methods: set[str], weak: Weakness, *, same: bool) -> bool:
    """Tell whether it is probable that the other route was not written for these methods.

    Args:
        same: both lead to one service, so that there a method may do what another one does.
    """
    if same and "HEAD" in methods and "GET" in route.methods:
        return True  # HEAD is GET without the content
    if not weak.lets_in:
        return False
    if other.methods:
        return bool(set(route.methods) & set(other.methods)) and bool(methods & {*_CHANGING, "GET"})
    # Methods that a service does not know are often served as GET.
    return bool(methods.intersection(_CHANGING)) or (same and "GET" in route.methods)


def _by_host(table: RouteOrder, index: int, services: dict[str, frozenset[object]]) -> _Pass | None:
    """Find the weaker route to the same service that requests with another Host reach."""
    route = table.routes[index]
    for path in table.paths_of(index):
        covering = table.covering(path)
        if index not in covering:
            continue
        behind = covering[covering.index(index) + 1 :]
        passing: dict[int, set[str]] = {}
        for method in route.methods or [*_METHODS, _OTHER_METHOD]:
            for host in {_OTHER_HOST, *(host for one in behind for host in table.routes[one].hosts)} - set(route.hosts):
                to = table.chosen(covering, method, host)
                if to is not None and to in behind:
                    passing.setdefault(to, set()).add(host)
        for to, hosts in sorted(passing.items()):
            other = table.routes[to]
            meant = bool(other.hosts) and not set(route.hosts) & set(other.hosts)
            weak = None if meant or not _meet(route, other, services) else weakness(route, other, table.features)
            if weak:
                return _Pass(to, weak.text, frozenset(hosts))
    return None


def _with_slash(table: RouteOrder, index: int, services: dict[str, frozenset[object]]) -> _Pass | None:
    """Find the weaker route that the path of an exact route reaches with a final slash."""
    route = table.routes[index]
    if route.path.endswith("/"):
        return None
    covering = table.covering(route.path + "/")
    for host in route.hosts or [_OTHER_HOST]:
        for method in route.methods or [*_METHODS, _OTHER_METHOD]:
            to = table.chosen(covering, method, host)
            if to is not None and _meet(route, table.routes[to], services):
                weak = weakness(route, table.routes[to], table.features)
                if weak and weak.lets_in:
                    return _Pass(to, weak.text, frozenset())
    return None


def _same_service(table: RouteOrder, index: int, near: Iterable[int], bases: dict[str, _Bases]) -> str:
    """Say which weaker route leads to the same paths of the same service, by another prefix or another base path.

    Args:
        near: the routes to the same service of which one of each two strips its prefix, or has another base path.
    """
    route = table.routes[index]
    for number in near:
        other = table.routes[number]
        under = _way_by(route, other, bases)
        if under is None or number not in table.covering(f"{under}/-")[:1]:
            continue
        weak = weakness(route, other, table.features)
        if weak and weak.lets_in:
            return (
                f"routes[{number}] leads to the same paths of this service, under {under or '/'}, and {weak.text}: what"
                " this route protects is reached there; give that route an upstream with a base path of its own in its"
                " URL, or the same rules"
            )
    return ""


def _way_by(route: RouteSettings, other: RouteSettings, bases: dict[str, _Bases]) -> str | None:
    """Return under which path the other route leads to where this one does; None when it does not."""
    reach, wider = _reach(route), _reach(other)
    if reach is None or wider is None or other.match != "prefix":
        return None
    for service, base in bases.get(route.upstream, ()):
        for same, other_base in bases.get(other.upstream, ()):
            if service != same or (base == other_base and _is_below(route, other)):
                continue
            place, border = base + reach, other_base + wider
            if not border or place == border or place.startswith(border + "/"):
                return other.path.rstrip("/") + place[len(border) :]
    return None


def _is_below(route: RouteSettings, other: RouteSettings) -> bool:
    """Tell whether a route is a part of what another one serves, or the same path."""
    path, border = route.path.rstrip("/"), other.path.rstrip("/")
    return path == border or (bool(border) and not _strips(route) and path.startswith(border + "/"))


def _near(routes: Sequence[RouteSettings], bases: dict[str, _Bases]) -> dict[int, list[int]]:
    """Return for each route the others to the same service of which one strips its prefix or has another base path."""
    by_service: dict[object, list[tuple[int, str]]] = {}
    for index, route in enumerate(routes):
        for service, base in bases.get(route.upstream, ()):
            by_service.setdefault(service, []).append((index, base))
    near: dict[int, set[int]] = {}
    for together in by_service.values():
        same_base = len({base for _, base in together}) == 1
        for index, base in together:
            if same_base and not _strips(routes[index]):
                continue
            for other, other_base in together:
                if _strips(routes[index]) or base != other_base:
                    near.setdefault(index, set()).add(other)
                    near.setdefault(other, set()).add(index)
    return {index: sorted(others - {index}) for index, others in near.items()}


def _strips(route: RouteSettings) -> bool:
    return route.strip_prefix and route.match == "prefix" and bool(route.path.strip("/"))


def _reach(route: RouteSettings) -> str | None:
    """Return the path of the service below which a route leads, without a final slash; None where it is unknown."""
    if route.match == "regex" or (route.strip_prefix and route.match == "exact"):
        return None
    return "" if _strips(route) else route.path.rstrip("/")


def _meet(route: RouteSettings, other: RouteSettings, services: dict[str, frozenset[object]]) -> bool:
    """Tell whether two routes lead to the same service, whatever its upstreams are called."""
    return not services.get(route.upstream, frozenset()).isdisjoint(services.get(other.upstream, frozenset()))


def _service(upstream: UpstreamSettings) -> frozenset[object]:
    return frozenset(map(url_key, upstream.urls))


def _bases(upstream: UpstreamSettings) -> _Bases:
    """Return server and base path of each URL."""
    return frozenset((key[:-1], str(key[-1])) for key in map(url_key, upstream.urls))


def _method_sentence(route: RouteSettings, other: RouteSettings, found: _Pass) -> str:
    known = [method for method in _METHODS if method in found.values]
    known += sorted(found.values - {*_METHODS, _OTHER_METHOD})
    if _OTHER_METHOD in found.values:
        known.append("one that no route names")
    who = _listed(known, "or")
    if not other.methods and found.values | set(route.methods) >= set(_METHODS):
        who = "any other method"
    return (
        f"only {_listed(route.methods, 'and')} must follow this route's rules: a request with {who} reaches"
        f" routes[{found.to}], which {found.weakness}; leave `methods` out, or list in routes[{found.to}].methods"
        " what it is for"
    )


def _host_sentence(route: RouteSettings, other: RouteSettings, found: _Pass) -> str:
    who = "any other Host" if not other.hosts else f"Host {_listed(sorted(found.values - {_OTHER_HOST}), 'or')}"
    return (
        f"only requests for {_listed(route.hosts, 'and')} must follow this route's rules: one with {who} reaches the"
        f" same service by routes[{found.to}], which {found.weakness}; leave `hosts` out, or list in"
        f" routes[{found.to}].hosts what it is for"
    )


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
