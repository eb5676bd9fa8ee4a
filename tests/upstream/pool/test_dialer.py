"""Opening upstream connections: addresses, names that move, Unix sockets, health checks. TLS: test_dialer_tls.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.errors import GatewayError, Reasons
from gateway.upstream.pool.dialer import CHECKER, DNS_SECONDS
from gateway.upstream.pool.upstream_url import Origin
from tests.support.clock import FakeClock, eventually
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream
from tests.upstream.pools import opened, refusal, served, settings


@pytest.mark.parametrize(
    ("url", "shown", "host", "base"),
    [
        ("http://up.example", "http://up.example", b"up.example", b""),
        ("http://up.example:8080/", "http://up.example:8080", b"up.example:8080", b""),
        ("https://up.example:443/api/", "https://up.example/api", b"up.example", b"/api"),
        ("http://[::1]:9000/a/b", "http://[::1]:9000/a/b", b"[::1]:9000", b"/a/b"),
        ("http://up.example/a%2Fb", "http://up.example/a%2Fb", b"up.example", b"/a%2Fb"),
        ("unix:/run/up.sock", "unix:/run/up.sock", b"localhost", b""),
        ("unix:/run/up.sock:/", "unix:/run/up.sock", b"localhost", b""),
        ("unix:/run/up.sock:/a/b%2F/", "unix:/run/up.sock:/a/b%2F", b"localhost", b"/a/b%2F"),
    ],
)
@pytest.mark.rule("R261")
async def test_url_is_taken_apart(url: str, shown: str, host: bytes, base: bytes) -> None:
    """Host without the default port (RFC 9110 section 7.2); the base path as configured."""
    async with opened(url) as origin:
        assert (origin.url, origin.host, origin.base_path) == (shown, host, base)


async def test_refused_and_unknown_hosts_have_their_own_reasons() -> None:
    """Contract: 502; the operator can tell the one from the other. ``.invalid`` never exists (RFC 2606)."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{unused.getsockname()[1]}") as origin:
            assert await refusal(origin) is Reasons.UPSTREAM_CONNECT
    async with opened("http://no-such-host.invalid", connect_timeout_seconds=10) as origin:
        assert await refusal(origin) is Reasons.UPSTREAM_NAME


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


@pytest.mark.rule("R431")
async def test_a_want_of_files_is_no_failure_of_the_upstream() -> None:
    """It is neither ejected nor unhealthy because this process could not ask."""
    async with raw_upstream() as upstream, opened(upstream.url, eject_after_failures=1, health_path="/up") as origin:
        with no_files_left():
            assert await refusal(origin) is Reasons.OUT_OF_FILES
            assert await origin.probe() is None
        assert (origin.health.state, origin.connect_failures) == ("healthy", 0)
        assert await served(await origin.lease()) == b"ok"


# --- names ---


class MovingName(AbstractResolver):
    """Answers every name with the address of the moment."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=self.address, port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def two_addresses() -> AsyncIterator[tuple[RawUpstream, RawUpstream]]:
    """Two upstreams with the same port on 127.0.0.1 and 127.0.0.2."""
    upstreams = RawUpstream(), RawUpstream()
    first = await asyncio.start_server(upstreams[0].serve, "127.0.0.1", 0)
    port = upstreams[0].port = upstreams[1].port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(upstreams[1].serve, "127.0.0.2", port)
    try:
        yield upstreams
    finally:
        first.close()
        second.close()


async def test_name_is_looked_up_anew_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections follow a changed answer within ``DNS_SECONDS``; until then no resolver is asked again."""
    clock, resolver = FakeClock(), MovingName("127.0.0.1")
    monkeypatch.setattr("aiohttp.connector.monotonic", clock.monotonic)
    async with two_addresses() as (old, new):
        url = f"http://up.test:{old.port}"
        origin = Origin(url, settings(url), resolver=resolver)
        for _ in range(3):
            await served(await origin.lease(fresh=True))
        resolver.address = "127.0.0.2"
        clock.jump(DNS_SECONDS - 0.1)
        await served(await origin.lease(fresh=True))
        assert (old.connections, new.connections, resolver.asked) == (4, 0, 1)
        clock.jump(0.2)
        await served(await origin.lease(fresh=True))
        assert (old.connections, new.connections, resolver.asked) == (4, 1, 2)
        await origin.close()


