"""Checks that need several options, or a file that an option names.

They find what types and bounds cannot see: names that point nowhere, rules that
can never apply, two routes between which nothing decides. Faults stop the
start; warnings are for what is allowed but seldom meant. This file has the list
of checks; those that are about an option of a feature are in its folder. The
danger of all of them is the false fault: a check looks only at options that are
sound, because the others already have a fault of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from gateway.settings.checks.exposures import exposure_faults
from gateway.settings.checks.issuers import issuer_problems
from gateway.settings.checks.own_ports import own_port_problems
from gateway.settings.checks.redis import redis_problems
from gateway.settings.checks.references import missing_issuers, reference_problems, repeated_headers, repeated_names
from gateway.settings.checks.routes import route_problems
from gateway.settings.checks.server import server_problems
from gateway.settings.checks.tenants import tenant_problems
from gateway.settings.checks.upstreams import upstream_problems
from gateway.settings.faults import KeyPath
from gateway.settings.feature_faults import Hook
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings


def find_faults(settings: Settings, faulty: Collection[KeyPath], identity: Sequence[str]) -> list[Problem]:
    """Return what is wrong between options.

    Args:
        settings: the configuration; where an option has a fault of its own, any value.
        faulty: the keys that have a fault of their own.
        identity: the headers' names as they are written.
    """
    sound = Sound(faulty)
    return [
        *server_problems(settings.server, sound),
        *redis_problems(settings.redis, sound),
        *repeated_names(settings, sound),
        *issuer_problems(settings, sound),
        *tenant_problems(settings, sound),
        *(
            problem
            for index, upstream in enumerate(settings.upstreams)
            for problem in upstream_problems(upstream, ("upstreams", index), sound)
        ),
        *own_port_problems(settings, sound),
        *reference_problems(settings, sound),
        *missing_issuers(settings, sound),
        *route_problems(settings, sound),
        *repeated_headers(identity),
        *_of_features(settings, sound),
        *exposure_faults(settings, sound),
    ]


def _of_features(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for feature in settings.features:
        with Hook(feature.name, "check"):
            found = list(feature.check(settings, sound))
        yield from found
