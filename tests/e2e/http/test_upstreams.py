"""Several URLs behind a running gateway: what clients and operators see when some of them go and come back."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import authority
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, request, running_gateway, until
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.coming_and_going import Service, services
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

LANES = pytest.mark.parametrize("express", [True, False], ids=["express lane", "full lane"])
PUBLIC = ({"path": "/", "auth": "public"},)
POST = request(b"POST", "/", (b"Content-Length", b"4"), body=b"once")


@contextlib.asynccontextmanager
async def gateway_of(
    members: list[Service], directory: Path, *, express: bool = True, **upstream: Any
) -> AsyncIterator[TimedGateway]:
    """A gateway on a test's clock with these services as the URLs of its upstream."""
    urls = [member.url for member in members]
    settings = Settings.model_validate(
        configuration(urls, directory / "no-keys", routes=PUBLIC, server={"express": express}, upstream=upstream)
    )
    async with timed_gateway(settings, SigningKey.ed25519("a"), FakeClock()) as gateway:
        yield gateway


async def states(gateway: RunningGateway) -> list[dict[str, Any]]:
    """What /status says of each URL."""
    urls = (await gateway.admin("/status")).json["upstreams"]["main"]["urls"]
    assert isinstance(urls, list)
    return urls


async def healths(gateway: RunningGateway) -> list[str]:
    return [state["health"] for state in await states(gateway)]


def served(members: list[Service]) -> list[int]:
    """How many requests each service has had."""
    return [len(member.upstream.requests) for member in members]


@LANES
async def test_requests_of_one_client_go_to_each_url_in_turn(express: bool, tmp_path: Path) -> None:
    """Contract: round robin; each gets its own Host and base path, on new connections and on kept ones."""
    async with services(3) as members:
        urls = [f"{member.url}/{number}" for number, member in enumerate(members)]
        async with running_gateway(urls, tmp_path, routes=PUBLIC, server={"express": express}) as gateway:
            client = await gateway.client()
            for number in range(12):
                assert (await client.exchange(request(b"GET", f"/{number}"))).status == 200
    assert served(members) == [4, 4, 4]
    for number, member in enumerate(members):
        hosts = {received.one(b"host") for received in member.upstream.requests}
        assert hosts == {b"127.0.0.1:%d" % member.upstream.port}
        targets = [received.target for received in member.upstream.requests]
        assert targets == [b"/%d/%d" % (number, turn) for turn in range(number, 12, 3)]
        assert member.upstream.connections == 1


@LANES
async def test_url_that_goes_is_not_noticed_by_clients_and_one_that_comes_back_is_used(
    express: bool, tmp_path: Path
) -> None:
    """Every request is answered 200, POST included; /status and /metrics tell of the ejection and of its end."""
    async with services(3) as members, gateway_of(members, tmp_path, express=express) as gateway:
        members[1].off()
        for _ in range(15):
            assert (await gateway.exchange(POST)).status == 200
        assert await healths(gateway) == ["healthy", "ejected", "healthy"]
        state = (await states(gateway))[1]
        assert (state["connect_failures"], state["ejections"], state["back_off_seconds"]) == (3, 1, 1)
        page = (await gateway.admin("/metrics")).body.decode()
        labels = f'{{upstream="main",url="{members[1].url}"}}'
        for line in (
            f"gateway_upstream_healthy{labels} 0.0",
            f"gateway_upstream_connect_failures_total{labels} 3.0",
            f"gateway_upstream_ejections_total{labels} 1.0",
        ):
            assert line in page
        assert "gateway_upstream_failures_total{" not in page
        gateway.clock.jump(1.5)
        assert (await gateway.exchange(POST)).status == 200
        assert (await states(gateway))[1]["connect_failures"] == 4
        await members[1].on()
        gateway.clock.jump(2.5)
        for _ in range(6):
            assert (await gateway.exchange(POST)).status == 200
        assert await healths(gateway) == ["healthy"] * 3
    bodies = [received.body for member in members for received in member.upstream.requests]
    assert bodies == [b"once"] * 22
    assert served(members)[1] >= 2


@LANES
async def test_content_that_has_not_arrived_moves_on_with_its_request(express: bool, tmp_path: Path) -> None:
    """Nothing of it was read: the next URL gets all of it, and the client's 100 comes once."""
    async with services(2) as members, gateway_of(members, tmp_path, express=express) as gateway:
        members[0].off()
        for _ in range(2):
            client = await gateway.client()
            await client.send(request(b"PUT", "/", (b"Transfer-Encoding", b"chunked"), (b"Expect", b"100-continue")))
            assert (await client.response()).status == 100
            await client.send(b"5\r\nhello\r\n")
            await client.send(b"6\r\n world\r\n0\r\n\r\n")
            assert (await client.response()).status == 200
    assert [received.body for received in members[1].upstream.requests] == [b"hello world"] * 2


