"""A feature that exists only here: what it takes to add one to the gateway is this file and its line in the list.

A guard that wants a password in a request field, with an option on routes, a reason, a metric and a line in
``/status``. Workers find the list by its name, like the gateway's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.errors import Challenge, GatewayError, Reason, RefusalKind
from gateway.features.listed import FEATURES
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.feature import Core, Feature, Part
from gateway.server.seam.guard import Guard, Now
from gateway.settings.tables.base import FeatureOptions
from gateway.telemetry.prometheus import Gauge

# --- the feature: in the gateway, a folder ---

NO_PASSWORD = Reason("no_password", RefusalKind(403, "password_required", "Say the password.", Challenge.NONE))

FIELD = b"x-password"


class RouteOptions(FeatureOptions):
    """What it adds to ``[[routes]]``."""

    password: str = ""
    """What requests must have in `X-Password`; empty: nothing."""


class PasswordGuard(Guard):
    """Refuses callers who do not know the password of a route.

    Attributes:
        counts: requests, by route and "admitted" or "refused".
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.covered = 0

    def covers(self, route: Route) -> bool:
        """Cover the routes that have one."""
        covered = bool(RouteOptions.of(route.settings).password)
        self.covered += covered
        return covered

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        """Look for the password of a caller who may pass.

        Raises:
            GatewayError: it is not there.
        """
        said = [value for name, value in run.head.headers if name.lower() == FIELD]
        if said != [RouteOptions.of(admitted.route.settings).password.encode()]:
            self.counts[admitted.route.name, "refused"] += 1
            raise GatewayError(NO_PASSWORD, detail=f"{len(said)} fields")
        self.counts[admitted.route.name, "admitted"] += 1
        return None


class PasswordPart(Part):
    """The guard, and what is shown of it."""

    def __init__(self) -> None:
        self.guard = PasswordGuard()
        self.guards = (self.guard,)

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows."""
        return {"passwords": {"routes": self.guard.covered}}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape."""
        requests = CounterMetricFamily("gateway_passwords", "Requests on guarded routes.", labels=("route", "verdict"))
        for labels, count in self.guard.counts.items():
            requests.add_metric(labels, count)
        yield requests
        yield Gauge("gateway_password_routes", "Routes that want one.", self.guard.covered, merge="max")


class PasswordFeature(Feature):
    """Passwords."""

    name = "passwords"
    reasons = (NO_PASSWORD,)
    options = {"routes": RouteOptions}
    express = frozenset({"password"})  # its guard is asked each time

    def build(self, core: Core) -> Part:
        """Make the feature's part of one worker."""
        return PasswordPart()


# --- its line in the list ---

WITH_IT = (*FEATURES, PasswordFeature())

#: Where that stands.
LISTED = "tests.support.toy_feature:WITH_IT"
