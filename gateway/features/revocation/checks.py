"""Checks of revocation that need several options, or a file that one names.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.revocation.options import RevocationTables
from gateway.settings.problems import Problem, Sound
from gateway.settings.readable import read_problem, read_regular, without_mark
from gateway.settings.tables.root import Settings

#: The shortest secret of the admin call, and the longest, in characters.
MIN_ADMIN_TOKEN, MAX_ADMIN_TOKEN = 16, 4096

_NOWHERE = "has no effect: neither `revocation.file` nor `redis.url` says what is revoked"


def from_redis(settings: Settings) -> bool:
    """Return whether entries come from Redis."""
    return bool(settings.redis.url) and RevocationTables.of(settings).revocation.redis


def revocable(settings: Settings) -> bool:
    """Return whether anything can be revoked."""
    return bool(RevocationTables.of(settings).revocation.file) or from_redis(settings)


def read_admin_token(file: str) -> bytes:
    """Return the secret of the admin call, without the space around it.

    Raises:
        ValueError: the file cannot be read, or its secret is too short or has other characters.
    """
    secret = without_mark(read_regular(file, MAX_ADMIN_TOKEN)).strip()
    if len(secret) < MIN_ADMIN_TOKEN or not secret.isascii() or any(byte <= 0x20 or byte == 0x7F for byte in secret):
        raise ValueError(
            f"this file must hold a secret of at least {MIN_ADMIN_TOKEN} printable characters without spaces"
        )
    return secret


def revocation_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the table, and with what routes say about it."""
    if not sound(("revocation",), ("redis",)):
        return
    table, able = RevocationTables.of(settings).revocation, revocable(settings)
    if not table.redis and not settings.redis.url:
        yield ("revocation", "redis"), "has no effect without `redis.url`"
    if table.admin_token_file:
        if not able:
            yield ("revocation", "admin_token_file"), _NOWHERE
        else:
            try:
                read_admin_token(table.admin_token_file)
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


def revocation_warnings(settings: Settings) -> Iterator[Problem]:
    """Return options that are allowed and rarely intended."""
    file = RevocationTables.of(settings).revocation.file
    if file and (problem := read_problem(file)):
        yield (
            ("revocation", "file"),
            f"{problem}; until it can, routes answer 503 to every credential, except those with"
            ' revocation_failure = "open"',
        )
    if revocable(settings) and all(route.auth == "public" for route in settings.routes):
        yield ("revocation",), "no route looks at credentials"
    yield from _unmeant_redis(settings)


def _unmeant_redis(settings: Settings) -> Iterator[Problem]:
    """Warn of a Redis that was configured for another purpose and that every credential depends on."""
    table = RevocationTables.of(settings).revocation
    if not from_redis(settings) or "redis" in table.model_fields_set or table.admin_token_file:
        return
    waiting = [
        index
        for index, route in enumerate(settings.routes)
        if route.auth != "public" and "revocation_failure" not in route.model_fields_set
    ]
    if waiting:
        more = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        yield (
            ("redis", "url"),
            f"revocations are read from there, too: while Redis is unavailable, requests with a good credential get 503"
            f" on routes[{waiting[0]}]{more}; write `revocation.redis = false` if nothing is revoked there, or `true`"
            ' if this is meant, or revocation_failure = "open" on the routes that must go on',
        )
