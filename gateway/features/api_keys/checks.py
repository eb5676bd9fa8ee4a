"""Checks about API keys that need several options, or the file that one names.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.features.api_keys.key_file import KeyFileError, header_problem, read_keys, repeated
from gateway.features.api_keys.options import ApiKeyTables, TokensOptions
from gateway.identity import header_rules
from gateway.settings.faults import path_text
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings, takes_keys, takes_tokens
from gateway.settings.values import fold_header_name

_OF_TOKENS = ("issuers", "websocket_protocol_token")


def key_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the keys, and with what routes say about them."""
    yield from _keys(settings, sound)
    yield from _need_of_keys(settings, sound)
    for index, route in enumerate(settings.routes):
        place = ("routes", index)
        if sound.options(place, "auth", "credentials"):
            identity = settings.identity if sound(("identity",)) else {}
            yield from (((*place, name), text) for name, text in _route(route, identity) if sound((*place, name)))


def _keys(settings: Settings, sound: Sound) -> Iterator[Problem]:
    entries = [
        (index, key) for index, key in enumerate(ApiKeyTables.of(settings).api_keys) if sound(("api_keys", index))
    ]
    places = {path_text(("api_keys", index)): index for index, _ in entries}
    for place, option, text in repeated([(path_text(("api_keys", index)), key) for index, key in entries]):
        yield ("api_keys", places[place], option), text
    identity = settings.identity if sound(("identity",)) else {}
    for index, key in entries:
        if problem := header_problem(key, header_rules(identity)):
            yield ("api_keys", index, problem[0]), problem[1]
    file = TokensOptions.of(settings.tokens).api_keys_file
    if file and sound(("tokens", "api_keys_file")):
        try:
            read_keys(file, [key for _, key in entries], identity)
        except KeyFileError as error:
            yield from ((("tokens", "api_keys_file"), text) for text in error.faults)


def _need_of_keys(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return the fault of a configuration with a route that takes API keys and without any key."""
    given = ApiKeyTables.of(settings).api_keys or TokensOptions.of(settings.tokens).api_keys_file
    if given or not sound(("api_keys",), ("tokens", "api_keys_file")):
        return
    for index, route in enumerate(settings.routes):
        if sound(("routes", index, "credentials"), ("routes", index, "auth")) and takes_keys(route):
            yield (
                ("api_keys",),
                f"is empty, but routes[{index}] takes API keys; make one with `gateway apikey new`, or name a file in"
                " `tokens.api_keys_file`",
            )
            return


def _route(route: RouteSettings, identity: Mapping[str, str | list[str]]) -> Iterator[tuple[str, str]]:
    """Return the options of a route that have no effect, each with a sentence."""
    named = route.api_key_header != RouteSettings.model_fields["api_key_header"].default
    if route.auth == "public":
        if named:
            yield "api_key_header", 'can never apply: with auth = "public" credentials are not looked at'
        return
    if "api_key" not in route.credentials:
        if named:
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


def key_warnings(settings: Settings) -> Iterator[Problem]:
    """Return what a valid configuration says of keys that is seldom meant."""
    for index, route in enumerate(settings.routes):
        if takes_keys(route) and route.cors_headers and route.api_key_header not in route.cors_headers:
            text = f"without `{route.api_key_header}` pages cannot send an API key"
            yield ("routes", index, "cors_headers"), text
    if not any(map(takes_keys, settings.routes)):
        text = "no route takes API keys: none has them in its `credentials`"
        if ApiKeyTables.of(settings).api_keys:
            yield ("api_keys",), text
        if TokensOptions.of(settings.tokens).api_keys_file:
            yield ("tokens", "api_keys_file"), text
