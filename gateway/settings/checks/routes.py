"""Checks of ``[[routes]]``: of one route, and of routes against each other.

The most specific route wins: exact before prefix before regex, longer path
before shorter, with hosts before without, with methods before without. Two
routes tie when they are equal in all of these and one request could match both.
Whether two patterns can match one path is not always decidable; what cannot be
distinguished by its plain ends counts as a tie, so that no order is ever
guessed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

from gateway.settings.faults import KeyPath
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings

_META = frozenset(r"\.^$*+?{}[]|()")
_QUANTIFIERS = frozenset("*?{")
_NEVER_IN_PATHS = {
    "?": "is written without a query",
    "#": "is written without a fragment",
    "%": "is written decoded, without %",
    "\\": "has a backslash, and requests with one are refused",
    ";": "has a `;`, but path parameters are not looked at, so it can never match",
}


_CORS = ("cors_origins", "cors_methods", "cors_headers", "cors_max_age_seconds", "cors_credentials")
_OF_TOKENS = ("issuers", "scopes", "any_scopes", "claims", "websocket_protocol_token", "end_at_expiry")


def route_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with each route, and routes between which nothing decides."""
    for index, route in enumerate(settings.routes):
        yield from _route(route, ("routes", index), sound)
    yield from _ties(settings, sound)


def _route(route: RouteSettings, place: KeyPath, sound: Sound) -> Iterator[Problem]:
    if sound.options(place, "path", "match"):
        for text in path_problems(route):
            yield (*place, "path"), text
    if sound.options(place, "match", "strip_prefix") and route.strip_prefix and route.match == "regex":
        yield (*place, "strip_prefix"), 'has no effect with match = "regex"'
    if sound.options(place, *_CORS, "methods"):
        yield from (((*place, name), text) for name, text in cors_problems(route))
    websocket = sound.options(place, "websocket", "websocket_protocol_token")
    if websocket and route.websocket_protocol_token and not route.websocket:
        yield (*place, "websocket_protocol_token"), "has no effect with `websocket = false`"
    if not sound((*place, "auth")):
        return
    if route.auth == "public":
        for name in _OF_TOKENS:
            if sound((*place, name)) and getattr(route, name):
                yield (*place, name), 'can never apply: with auth = "public" tokens are not looked at'
        if sound((*place, "credentials")) and route.credentials != RouteSettings.model_fields["credentials"].default:
            yield (*place, "credentials"), 'can never apply: with auth = "public" credentials are not looked at'
    if sound((*place, "observe")) and route.observe and route.auth != "required":
        yield (*place, "observe"), 'only has an effect with auth = "required"'


def _ties(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for index, earlier in ties(
        [
            route if sound.options(("routes", index), "path", "match", "hosts", "methods") else None
            for index, route in enumerate(settings.routes)
        ]
    ):
        yield (
            ("routes", index, "path"),
            f"is as specific as routes[{earlier}]: nothing decides between them for a request that matches both",
        )


def path_problems(route: RouteSettings) -> Iterator[str]:
    """Say what keeps a route's path from ever matching, or from meaning one thing."""
    if route.match == "regex":
        yield from _pattern_problems(route.path)
        return
    if not route.path.startswith("/"):
        yield 'must begin with "/"'
    for character, text in _NEVER_IN_PATHS.items():
        if character in route.path:
            yield text
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in route.path):
        yield "has a control character, and requests with one are refused"
    segments = route.path.split("/")
    if "." in segments or ".." in segments:
        yield "has dot segments, and requests with them are refused"
    if "//" in route.path:
        yield "has an empty segment, and requests with one are refused"


def _pattern_problems(pattern: str) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except re.error as error:
        yield f"is not a valid regular expression: {error.msg}" + (
            "" if error.pos is None else f" at character {error.pos + 1}"
        )
    except (FutureWarning, DeprecationWarning, RecursionError, OverflowError):
        yield "is a regular expression that could be read in two ways, or that is too large"
    else:
        if pattern[0] != "/" and pattern[0] not in _META:
            yield 'matches the whole path, so it must begin with "/"'


def cors_problems(route: RouteSettings) -> Iterator[tuple[str, str]]:
    """Say which options for pages of other origins have no effect, or a dangerous one: option and sentence."""
    if not route.cors_origins:
        for name in ("cors_methods", "cors_headers", "cors_expose_headers", "cors_max_age_seconds", "cors_credentials"):
            if getattr(route, name) != RouteSettings.model_fields[name].default:
                yield name, "has no effect without `cors_origins`"
        return
    if "*" in route.cors_origins:
        if len(route.cors_origins) > 1:
            yield "cors_origins", '"*" is every origin: it stands alone'
        if route.cors_credentials:
            yield "cors_credentials", 'with "*" every page could act for its visitors: list the origins'
    if route.methods and not set(route.cors_methods) <= set(route.methods):
        yield "cors_methods", "has a method that is not one of this route's `methods`"


def ties(routes: Sequence[RouteSettings | None]) -> list[tuple[int, int]]:
    """Return the routes that tie with an earlier one, and that one.

    Args:
        routes: None for a route that cannot be compared.
    """
    found = []
    by_rank: dict[tuple[object, ...], list[int]] = {}
    for index, route in enumerate(routes):
        if route is None:
            continue
        same_rank = by_rank.setdefault(_rank(route), [])
        for earlier in same_rank:
            other = routes[earlier]
            if other is not None and _may_share_a_request(route, other):
                found.append((index, earlier))
                break
        same_rank.append(index)
    return found


def _rank(route: RouteSettings) -> tuple[object, ...]:
    """Return what makes a route specific; plain paths that differ never match the same request with one rank."""
    path = len(route.path) if route.match == "regex" else route.path
    return (route.match, path, bool(route.hosts), bool(route.methods))


def _may_share_a_request(one: RouteSettings, other: RouteSettings) -> bool:
    """Tell whether two routes of one rank could both match some request."""
    if one.hosts and not set(one.hosts) & set(other.hosts):
        return False
    if one.methods and not set(one.methods) & set(other.methods):
        return False
    if one.match != "regex" or one.path == other.path:
        return True
    head, tail = plain_ends(one.path)
    other_head, other_tail = plain_ends(other.path)
    heads_agree = head.startswith(other_head) or other_head.startswith(head)
    tails_agree = tail.endswith(other_tail) or other_tail.endswith(tail)
    return heads_agree and tails_agree


def plain_ends(pattern: str) -> tuple[str, str]:
    """Return text with which every path that the pattern matches begins, and ends."""
    compiled = re.compile(pattern)
    if "|" in pattern or "(?" in pattern or compiled.flags != re.UNICODE:
        return "", ""
    head = next((pattern[:end] for end, character in enumerate(pattern) if character in _META), pattern)
    if len(head) < len(pattern) and pattern[len(head)] in _QUANTIFIERS:
        head = head[:-1]
    start = next((i + 1 for i in range(len(pattern) - 1, -1, -1) if pattern[i] in _META), 0)
    tail = pattern[start:]
    if start and pattern[start - 1] == "\\":
        tail = tail[1:]
    return head, tail
