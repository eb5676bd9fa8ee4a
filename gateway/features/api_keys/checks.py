"""Checks about API keys that need several options, or the file that one names.

What a fault and what a warning is, is ``checks.py``'s matter; so is which
options are sound enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.features.api_keys.key_file import KeyFileError, header_problem, read_keys, repeated
from gateway.identity import header_rules
from gateway.settings.faults import KeyPath, path_text
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import BEARER, Route
from gateway.settings.values import fold_header_name

#: Tells whether options are free of faults of their own.
Sound = Callable[..., bool]

_OF_TOKENS = ("issuers", "websocket_protocol_token")


def find_key_faults(settings: Settings, sound: Sound) -> Iterator[tuple[KeyPath, str]]:
    """Return what is wrong with the keys, each with the place of its option."""
    entries = [(index, key) for index, key in enumerate(settings.api_keys) if sound(("api_keys", index))]
    places = {path_text(("api_keys", index)): index for index, _ in entries}
    for place, option, text in repeated([(path_text(("api_keys", index)), key) for index, key in entries]):
        yield ("api_keys", places[place], option), text
    identity = settings.identity if sound(("identity",)) else {}
    for index, key in entries:
        if problem := header_problem(key, header_rules(identity)):
            yield ("api_keys", index, problem[0]), problem[1]
    file = settings.tokens.api_keys_file
    if file and sound(("tokens", "api_keys_file")):
        try:
            read_keys(file, [key for _, key in entries], identity)
        except KeyFileError as error:
            yield from ((("tokens", "api_keys_file"), text) for text in error.faults)


def find_need_of_keys(settings: Settings, sound: Sound) -> Iterator[tuple[KeyPath, str]]:
    """Say that a route takes API keys and there are none."""
    if settings.api_keys or not sound(("api_keys",), ("tokens", "api_keys_file")) or settings.tokens.api_keys_file:
        return
    for index, route in enumerate(settings.routes):
        if sound(("routes", index, "credentials"), ("routes", index, "auth")) and takes_keys(route):
            yield (
                ("api_keys",),
                f"is empty, but routes[{index}] takes API keys; make one with `gateway apikey new`, or name a file in"
                " `tokens.api_keys_file`",
            )
            return


def route_problems(route: Route, identity: dict[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    """Say which options of a route that looks at credentials have no effect: option and sentence."""
    if "api_key" not in route.credentials:
        if route.api_key_header != Route.model_fields["api_key_header"].default:
            yield "api_key_header", 'has no effect without "api_key" in `credentials`'
        return
    folded = fold_header_name(route.api_key_header)
    if folded in map(fold_header_name, identity):
        yield "api_key_header", "is an identity header, which no client can send"
    if takes_tokens(route):
        return
    for name in _OF_TOKENS:
        if getattr(route, name):
            yield name, 'has no effect without "jwt" or "opaque" in `credentials`'
    if route.forward_authorization and route.auth == "required" and not route.observe:
        yield "forward_authorization", "has no effect: Authorization beside an API key is refused"


def takes_keys(route: Route) -> bool:
    """Tell whether callers of a route may show an API key."""
    return route.auth != "public" and "api_key" in route.credentials


def takes_tokens(route: Route) -> bool:
    """Tell whether callers of a route may show a bearer token."""
    return route.auth != "public" and not BEARER.isdisjoint(route.credentials)
