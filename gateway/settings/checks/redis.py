"""Checks of ``[redis]`` that need several of its options, or the file that one names.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.settings.problems import Problem, Sound
from gateway.settings.readable import authorities_problem, certificate_problem
from gateway.settings.tables.redis import Redis

_TLS = ("tls_ca_file", "tls_client_cert", "tls_client_key")


def redis_problems(redis: Redis, sound: Sound) -> Iterator[Problem]:
    """Return the options without effect, those that do not fit together, and files that cannot be used."""
    if not sound(("redis",)):
        return
    if not redis.url:
        for name in ("timeout_seconds", *_TLS, "sentinels"):
            if getattr(redis, name) != Redis.model_fields[name].default:
                yield ("redis", name), "has no effect without `url`"
        return
    if any(url.lower().startswith("rediss://") for url in (redis.url, *redis.sentinels)):
        yield from _tls_problems(redis)
    else:
        given = (name for name in _TLS if getattr(redis, name))
        yield from ((("redis", name), "has no effect: the `url` is not rediss://") for name in given)
    if not redis.sentinels:
        return
    parts = urlsplit(redis.url)
    if parts.scheme == "unix" or parts.port is not None:
        text = "with `sentinels` its host is the name of the master, such as redis://mymaster/0, and has no port"
        yield ("redis", "url"), text


def _tls_problems(redis: Redis) -> Iterator[Problem]:
    certificate, key = redis.tls_client_cert, redis.tls_client_key
    if certificate and not key:
        yield ("redis", "tls_client_key"), "is required with `tls_client_cert`"
    elif key and not certificate:
        yield ("redis", "tls_client_cert"), "is required with `tls_client_key`"
    elif certificate and (problem := certificate_problem(certificate, key, ("tls_client_cert", "tls_client_key"))):
        yield ("redis", problem[0]), problem[1]
    if redis.tls_ca_file and (text := authorities_problem(redis.tls_ca_file)):
        yield ("redis", "tls_ca_file"), text
