"""Checks about ``[watch]`` that need several options.

What a fault is, is ``checks.py``'s matter; so is which options are sound
enough to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.features.abuse_watch.options import FINDERS, Watch
from gateway.features.api_keys.checks import takes_tokens
from gateway.settings.faults import KeyPath
from gateway.settings.tables.root import Settings


def watch_problems(settings: Settings, sound: Callable[..., bool]) -> Iterator[tuple[KeyPath, str]]:
    """Return what has no effect, each with the place of its option."""
    watch = settings.watch
    if not sound(("watch",)):
        return
    if not any(getattr(watch, name) for name in FINDERS):
        for name, info in Watch.model_fields.items():
            if name not in FINDERS and getattr(watch, name) != info.default:
                yield ("watch", name), "has no effect: nothing is watched"
        return
    options = [("routes", index, name) for index in range(len(settings.routes)) for name in ("auth", "credentials")]
    if not sound(*options):
        return
    if watch.token_addresses and not any(takes_tokens(route) for route in settings.routes):
        yield ("watch", "token_addresses"), "has no effect: no route looks at tokens"
    if watch.subject_addresses and all(route.auth == "public" for route in settings.routes):
        yield ("watch", "subject_addresses"), "has no effect: no route looks at credentials"
