"""Paths that a feature answers itself: without a credential, without an upstream, and like any route in the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.errors import READ_ONLY, GatewayError, Reason
from gateway.policy.routes import Route, RouteTable
from gateway.server.request.endpoint import Endpoint
from gateway.server.request.error_answers import Answer
from gateway.server.seam.feature import Core, Feature, Part
from gateway.settings.tables.routes import RouteSettings
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.upstreams.recording import raw_upstream

WRONG_METHOD = Reason("clock_method", READ_ONLY)


def _route(path: str) -> Route:
    settings = RouteSettings(path=path, match="exact", upstream="none", auth="public", cors_origins=["*"])
    return RouteTable([settings]).routes[0]


@dataclass(frozen=True)
class Clock:
    """Says what time it is: always the same."""

    route: Route = field(default_factory=lambda: _route("/clock"))

    def answer(self, method: str) -> Answer:
        if method != "GET":
            raise GatewayError(WRONG_METHOD)
        return Answer(200, ((b"Content-Type", b"text/plain"),), b"noon", close=False)


class Clocks:
    """One, on one host."""

    def __init__(self) -> None:
        self._clock = Clock()

    def find(self, host: str, path: str) -> Endpoint | None:
        return self._clock if (host, path) == ("gateway.test", "/clock") else None


class ClockFeature(Feature):
    """A feature that has it."""

    name = "clock"
    reasons = (WRONG_METHOD,)

    def build(self, core: Core) -> Part:
        part = Part()
        part.endpoints = Clocks()
        return part


async def _at(gateway: RunningGateway, method: bytes, path: str, *fields: tuple[bytes, bytes]) -> tuple[int, bytes]:
    response = await gateway.exchange(request(method, path, *fields))
    assert response.one(b"x-request-id")
    return response.status, response.body


@pytest.mark.parametrize("express", [False, True])
async def test_it_is_answered_without_a_credential_and_without_an_upstream(express: bool, tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, features=(ClockFeature(),), server={"express": express}) as gateway,
    ):
        assert await _at(gateway, b"GET", "/clock") == (200, b"noon")
        assert await _at(gateway, b"GET", "/clock", (b"Authorization", b"Bearer junk")) == (200, b"noon")
        assert (await _at(gateway, b"POST", "/clock"))[0] == 405
        for path, host in (("/clock/x", b"gateway.test"), ("/clock", b"other.test")):
            assert (await _at(gateway, b"GET", path, (b"Host", host)))[0] == 401
        assert upstream.requests == []
        log = await gateway.log(5)
    assert [(line["route"], line["outcome"], line.get("reason")) for line in log] == [
        ("/clock", "answered", None),
        ("/clock", "answered", None),
        ("/clock", "refused", "clock_method"),
        ("/", "refused", "no_credential"),
        ("/", "refused", "no_credential"),
    ]


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R114")
async def test_its_route_says_what_pages_of_other_origins_may_do(express: bool, tmp_path: Path) -> None:
    """The core answers preflights for it."""
    origin = (b"Origin", b"https://app.test")
    async with running_gateway(
        "http://127.0.0.1:9", tmp_path, features=(ClockFeature(),), server={"express": express}
    ) as gateway:
        preflight = await gateway.exchange(
            request(b"OPTIONS", "/clock", origin, (b"Access-Control-Request-Method", b"GET"))
        )
        assert (preflight.status, preflight.one(b"access-control-allow-origin")) == (204, b"*")
        read = await gateway.get("/clock", origin)
        assert (read.status, read.one(b"access-control-allow-origin")) == (200, b"*")
