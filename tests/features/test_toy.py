"""A feature that exists only here: what it takes to add one to the gateway is one folder and one line.

It is in ``tests/support/toy_feature.py``: an option on routes, a guard, a reason, a metric and a line in ``/status``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.configuration import composed_of
from gateway.features.listed import reasons
from gateway.process.supervisor import Supervisor
from tests.server.admin.test_collector import scrape, value
from tests.support.composed import Settings
from tests.support.gateways.running import (
    RawClient,
    RawResponse,
    RunningGateway,
    configuration,
    request,
    running_gateway,
)
from tests.support.gateways.workers import PATIENCE
from tests.support.toy_feature import FIELD, LISTED, NO_PASSWORD, WITH_IT
from tests.support.upstreams.recording import RawUpstream, raw_upstream

_PASSWORD = b"swordfish"

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/guarded", "password": "swordfish"},
    {"path": "/guarded/observed", "password": "swordfish", "observe": True},
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
    return await client.exchange(request(b"GET", path, *((FIELD, word) for word in passwords), token=token))


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
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        assert (await gateway.get("/guarded", token=gateway.token())).status == 200
        samples = await scrape(gateway)
        status = (await gateway.admin("/status")).json
    with pytest.raises(ValidationError, match="password"):
        Settings.model_validate(configuration(upstream.url, tmp_path, routes=ROUTES))
    assert not [name for name in samples if "password" in name]
    assert "passwords" not in status


def test_its_reason_is_one_of_the_gateways() -> None:
    assert NO_PASSWORD in reasons(WITH_IT)
    codes = [reason.code for reason in reasons(WITH_IT)]
    assert len(set(codes)) == len(codes)


@pytest.mark.usefixtures("loading")
async def test_workers_have_it_too(tmp_path: Path) -> None:
    """They are processes of their own, and get the place of the list."""
    routes = ({"path": "/", "auth": "public", "password": "swordfish"},)
    async with raw_upstream() as upstream:
        made = configuration(upstream.url, tmp_path, routes=routes, server={"workers": 2, "access_log": "off"})
        made["issuers"] = []
        supervisor = Supervisor(composed_of(LISTED).model_validate(made), 2)
        try:
            await supervisor.start()
            assert await asyncio.wait_for(supervisor.up, PATIENCE)
            for given, status in (((FIELD, _PASSWORD),), 200), ((), 403):
                client = RawClient(*await asyncio.open_connection("127.0.0.1", supervisor.ports[0]))
                assert (await client.exchange(request(b"GET", "/", *given))).status == status
                await client.close()

            async def page(path: str) -> RawResponse:
                admin = RawClient(*await asyncio.open_connection("127.0.0.1", supervisor.admin_port))
                try:
                    return await admin.exchange(request(b"GET", path, (b"Host", b"localhost")))
                finally:
                    await admin.close()

            shown = (await page("/status")).json
            assert [worker["passwords"] for worker in shown["workers"]] == [{"routes": 1}] * 2
            metrics = (await page("/metrics")).body
            assert b"gateway_password_routes 1.0" in metrics, "not once for each worker"
            assert b'gateway_passwords_total{route="/",verdict="refused"} 1.0' in metrics
            assert await supervisor.drain(5) == 0
        finally:
            await supervisor.stop()
