"""Leasing of upstream connections: reuse, and what connecting can run into."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gateway.errors import Reason
from gateway.proxy.upstreams import open_upstreams
from tests.proxy.pools import opened, refusal, served, settings
from tests.support.certificates import authority
from tests.support.clock import eventually
from tests.support.upstream import Received, raw_upstream


async def test_connection_is_used_again_and_state_tells_of_it() -> None:
    """Contract (admin port): in use, idle, waiting; R312."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        first = await origin.lease()
        assert (first.reused, origin.state().in_use, origin.state().idle) == (False, 1, 0)
        assert await served(first) == b"ok"
        assert (origin.state().in_use, origin.state().idle) == (0, 1)
        second = await origin.lease()
        assert (second.reused, origin.state().idle) == (True, 0)
        assert await served(second) == b"ok"
        assert origin.state().url == upstream.url
    assert upstream.connections == 1


async def test_lease_ends_once_however_often_it_is_told() -> None:
    """Release after discard, discard after release: the place is given back once."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=1) as origin:
        for first, second in (("discard", "release"), ("discard", "discard"), ("release", "discard")):
            lease = await origin.lease()
            getattr(lease, first)()
            getattr(lease, second)()
            assert origin.state().in_use == 0


async def test_fresh_lease_is_never_a_used_connection() -> None:
    """R310: what is sent again goes over a connection that cannot have been closed meanwhile."""
    async with raw_upstream() as upstream, opened(upstream.url) as origin:
        leases = [await origin.lease() for _ in range(3)]
        for lease in leases:
            await served(lease)
        fresh = await origin.lease(fresh=True)
        assert not fresh.reused
        assert await served(fresh) == b"ok"
    assert upstream.connections == 4


async def test_connection_that_spoke_unasked_is_not_used_again() -> None:
    """Response smuggling (RFC 9112 section 9.2): closed, and a new one is made."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writers.append(writer)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    writers: list[asyncio.StreamWriter] = []
    async with raw_upstream(respond) as upstream, opened(upstream.url) as origin:
        lease = await origin.lease()
        protocol = lease.protocol
        await served(lease)
        writers[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await eventually(lambda: protocol.should_close)
        second = await origin.lease()
        assert not second.reused
        assert await served(second) == b"ok"
        assert origin.state().in_use == 0
        await eventually(lambda: upstream.open_connections == 1)


async def test_handshake_that_is_not_answered_is_a_connect_timeout() -> None:
    """R315: 504; connect_timeout_seconds covers TLS."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        async with opened(url, connect_timeout_seconds=0.05) as origin:
            assert await refusal(origin) is Reason.UPSTREAM_CONNECT_TIMEOUT


async def test_refused_and_unknown_hosts_have_their_own_reasons() -> None:
    """Contract: 502; the operator can tell the one from the other. ``.invalid`` never exists (RFC 2606)."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{unused.getsockname()[1]}") as origin:
            assert await refusal(origin) is Reason.UPSTREAM_CONNECT
    async with opened("http://no-such-host.invalid", connect_timeout_seconds=10) as origin:
        assert await refusal(origin) is Reason.UPSTREAM_NAME


async def test_tls_faults_have_their_own_reason(tmp_path: Path) -> None:
    """R330: a certificate that nobody vouches for, and a server that does not speak TLS."""
    certificate = authority(tmp_path).sign("up", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    async with raw_upstream(tls=context) as upstream, opened(upstream.url) as origin:
        assert await refusal(origin) is Reason.UPSTREAM_TLS

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with opened(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as origin:
        assert await refusal(origin) is Reason.UPSTREAM_TLS
    server.close()


async def test_close_ends_leased_and_idle_connections_and_later_leases_are_refused() -> None:
    """Stop with requests running: no connection survives, and the numbers still come out right."""
    async with raw_upstream() as upstream, opened(upstream.url, pool_size=2) as origin:
        idle, leased = await origin.lease(), await origin.lease()
        await served(idle)
        await eventually(lambda: upstream.open_connections == 2)
        await origin.close()
        await eventually(lambda: upstream.open_connections == 0)
        leased.release()
        assert origin.state().in_use == 0
        assert await refusal(origin) is Reason.UPSTREAM_CONNECT
        await origin.close()


@pytest.mark.parametrize(
    ("url", "shown", "host", "base"),
    [
        ("http://up.example", "http://up.example", b"up.example", b""),
        ("http://up.example:8080/", "http://up.example:8080", b"up.example:8080", b""),
        ("https://up.example:443/api/", "https://up.example/api", b"up.example", b"/api"),
        ("http://[::1]:9000/a/b", "http://[::1]:9000/a/b", b"[::1]:9000", b"/a/b"),
        ("http://up.example/a%2Fb", "http://up.example/a%2Fb", b"up.example", b"/a%2Fb"),
    ],
)
async def test_url_is_taken_apart(url: str, shown: str, host: bytes, base: bytes) -> None:
    """R261: Host without the default port (RFC 9110 section 7.2); the base path as configured."""
    async with opened(url) as origin:
        assert (origin.url, origin.host, origin.base_path) == (shown, host, base)


async def test_failures_are_counted_by_reason() -> None:
    """Contract: /status shows failures."""
    upstream = open_upstreams([settings("http://127.0.0.1:1")])["main"]
    for reason in (Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_TIMEOUT, Reason.UPSTREAM_NAME):
        upstream.failed(reason)
    assert upstream.failures == {"upstream_timeout": 2, "upstream_name": 1}
    await upstream.close()
