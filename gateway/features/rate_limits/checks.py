"""Checks about rate limits that need several options.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.rate_limits.options import (
    ADDRESS,
    API_KEY,
    CLAIM,
    Limits,
    LimitTables,
    RateLimit,
    limits_of,
)
from gateway.settings.checks.exposures import claim_problem, trusts_most
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings, takes_keys

#: The fastest rate that can be measured: a microsecond between two requests.
MAX_PER_SECOND = 1_000_000


def rate_limit_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the limits of all routes, each with the place of its option."""
    for index, route in enumerate(settings.routes):
        place, limits = ("routes", index), limits_of(route)
        if sound((*place, "rate_limit")):
            known = sound((*place, "auth"), (*place, "credentials"))
            for number, limit in enumerate(limits):
                for name, text in _problems(route, number, limit, known=known):
                    yield (*place, "rate_limit", number, name), text
        by_address = next((number for number, limit in enumerate(limits) if limit.by == ADDRESS), None)
        if by_address is not None:
            effect = f"routes[{index}].rate_limit[{by_address}] counts by address and would limit no client"
            yield from trusts_most(settings, sound, (*place, "rate_limit"), effect)
    if any(map(limits_of, settings.routes)) or not sound(("limits",)):
        return
    default = Limits.model_fields["max_callers"].default
    if LimitTables.of(settings).limits.max_callers != default and all(
        sound(("routes", index, "rate_limit")) for index in range(len(settings.routes))
    ):
        yield ("limits", "max_callers"), "has no effect: no route has a `rate_limit`"


def rate_limit_warnings(settings: Settings) -> Iterator[Problem]:
    """Return limits that count by what is probably not a claim."""
    for index, route in enumerate(settings.routes):
        for number, limit in enumerate(limits_of(route)):
            if limit.by.startswith(CLAIM) and (text := claim_problem(limit.by.removeprefix(CLAIM))):
                yield ("routes", index, "rate_limit", number, "by"), text


def _problems(route: RouteSettings, number: int, limit: RateLimit, *, known: bool) -> Iterator[tuple[str, str]]:
    if limit.requests > limit.seconds * MAX_PER_SECOND:
        yield "requests", "is more than a million a second, which cannot be counted"
    same = [earlier.by == limit.by and earlier.seconds == limit.seconds for earlier in limits_of(route)[:number]]
    if True in same:
        yield "by", f"repeats rate_limit[{same.index(True)}], which counts by the same and for the same time"
    if not known or limit.by == ADDRESS:
        return
    if route.auth == "public":
        yield "by", 'can never apply: with auth = "public" every caller is anonymous; use by = "address"'
    elif limit.by == API_KEY and not takes_keys(route):
        yield "by", 'can never apply without "api_key" in `credentials`'
