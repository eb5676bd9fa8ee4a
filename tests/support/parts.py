"""The parts of a running gateway's features, each as what it is.

Looks them up; what a test then reads of a part is the part's own.
"""

from __future__ import annotations

from typing import TypeVar

from gateway.app import GatewayApp
from gateway.features.abuse_watch.part import AbuseWatchPart
from gateway.features.abuse_watch.watch import AbuseWatch
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.api_keys.part import ApiKeysPart
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.part import IntrospectionPart
from gateway.features.rate_limits.guard import RateLimitGuard
from gateway.features.rate_limits.part import RateLimitsPart
from gateway.features.sender_constrained.part import SenderConstrainedPart
from gateway.features.sender_constrained.proof import Proofs
from gateway.features.single_use.guard import SingleUse
from gateway.features.single_use.part import SingleUsePart
from gateway.server.seam.feature import Part

P = TypeVar("P", bound=Part)


def samples_of(part: Part) -> dict[tuple[str, ...], float]:
    """Return what a part counts, by the name of the sample and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value for family in part.metrics() for sample in family.samples
    }


def part_of(app: GatewayApp, kind: type[P]) -> P:
    """Return a gateway's part of this kind."""
    (found,) = (part for part in app.parts.values() if isinstance(part, kind))
    return found


def rate_limits(app: GatewayApp) -> RateLimitGuard:
    return part_of(app, RateLimitsPart).guard


def proofs(app: GatewayApp) -> Proofs:
    return part_of(app, SenderConstrainedPart).proofs


def single_use(app: GatewayApp) -> SingleUse:
    return part_of(app, SingleUsePart).single_use


def api_keys(app: GatewayApp) -> ApiKeys:
    return part_of(app, ApiKeysPart).keys


def introspectors(app: GatewayApp) -> dict[str, Introspector]:
    return part_of(app, IntrospectionPart).introspectors


def abuse_watch(app: GatewayApp) -> AbuseWatch:
    return part_of(app, AbuseWatchPart).watch
