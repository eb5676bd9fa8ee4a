"""Checks of ``[redis]`` that need several of its options, or the file that one names.

What a fault is, and which options are sound enough to be looked at, is
``checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.settings.faults import KeyPath
from gateway.settings.files import authorities_problem
from gateway.settings.redis import Redis


def redis_problems(redis: Redis, sound: Callable[..., bool]) -> Iterator[tuple[KeyPath, str]]:
    """Return the options without effect, and the authorities that cannot be read."""
    if not sound(("redis",)):
        return
    if not redis.url:
        for name in ("timeout_seconds", "tls_ca_file"):
            if getattr(redis, name) != Redis.model_fields[name].default:
                yield ("redis", name), "has no effect without `url`"
    elif redis.tls_ca_file:
        if not redis.url.lower().startswith("rediss://"):
            yield ("redis", "tls_ca_file"), "has no effect: the `url` is not rediss://"
        elif text := authorities_problem(redis.tls_ca_file):
            yield ("redis", "tls_ca_file"), text
