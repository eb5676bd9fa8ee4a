"""Checks of revocation that need several options, or a file that one names.

What a fault and what a warning is, is ``checks.py``'s matter; so is which
options are sound enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.settings.faults import KeyPath
from gateway.settings.readable import read_problem, read_regular, without_mark
from gateway.settings.tables.root import Settings

#: The shortest secret of the admin call, and the longest, in characters.
MIN_SECRET, MAX_SECRET = 16, 4096

_NOWHERE = "has no effect: neither `revocation.file` nor `redis.url` says what is revoked"


def from_redis(settings: Settings) -> bool:
    """Tell whether entries come from Redis."""
    return bool(settings.redis.url) and settings.revocation.redis


def revocable(settings: Settings) -> bool:
    """Tell whether anything can be revoked."""
    return bool(settings.revocation.file) or from_redis(settings)


def read_secret(file: str) -> bytes:
    """Return the secret of the admin call, without the space around it.

    Raises:
        ValueError: there is none, or it is too short.
    """
    secret = without_mark(read_regular(file, MAX_SECRET)).strip()
    if len(secret) < MIN_SECRET or not secret.isascii() or any(byte <= 0x20 or byte == 0x7F for byte in secret):
        raise ValueError(f"this file must hold a secret of at least {MIN_SECRET} printable characters without spaces")
    return secret


def revocation_problems(settings: Settings, sound: Callable[..., bool]) -> Iterator[tuple[KeyPath, str]]:
    """Return what is wrong with the table, and with what routes say about it."""
    if not sound(("revocation",), ("redis",)):
        return
    table, able = settings.revocation, revocable(settings)
    if not table.redis and not settings.redis.url:
        yield ("revocation", "redis"), "has no effect without `redis.url`"
    if table.admin_token_file:
        if not able:
            yield ("revocation", "admin_token_file"), _NOWHERE
        else:
            try:
                read_secret(table.admin_token_file)
            except ValueError as error:
                yield ("revocation", "admin_token_file"), str(error)
    for index, route in enumerate(settings.routes):
        place = ("routes", index, "revocation_failure")
        if route.revocation_failure == "closed" or not sound(place, ("routes", index, "auth")):
            continue
        if route.auth == "public":
            yield place, 'can never apply: with auth = "public" credentials are not looked at'
        elif not able:
            yield place, _NOWHERE


def revocation_warnings(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Return what is allowed and seldom meant."""
    if settings.revocation.file and (problem := read_problem(settings.revocation.file)):
        yield (
            ("revocation", "file"),
            f"{problem}; until it can, routes get 503 for whatever credential is shown, but for those with"
            ' revocation_failure = "open"',
        )
    if revocable(settings) and all(route.auth == "public" for route in settings.routes):
        yield ("revocation",), "no route looks at credentials"
