"""Checks about sender-constrained and single-use tokens that need several options, or a file that one names.

What a fault and what a warning is, is ``checks.py``'s and ``warnings.py``'s
matter; so is which options are sound enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.features.api_keys.checks import Sound, takes_keys, takes_tokens
from gateway.settings.faults import KeyPath
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import Route
from gateway.settings.values import fold_header_name

#: Least bytes of a secret for nonces, and most that are read of its file.
MIN_SECRET, MAX_SECRET = 32, 4096

# What is looked at of a route, if all of it is sound.
_ROUTE_OPTIONS = ("auth", "credentials", "single_use", "single_use_failure", "sender_constrained")


def read_secret(path: str) -> bytes:
    """Return the secret in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too short or too long to be one.
    """
    with Path(path).open("rb") as file:
        secret = file.read(MAX_SECRET + 1)
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise ValueError(f"needs {MIN_SECRET} to {MAX_SECRET} bytes")
    return secret


def find_sender_faults(settings: Settings, sound: Sound) -> Iterator[tuple[KeyPath, str]]:
    """Return what is wrong, each with the place of its option."""
    yield from _server(settings, sound)
    yield from _nonces(settings, sound)
    for index, route in enumerate(settings.routes):
        place = ("routes", index)
        if sound(*((*place, name) for name in _ROUTE_OPTIONS)):
            yield from (((*place, name), text) for name, text in _route(route, settings, sound))


def _server(settings: Settings, sound: Sound) -> Iterator[tuple[KeyPath, str]]:
    server = settings.server
    optional = server.tls_client_auth != "required"
    if optional and not server.tls_client_ca and sound(("server", "tls_client_auth"), ("server", "tls_client_ca")):
        yield ("server", "tls_client_auth"), "has no effect without `tls_client_ca`"
    name = server.client_certificate_header
    if not name or not sound(("server", "client_certificate_header"), ("server", "trusted_proxies")):
        return
    if not server.trusted_proxies:
        yield ("server", "client_certificate_header"), "has no effect without `trusted_proxies`: nobody is believed"
    taken = [*settings.identity, *(route.api_key_header for route in settings.routes if takes_keys(route))]
    if sound(("identity",), ("routes",)) and fold_header_name(name) in map(fold_header_name, taken):
        yield ("server", "client_certificate_header"), "is an identity header or the field of API keys"


def _nonces(settings: Settings, sound: Sound) -> Iterator[tuple[KeyPath, str]]:
    dpop = settings.dpop
    if not dpop.nonce_secret_file or not sound(("dpop", "nonce_secret_file"), ("dpop", "nonce_seconds")):
        return
    if not dpop.nonce_seconds:
        yield ("dpop", "nonce_secret_file"), "has no effect without `nonce_seconds`"
        return
    try:
        read_secret(dpop.nonce_secret_file)
    except OSError as error:
        yield ("dpop", "nonce_secret_file"), f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        yield ("dpop", "nonce_secret_file"), str(error)


def _route(route: Route, settings: Settings, sound: Sound) -> Iterator[tuple[str, str]]:
    if route.auth == "public":
        if route.single_use:
            yield "single_use", 'can never apply: with auth = "public" tokens are not looked at'
        if route.sender_constrained != "optional":
            yield "sender_constrained", 'can never apply: with auth = "public" tokens are not looked at'
        return
    if route.sender_constrained != "optional" and not takes_tokens(route):
        yield "sender_constrained", "has no effect: `credentials` has no kind of token"
    if not route.single_use:
        if route.single_use_failure != "closed":
            yield "single_use_failure", "has no effect without `single_use`"
        return
    if takes_keys(route):
        yield "single_use", 'excludes "api_key" in `credentials`: a key has no `jti`, and is for many requests'
    if route.auth != "required":
        yield "single_use", 'has a meaning with auth = "required" only: others need no token'
    if settings.server.workers != 1 and not settings.redis.url and sound(("server", "workers"), ("redis", "url")):
        yield "single_use", "needs `redis.url` with several workers: each would let a token pass once"


def sender_warnings(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Return the doubtful options of a valid configuration, each with a sentence."""
    bound = [route for route in settings.routes if takes_tokens(route)]
    asked = any(route.sender_constrained in ("required", "dpop") for route in bound)
    if asked and settings.server.workers != 1 and not settings.redis.url:
        yield ("server", "workers"), "without `redis.url` a DPoP proof can be used once with each worker"
    for index, route in enumerate(settings.routes):
        if not takes_tokens(route):
            continue
        if route.cors_headers and "dpop" not in route.cors_headers and route.sender_constrained in ("required", "dpop"):
            yield ("routes", index, "cors_headers"), "without `dpop` pages cannot send a proof"
        if route.sender_constrained == "mtls" and not (
            settings.server.tls_client_ca or settings.server.client_certificate_header
        ):
            yield (
                ("routes", index, "sender_constrained"),
                "no token can pass: neither `server.tls_client_ca` nor `server.client_certificate_header` is set",
            )
