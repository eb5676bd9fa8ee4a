"""A feature that exists only here: what it takes to add one to the gateway is this file and its line in the list.

A guard that wants a password in a request field, with a reason, a metric and a line in ``/status``. Its option on
routes is missing: it covers them by their path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, Metric

from gateway.errors import Challenge, GatewayError, Kind, Reason
from gateway.features.listed import FEATURES, reasons
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.feature import Core, Feature, Part
from gateway.server.seam.guard import Guard, Now
from gateway.telemetry.prometheus import Gauge
from tests.server.admin.test_collector import scrape, value
from tests.support.gateway import RawClient, RawResponse, RunningGateway, request, running_gateway
from tests.support.upstream import RawUpstream, raw_upstream

# --- the feature: in the gateway, a folder ---

NO_PASSWORD = Reason("no_password", Kind(403, "password_required", "Say the password.", Challenge.NONE))

_FIELD, _PASSWORD = b"x-password", b"swordfish"


class PasswordGuard(Guard):
    """Refuses callers who do not know the password.

    Attributes:
        counts: requests, by route and "admitted" or "refused".
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.covered = 0

    def covers(self, route: Route) -> bool:
        """Cover the routes below ``/guarded``."""
        covered = route.settings.path.startswith("/guarded")
        self.covered += covered
        return covered

    def after(self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None) -> Now:
        """Look for the password of a caller who may pass.

        Raises:
            GatewayError: it is not there.
        """
        said = [value for name, value in run.head.headers if name.lower() == _FIELD]
        if said != [_PASSWORD]:
            self.counts[admitted.route.name, "refused"] += 1
            raise GatewayError(NO_PASSWORD, detail=f"{len(said)} fields")
        self.counts[admitted.route.name, "admitted"] += 1
        return None


class PasswordPart(Part):
    """The guard, and what is told of it."""

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

    def build(self, core: Core) -> Part:
        """Make the feature's part of one worker."""
        return PasswordPart()


# --- its line in the list ---

WITH_IT = (*FEATURES, PasswordFeature())

# --- and what it does ---

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/guarded"},
    {"path": "/guarded/observed", "observe": True},
)
BOTH_LANES = pytest.mark.parametrize("express", [False, True])


@asynccontextmanager
async def running(tmp_path: Path, express: bool) -> AsyncIterator[tuple[RunningGateway, RawUpstream, RawClient]]:
    async with (
        raw_upstream() as upstream,
        running_gateway(
            upstream.url, tmp_path, routes=ROUTES, server={"express": express}, features=WITH_IT
        ) as gateway,
    ):
        yield gateway, upstream, await gateway.client()


async def ask(client: RawClient, path: str, token: bytes, *passwords: bytes) -> RawResponse:
    return await client.exchange(request(b"GET", path, *((_FIELD, word) for word in passwords), token=token))


@BOTH_LANES
async def test_who_knows_the_password_passes_and_nobody_else(express: bool, tmp_path: Path) -> None:
    async with running(tmp_path, express) as (gateway, upstream, client):
        token = gateway.token()
        for _ in range(2):  # from the second time on everything about the request is known
            assert (await ask(client, "/guarded", token, _PASSWORD)).status == 200
            for wrong in ((), (b"guess",), (_PASSWORD, _PASSWORD)):
                refused = await ask(client, "/guarded", token, *wrong)
                assert (refused.status, refused.one(b"www-authenticate")) == (403, None)
                assert refused.json["error"] == "password_required"
                assert refused.json["error_description"] == "Say the password."
            assert (await ask(client, "/", token)).status == 200
        assert [received.target for received in upstream.requests] == [b"/guarded", b"/"] * 2
        log = await gateway.log(10)
    of_guarded = [(line["outcome"], line.get("reason"), line.get("detail")) for line in log if line["path"] != "/"]
    assert (
        of_guarded
        == [
            ("forwarded", None, None),
            ("refused", "no_password", "0 fields"),
            ("refused", "no_password", "1 fields"),
            ("refused", "no_password", "2 fields"),
        ]
        * 2
    )


@BOTH_LANES
async def test_a_bad_credential_is_refused_before_the_guard_is_asked(express: bool, tmp_path: Path) -> None:
    async with running(tmp_path, express) as (gateway, upstream, client):
        assert (await ask(client, "/guarded", b"junk", _PASSWORD)).status == 401
        assert (await ask(client, "/guarded", b"")).status == 401
        assert upstream.requests == []
        samples = await scrape(gateway)
    assert samples["gateway_passwords_total"] == []


@BOTH_LANES
async def test_an_observed_route_notes_the_reason_and_lets_pass(express: bool, tmp_path: Path) -> None:
    async with running(tmp_path, express) as (gateway, _, client):
        assert (await ask(client, "/guarded/observed", gateway.token())).status == 200
        (line,) = await gateway.log(1)
    assert (line["observed"], line["outcome"]) == ("no_password", "forwarded")


@BOTH_LANES
async def test_metrics_and_status_have_its_part(express: bool, tmp_path: Path) -> None:
    async with running(tmp_path, express) as (gateway, _, client):
        token = gateway.token()
        for passwords in ((_PASSWORD,), (), ()):
            await ask(client, "/guarded", token, *passwords)
        await gateway.settled()
        samples = await scrape(gateway)
        status = (await gateway.admin("/status")).json
    assert value(samples, "gateway_passwords_total", route="/guarded", verdict="admitted") == 1
    assert value(samples, "gateway_passwords_total", route="/guarded", verdict="refused") == 2
    assert value(samples, "gateway_password_routes") == 2
    assert value(samples, "gateway_refusals_total", reason="no_password") == 2
    assert status["passwords"] == {"routes": 2}


async def test_without_its_line_nothing_of_it_is_there(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        assert (await gateway.get("/guarded", token=gateway.token())).status == 200
        samples = await scrape(gateway)
        status = (await gateway.admin("/status")).json
    assert not [name for name in samples if "password" in name]
    assert "passwords" not in status


def test_its_reason_is_one_of_the_gateways() -> None:
    assert NO_PASSWORD in reasons(WITH_IT)
    codes = [reason.code for reason in reasons(WITH_IT)]
    assert len(set(codes)) == len(codes)