async def test_connections_to_an_address_that_the_name_has_left_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is idle ends after ``pool_idle_seconds``, one that is always busy after ``pool_max_age_seconds``."""
    clock, resolver = FakeClock(), MovingName("127.0.0.1")
    monkeypatch.setattr("aiohttp.connector.monotonic", clock.monotonic)
    async with two_addresses() as (old, new):
        url = f"http://up.test:{old.port}"
        configured = settings(url, pool_idle_seconds=0.05, pool_max_age_seconds=100)
        origin = Origin(url, configured, resolver=resolver)
        idle, busy = await origin.lease(), await origin.lease()
        await served(idle)
        resolver.address = "127.0.0.2"
        clock.jump(DNS_SECONDS + 1)
        await eventually(lambda: old.open_connections == 1)
        busy.protocol.opened_at -= 99
        await served(busy)
        lease = await origin.lease()
        assert lease.protocol is busy.protocol
        lease.protocol.opened_at -= 1
        await served(lease)
        await eventually(lambda: old.open_connections == 0)
        await served(await origin.lease())
        assert (old.connections, new.connections) == (2, 1)
        await origin.close()


# --- Unix sockets ---


async def test_service_behind_a_unix_socket(tmp_path: Path) -> None:
    file, upstream = tmp_path / "up.sock", RawUpstream()
    async with opened(f"unix:{file}", health_path="/up") as origin:
        assert await refusal(origin) is Reasons.UPSTREAM_CONNECT
        assert not await origin.probe()
        server = await asyncio.start_unix_server(upstream.serve, file)
        for reused in (False, True):
            lease = await origin.lease()
            assert lease.reused is reused
            assert await served(lease) == b"ok"
        assert await origin.probe()
        server.close()
    assert upstream.requests[-1].one(b"host") == b"localhost"


# --- health checks ---


async def answer_of(answer: bytes | None, *, seconds: float = 5) -> tuple[bool | None, Received]:
    """Probe a service that answers with these bytes, or never."""
    never = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if answer is None:
            await never.wait()
        return answer or b""

    async with raw_upstream(respond) as upstream:
        url = upstream.url + "/base/"
        async with opened(url, health_path="/up%2F?deep=1", health_timeout_seconds=seconds) as origin:
            good = await origin.probe()
            assert origin.state().in_use == origin.state().idle == 0
        await eventually(lambda: upstream.open_connections == 0 or answer is None)
        never.set()
    assert len(upstream.requests) == 1
    return good, upstream.requests[0]


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/login\r\nContent-Length: 0\r\n\r\n", True),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", False),
    (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", False),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", False),
]


@pytest.mark.parametrize(("answer", "good"), ANSWERS)
async def test_answers_to_health_checks(answer: bytes, good: bool) -> None:
    """2xx and 3xx are good, redirects are not followed; the connection is its own and closed afterwards."""
    result, received = await answer_of(answer)
    assert result is good
    assert received.target == b"/up%2F?deep=1"
    assert received.one(b"user-agent") == CHECKER.encode()
    assert received.one(b"connection") == b"close"


async def test_health_check_that_takes_too_long_is_bad() -> None:
    good, _ = await answer_of(None, seconds=0.05)
    assert not good


async def test_health_check_of_a_closed_pool_is_bad() -> None:
    async with opened("http://127.0.0.1:1", health_path="/") as origin:
        await origin.close()
        with pytest.raises(GatewayError):
            await origin.lease()
        with pytest.raises(RuntimeError):  # keep_checking bears it; at a stop the task has ended before
            await origin.probe()