@LANES
@pytest.mark.rule("R310")
async def test_request_on_a_dead_connection_is_sent_again_to_a_service_that_is_there(
    express: bool, tmp_path: Path
) -> None:
    """A restart closes kept connections and refuses new ones; a GET is served elsewhere, once."""

    async def die_on_reuse(
        received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        return None if received.target == b"/again" else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with services(2) as (dying, steady):
        dying.upstream.respond = die_on_reuse
        async with gateway_of([dying, steady], tmp_path) as gateway:
            for _ in range(2):
                assert (await gateway.get("/")).status == 200
            dying.off()
            assert (await gateway.get("/again")).status == 200
        assert [received.target for received in dying.upstream.requests] == [b"/", b"/again"]
        assert [received.target for received in steady.upstream.requests] == [b"/", b"/again"]


@LANES
@pytest.mark.rule("R310")
async def test_request_is_sent_again_over_a_new_connection_when_all_kept_ones_are_dead(
    express: bool, tmp_path: Path
) -> None:
    """The one repetition does not go to waste on a second connection that died in the same restart."""
    together = asyncio.Barrier(2)

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target == b"/first":
            await together.wait()
        elif received.connection <= 2:
            return None
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with services(1, respond=respond) as members, gateway_of(members, tmp_path, express=express) as gateway:
        answers = await asyncio.gather(gateway.get("/first"), gateway.get("/first"))
        assert [answer.status for answer in answers] == [200, 200]
        assert (await gateway.get("/again")).status == 200
    again = [received.connection for received in members[0].upstream.requests if received.target == b"/again"]
    assert len(again) == 2
    assert again[1] == 3


@LANES
async def test_client_is_told_when_no_url_can_be_connected_to(express: bool, tmp_path: Path) -> None:
    """502 after each was tried once; however long that lasts, the first request after their return is served."""
    async with services(3, on=False) as members, gateway_of(members, tmp_path, express=express) as gateway:
        for _ in range(5):
            assert (await gateway.get("/")).status == 502
        assert await healths(gateway) == ["ejected"] * 3
        assert [state["connect_failures"] for state in await states(gateway)] == [5, 5, 5]
        await members[1].on()
        assert (await gateway.get("/")).status == 200
        lines = await gateway.log(6)
    assert [line.get("reason") for line in lines] == ["upstream_connect"] * 5 + [None]


async def test_health_checks_decide_before_requests_find_out(tmp_path: Path) -> None:
    """A service that answers 500 to its checks gets no more requests, and gets them again after one good answer."""
    sick = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        status = b"503 No" if received.target == b"/up" and sick.is_set() else b"200 OK"
        return b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status

    async with services(2) as members:
        members[0].upstream.respond = respond
        async with gateway_of(members, tmp_path, health_path="/up") as gateway:

            async def checks() -> None:
                """Let each URL be asked at least once more."""
                before = served(members)
                await gateway.clock.advance(5.5)
                await until(lambda: all(now > then for now, then in zip(served(members), before, strict=True)))

            sick.set()
            await checks()
            await checks()
            await until(lambda: not gateway.app.upstreams["main"].origins[0].health.sound)
            assert await healths(gateway) == ["unhealthy", "healthy"]
            assert [(await gateway.get("/")).status for _ in range(4)] == [200] * 4
            assert b"/" not in [received.target for received in members[0].upstream.requests]
            sick.clear()
            await checks()
            await until(lambda: gateway.app.upstreams["main"].origins[0].health.sound)
            assert [(await gateway.get("/")).status for _ in range(2)] == [200] * 2
            assert b"/" in [received.target for received in members[0].upstream.requests]


@LANES
@pytest.mark.rule("R314")
async def test_slow_url_with_a_full_pool_does_not_hold_up_the_others(express: bool, tmp_path: Path) -> None:
    """Each URL has its own pool; a full one is passed over."""
    release = asyncio.Event()

    async def slow(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await release.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with services(2) as members:
        members[0].upstream.respond = slow
        options: dict[str, Any] = {"pool_size": 1, "pool_wait_seconds": 0.05}
        async with gateway_of(members, tmp_path, **options) as gateway:
            waiting = await gateway.client()
            await waiting.send(request(b"GET", "/slow"))
            await members[0].upstream.got_request.wait()
            assert [(await gateway.get("/")).status for _ in range(6)] == [200] * 6
            release.set()
            assert (await waiting.response()).status == 200


@pytest.mark.parametrize("base", ["", "/api"])
async def test_service_behind_a_unix_socket(base: str, tmp_path: Path) -> None:
    """Host is localhost, or the client's with preserve_host."""
    upstream, file = RawUpstream(), tmp_path / "up.sock"
    server = await asyncio.start_unix_server(upstream.serve, file)
    url = f"unix:{file}" + (f":{base}" if base else "")
    for preserve in (False, True):
        options = {"preserve_host": preserve}
        async with running_gateway(url, tmp_path, routes=PUBLIC, upstream=options) as gateway:
            for _ in range(2):
                assert (await gateway.exchange(POST)).status == 200
            assert [state["url"] for state in await states(gateway)] == [url]
    server.close()
    assert {received.target for received in upstream.requests} == {base.encode() + b"/"}
    assert [received.one(b"host") for received in upstream.requests] == [b"localhost"] * 2 + [b"gateway.test"] * 2


@pytest.mark.rule("R330")
async def test_service_that_asks_for_a_certificate_and_has_another_name(tmp_path: Path) -> None:
    """Mutual TLS by an address; a wrong name is 502 and the service sees no request."""
    ca = authority(tmp_path / "ca")
    server, own = ca.sign("server", "orders.internal"), ca.sign("gateway", "gateway.test")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca.bundle))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.cert, server.key)
    files = {"tls_ca_file": str(ca.bundle), "tls_client_cert": str(own.cert), "tls_client_key": str(own.key)}
    async with raw_upstream(tls=context) as upstream:
        for name, status in (("orders.internal", 200), ("billing.internal", 502), ("", 502)):
            options = {**files, "tls_server_name": name}
            async with running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream=options) as gateway:
                for _ in range(2):
                    assert (await gateway.get("/")).status == status
                reasons = [line.get("reason") for line in await gateway.log(2)]
                assert reasons == [None if status == 200 else "upstream_tls"] * 2
    assert len(upstream.requests) == 2
