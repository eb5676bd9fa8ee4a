"""What the features and the pipeline are built from, without a listener and under a test's clock."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import Clock
from gateway.features.listed import FEATURES
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.revocations.revocations import Revocations
from gateway.policy.routes import RouteTable
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.tables.root import Settings
from gateway.store.one_time_ids import ReplayStore, make_store


def core_of(settings: Settings, clock: Clock, routes: RouteTable | None = None) -> Core:
    """Return what the features of a gateway without Redis are built from."""

    def used_ids(purpose: str, window: float = 0.0) -> ReplayStore:
        return make_store(settings, clock, None, purpose, window)

    compiled = table_of(settings) if routes is None else routes
    return Core(settings, clock, compiled.routes, None, Revocations((), clock), used_ids, None, b"")


def table_of(settings: Settings) -> RouteTable:
    """Return the compiled routes."""
    return RouteTable(settings.routes, frozenset().union(*(feature.express for feature in settings.features)))


def parts_of(core: Core, features: Sequence[Feature] = FEATURES) -> dict[str, Part]:
    """Return the features' parts by the feature's name, not started."""
    return {feature.name: part for feature in features if (part := feature.build(core)) is not None}


def pipeline_of(
    settings: Settings, clock: Clock, pseudonym: bytes = b"gw-1", features: Sequence[Feature] = FEATURES
) -> Pipeline:
    """Return the pipeline of a gateway that has no keys yet."""
    routes = table_of(settings)
    parts = parts_of(core_of(settings, clock, routes), features)
    return Pipeline(settings, routes, Authenticator(settings, {}, clock), parts, clock, pseudonym)
