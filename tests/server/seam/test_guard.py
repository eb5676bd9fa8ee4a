"""Guards: when they are asked, what they may do, and that nothing is remembered past them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.listed import FEATURES
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.feature import Core, Feature, Part
from gateway.server.seam.guard import Guard
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/free"},
    {"path": "/watched", "scopes": ["read"]},
    {"path": "/observed", "observe": True},
    {"path": "/public", "auth": "public"},
)
BOTH_LANES = pytest.mark.parametrize("express", [False, True])


class Watchman(Guard):
    """Writes down what it is asked, and refuses where the test says so, at once or when awaited."""

    def __init__(self, name: str, said: list[str], *, refuse: str = "", wait: bool = False) -> None:
        self.name, self.said, self.refuse, self.wait = name, said, refuse, wait

    def covers(self, route: Route) -> bool:
        return route.settings.path != "/free"

    def before(self, run: Run, admitted: Admitted) -> Awaitable[None] | None:
        run.answer_fields.append((b"X-Guard", self.name.encode()))
        return self._say("before", "")

    def after(
        self, run: Run, admitted: Admitted, shown: Shown | None, identity: Identity | None
    ) -> Awaitable[None] | None:
        return self._say("after", f" {identity and identity.subject}")

    def refused(self, run: Run, admitted: Admitted, error: GatewayError) -> None:
        self.said.append(f"{self.name} refused {error.reason.code}")

    def _say(self, when: str, more: str) -> Awaitable[None] | None:
        self.said.append(f"{self.name} {when}{more}")
        if self.wait:
            return self._later(when)
        self._maybe(when)
        return None

    async def _later(self, when: str) -> None:
        self._maybe(when)

    def _maybe(self, when: str) -> None:
        if when == self.refuse:
            raise GatewayError(Reasons.OVERLOADED, detail=self.name)


class WatchedPart(Part):
    """Has these guards, and nothing else."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = guards


class Watched(Feature):
    """A feature of some guards."""

    name = "watched"

    def __init__(self, *guards: Guard) -> None:
        self._guards = guards

    def build(self, core: Core) -> Part:
        return WatchedPart(self._guards)


@contextlib.asynccontextmanager
async def guarded(
    tmp_path: Path, *guards: Guard, express: bool = True
) -> AsyncIterator[tuple[RunningGateway, RawUpstream]]:
    features = (*FEATURES, Watched(*guards))
    async with (
        raw_upstream() as upstream,
        running_gateway(
            upstream.url, tmp_path, routes=ROUTES, server={"express": express}, features=features
        ) as gateway,
    ):
        yield gateway, upstream


@BOTH_LANES
@pytest.mark.parametrize("waits", [(False, False), (False, True), (True, False), (True, True)])
async def test_guards_are_asked_in_order_around_the_credential_on_each_request(
    waits: tuple[bool, bool], express: bool, tmp_path: Path
) -> None:
    said: list[str] = []
    pair = Watchman("one", said, wait=waits[0]), Watchman("two", said, wait=waits[1])
    async with guarded(tmp_path, *pair, express=express) as (gateway, _):
        client, token = await gateway.client(), gateway.token()
        for _ in range(2):
            reply = await client.exchange(request(b"GET", "/watched", token=token))
            assert (reply.status, reply.all(b"x-guard")) == (200, [b"one", b"two"])
    assert said == ["one before", "two before", "one after alice", "two after alice"] * 2


@BOTH_LANES
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_refusal_by_a_guard_reaches_the_client_and_no_upstream(
    when: str, wait: bool, express: bool, tmp_path: Path
) -> None:
    said: list[str] = []
    async with guarded(tmp_path, Watchman("one", said, refuse=when, wait=wait), express=express) as (
        gateway,
        upstream,
    ):
        client, token = await gateway.client(), gateway.token()
        for _ in range(2):
            reply = await client.exchange(request(b"GET", "/watched", token=token))
            assert (reply.status, reply.one(b"x-guard")) == (503, b"one")
        assert upstream.requests == []
        assert (await client.exchange(request(b"GET", "/free", token=token))).status == 200


@BOTH_LANES
async def test_route_that_no_guard_covers_is_not_theirs(express: bool, tmp_path: Path) -> None:
    said: list[str] = []
    async with guarded(tmp_path, Watchman("one", said), express=express) as (gateway, _):
        reply = await gateway.get("/free", token=gateway.token())
        assert (reply.status, reply.one(b"x-guard")) == (200, None)
    assert said == []


@BOTH_LANES
async def test_guards_hear_of_refused_credentials_and_see_nobody_on_public_routes(
    express: bool, tmp_path: Path
) -> None:
    said: list[str] = []
    async with guarded(tmp_path, Watchman("one", said), express=express) as (gateway, _):
        assert (await gateway.get("/watched", token=b"junk")).status == 401
        assert (await gateway.get("/watched")).status == 401
        assert (await gateway.get("/watched", token=gateway.token(scope="other"))).status == 403
        assert (await gateway.get("/observed", token=b"junk")).status == 200
        assert (await gateway.get("/public", token=b"junk")).status == 200
    assert said == [
        *("one before", "one refused not_a_jws"),
        *("one before", "one refused no_credential"),
        *("one before", "one refused missing_scope"),
        *("one before", "one refused not_a_jws", "one after None"),
        *("one before", "one after None"),
    ]


@BOTH_LANES
@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_observed_route_notes_what_a_guard_refuses_and_lets_it_pass(
    when: str, wait: bool, express: bool, tmp_path: Path
) -> None:
    said: list[str] = []
    async with guarded(tmp_path, Watchman("one", said, refuse=when, wait=wait), express=express) as (
        gateway,
        upstream,
    ):
        assert (await gateway.get("/observed", token=gateway.token())).status == 200
        assert upstream.requests[0].one(b"x-user-id") == b"alice"
        await gateway.settled()
        assert gateway.app.telemetry.observed == {("/observed", "overloaded"): 1}
