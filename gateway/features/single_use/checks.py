"""Checks about single-use tokens that need several options.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.single_use.options import SingleUseRouteOptions
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings, takes_keys


def single_use_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong, each with the place of its option."""
    for index, route in enumerate(settings.routes):
        place = ("routes", index)
        if sound.options(place, "auth", "credentials", *SingleUseRouteOptions.model_fields):
            yield from (((*place, name), text) for name, text in _route(route, settings, sound))


def _route(route: RouteSettings, settings: Settings, sound: Sound) -> Iterator[tuple[str, str]]:
    options = SingleUseRouteOptions.of(route)
    if route.auth == "public":
        if options.single_use:
            yield "single_use", 'can never apply: with auth = "public" tokens are not looked at'
        return
    if not options.single_use:
        if options.single_use_failure != "closed":
            yield "single_use_failure", "has no effect without `single_use`"
        return
    if takes_keys(route):
        yield (
            "single_use",
            'cannot be combined with "api_key" in `credentials`: a key has no `jti`',
        )
    if route.auth != "required":
        yield "single_use", 'only has an effect with auth = "required": other routes need no token'
    if settings.server.workers != 1 and not settings.redis.url and sound(("server", "workers"), ("redis", "url")):
        yield "single_use", "needs `redis.url` with several workers: each would let a token pass once"
