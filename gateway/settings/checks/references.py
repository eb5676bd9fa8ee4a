"""Checks of names: those that stand for two entries, and those that point nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.settings.faults import KeyPath, did_you_mean, path_text
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import takes_tokens
from gateway.settings.values import fold_header_name


def repeated_names(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return entries with the name of an earlier one."""
    tables: dict[str, list[str]] = {
        "issuers": [issuer.name for issuer in settings.issuers],
        "upstreams": [upstream.name for upstream in settings.upstreams],
    }
    for table, names in tables.items():
        for index, name in enumerate(names):
            if sound((table, index, "name")) and name in names[:index]:
                yield (table, index, "name"), f"is also the name of {path_text((table, names.index(name)))}"


def reference_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return names in routes that point nowhere."""
    named: dict[str, list[tuple[KeyPath, str]]] = {"upstreams": [], "issuers": []}
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        if sound((*place, "upstream")):
            named["upstreams"].append(((*place, "upstream"), route.upstream))
        if sound((*place, "issuers")):
            named["issuers"] += [((*place, "issuers", number), name) for number, name in enumerate(route.issuers)]
    if settings.upstreams:
        yield from _unknown(named["upstreams"], "upstreams", [one.name for one in settings.upstreams], sound)
    if sound.table("issuers"):
        yield from _unknown(named["issuers"], "issuers", [issuer.name for issuer in settings.issuers], sound)


def _unknown(named: list[tuple[KeyPath, str]], table: str, names: list[str], sound: Sound) -> Iterator[Problem]:
    """Find names that point nowhere; not those that a table's faulty name may stand for."""
    faulty = sum(not sound((table, index, "name")) for index in range(len(names)))
    unknown = {name for _, name in named if name not in names}
    for place, name in named:
        hint = did_you_mean(name, filter(None, names))
        if name in unknown and (hint or len(unknown) > faulty):
            yield place, f"unknown {table[:-1]}{hint}"


def missing_issuers(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Say that a route looks at tokens and there is no issuer."""
    if settings.issuers or not sound(("issuers",)):
        return
    for index, route in enumerate(settings.routes):
        options = ("routes", index, "auth"), ("routes", index, "credentials")
        if sound(*options) and takes_tokens(route):
            yield (
                ("issuers",),
                f'is empty, but routes[{index}] looks at tokens; name an issuer, or write auth = "public"',
            )
            return


def repeated_headers(names: Sequence[str]) -> Iterator[Problem]:
    """Return identity headers, as they are written, that services could take for one."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(fold_header_name(name), name)) != name:
            yield ("identity", name), f'is the same header as {other} for services that treat "_" and "-" alike'
