"""Checks about sender-constrained tokens that need several options, or a file that one names.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.settings.checks.exposures import trusts_most
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings, takes_keys, takes_tokens
from gateway.settings.values import fold_header_name

#: The minimum and maximum size of a secret for nonces, in bytes.
MIN_NONCE_SECRET, MAX_NONCE_SECRET = 32, 4096


def read_nonce_secret(path: str) -> bytes:
    """Return the secret in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too short or too long to be one.
    """
    with Path(path).open("rb") as file:
        secret = file.read(MAX_NONCE_SECRET + 1)
    if not MIN_NONCE_SECRET <= len(secret) <= MAX_NONCE_SECRET:
        raise ValueError(f"needs {MIN_NONCE_SECRET} to {MAX_NONCE_SECRET} bytes")
    return secret


def sender_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong, each with the place of its option."""
    yield from _server(settings, sound)
    yield from _nonces(settings, sound)
    for index, route in enumerate(settings.routes):
        place = ("routes", index)
        if sound.options(place, "auth", "credentials", "sender_constrained") and (text := _route(route)):
            yield (*place, "sender_constrained"), text


def _server(settings: Settings, sound: Sound) -> Iterator[Problem]:
    server = settings.server
    name = server.client_certificate_header
    if name:
        effect = "with `client_certificate_header` also any certificate, without having its key"
        yield from trusts_most(settings, sound, ("server", "client_certificate_header"), effect)
    if not name or not sound(("server", "client_certificate_header"), ("server", "trusted_proxies")):
        return
    if not server.trusted_proxies:
        yield ("server", "client_certificate_header"), "has no effect without `trusted_proxies`: the header is ignored"
    taken = [*settings.identity, *(route.api_key_header for route in settings.routes if takes_keys(route))]
    if sound(("identity",), ("routes",)) and fold_header_name(name) in map(fold_header_name, taken):
        yield ("server", "client_certificate_header"), "is an identity header or the field of API keys"


def _nonces(settings: Settings, sound: Sound) -> Iterator[Problem]:
    dpop = settings.dpop
    if not dpop.nonce_secret_file or not sound(("dpop", "nonce_secret_file"), ("dpop", "nonce_seconds")):
        return
    if not dpop.nonce_seconds:
        yield ("dpop", "nonce_secret_file"), "has no effect without `nonce_seconds`"
        return
    try:
        read_nonce_secret(dpop.nonce_secret_file)
    except OSError as error:
        yield ("dpop", "nonce_secret_file"), f"cannot be read: {error.strerror or error}"
    except ValueError as error:
        yield ("dpop", "nonce_secret_file"), str(error)


def _route(route: RouteSettings) -> str:
    if route.sender_constrained == "optional":
        return ""
    if route.auth == "public":
        return 'can never apply: with auth = "public" tokens are not looked at'
    return "" if takes_tokens(route) else "has no effect: `credentials` has no kind of token"


def sender_warnings(settings: Settings) -> Iterator[Problem]:
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
    for index, route in enumerate(settings.routes):
        if route.auth == "optional" and route.sender_constrained != "optional":
            yield (
                ("routes", index, "sender_constrained"),
                'is not enforced with auth = "optional": a request without any token passes, so a stolen bound token is'
                ' simply left out; write auth = "required"',
            )
    yield from _unbound_proofs(settings)


def _unbound_proofs(settings: Settings) -> Iterator[Problem]:
    """Warn of proofs that are not bound to this server (RFC 9449 section 11.1)."""
    if settings.dpop.origins:
        return
    unbound = [index for index, route in enumerate(settings.routes) if takes_tokens(route) and not route.hosts]
    asked = [index for index in unbound if settings.routes[index].sender_constrained in ("required", "dpop")]
    used = settings.dpop != Dpop()
    if asked or (used and unbound):
        which = asked or unbound
        more = f" and {len(which) - 1} more" if len(which) > 1 else ""
        yield (
            ("dpop", "origins"),
            f"is empty, and routes[{which[0]}]{more} is for any Host: a proof that was made for another server is good"
            ' here, sent with the name of that server as Host; write what clients call, such as ["https://api.example.com"]',
        )
