"""Checks about ``[watch]`` that need several options.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.features.abuse_watch.options import FINDERS, Watch, WatchTables
from gateway.settings.checks.exposures import covers_most, trusts_most
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import takes_tokens


def watch_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what has no effect, or the wrong one, each with the place of its option."""
    watch = WatchTables.of(settings).watch
    if watch.refuse_seconds and (watch.bad_signatures or watch.unknown_kids or watch.unknown_api_keys):
        effect = "with `watch.refuse_seconds` it can have others refused, and is never refused itself"
        yield from trusts_most(settings, sound, ("watch",), effect)
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


def watch_warnings(settings: Settings) -> Iterator[Problem]:
    """Return options that are allowed and weaken the watch."""
    if covers_most(WatchTables.of(settings).watch.exempt):
        text = "covers most addresses: hardly any client is ever flagged; list the addresses that are meant"
        yield ("watch", "exempt"), text
