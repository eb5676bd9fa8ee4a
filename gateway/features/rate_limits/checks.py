"""Checks about rate limits that need several options.

What a fault is, is ``checks.py``'s matter; so is which options are sound
enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.features.api_keys.checks import takes_keys
from gateway.features.rate_limits.options import ADDRESS, API_KEY, Limits, RateLimit
from gateway.settings.faults import KeyPath
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import Route

#: The fastest rate that can be told apart: a microsecond between two requests.
MOST_PER_SECOND = 1_000_000


def rate_limit_problems(settings: Settings, sound: Callable[..., bool]) -> Iterator[tuple[KeyPath, str]]:
    """Return what is wrong with the limits of all routes, each with the place of its option."""
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        if sound((*place, "rate_limit")):
            known = sound((*place, "auth"), (*place, "credentials"))
            for number, limit in enumerate(route.rate_limit):
                for name, text in _problems(route, number, limit, known=known):
                    yield (*place, "rate_limit", number, name), text
    if any(route.rate_limit for route in settings.routes) or not sound(("limits",)):
        return
    default = Limits.model_fields["max_callers"].default
    if settings.limits.max_callers != default and all(
        sound(("routes", index, "rate_limit")) for index in range(len(settings.routes))
    ):
        yield ("limits", "max_callers"), "has no effect: no route has a `rate_limit`"


def _problems(route: Route, number: int, limit: RateLimit, *, known: bool) -> Iterator[tuple[str, str]]:
    if limit.requests > limit.seconds * MOST_PER_SECOND:
        yield "requests", "is more than a million a second, which cannot be counted"
    same = [earlier.by == limit.by and earlier.seconds == limit.seconds for earlier in route.rate_limit[:number]]
    if True in same:
        yield "by", f"repeats rate_limit[{same.index(True)}], which counts by the same and for the same time"
    if not known or limit.by == ADDRESS:
        return
    if route.auth == "public":
        yield "by", 'can never apply: with auth = "public" nobody is known; count by "address"'
    elif limit.by == API_KEY and not takes_keys(route):
        yield "by", 'can never apply without "api_key" in `credentials`'
