"""Heads of requests made from pairs, read as the gateway reads them, and the header section that its upstream gets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from gateway.http1.fields import render_lines
from gateway.http1.request_head import HeadReader, RequestHead
from gateway.http1.trusted_proxies import Peer
from gateway.server.request.facts import framing
from gateway.upstream.headers.forwarded import Forwarding
from gateway.upstream.headers.header_policy import HeaderPolicy, header_policy
from gateway.upstream.headers.rewrite import client_lines, upstream_head
from tests.support.wire.fields import fields

Pair = tuple[bytes, bytes]

#: The default names of identity headers, no trusted proxies, API keys in two fields.
PLAIN = header_policy(("x-user-id", "x-user-role", "x-scope"), b"gw", (), ["x-api-key", "partner-key", "dpop"])


@lru_cache(maxsize=64)
def reader_of(policy: HeaderPolicy) -> HeadReader:
    """Return the reader of a policy."""
    return HeadReader(policy.meaning, policy.usual)


def block_of(
    headers: Iterable[Pair], *, method: bytes = b"GET", target: bytes = b"/", http_version: bytes = b"1.1"
) -> bytes:
    """Return the bytes of a head, as they are: nothing is checked."""
    lines = [b"%b %b HTTP/%b" % (method, target, http_version), *(b"%b: %b" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def head_of(
    *headers: Pair,
    policy: HeaderPolicy = PLAIN,
    method: bytes = b"GET",
    target: bytes = b"/",
    http_version: bytes = b"1.1",
) -> RequestHead:
    """Return what the gateway reads in a head.

    Raises:
        MalformedError: it refuses it.
    """
    return reader_of(policy).read(block_of(headers, method=method, target=target, http_version=http_version))


def upstream_bytes(
    headers: Iterable[Pair],
    *,
    policy: HeaderPolicy = PLAIN,
    peer: Peer,
    identity: Sequence[Pair] = (),
    made_id: bytes = b"i",
    host: bytes = b"u",
    client_host: bytes = b"h",
    forward_authorization: bool = False,
    without: Iterable[bytes] = (),
    http_version: bytes = b"1.1",
) -> bytes:
    """Return the head that the upstream gets for a client's.

    Args:
        headers: the client's, Host or not.
        made_id: the request id, unless the client gives one.
        client_host: the host that the client asked for.
        without: the fields of the route's credentials.

    Raises:
        MalformedError: the gateway refuses the head.
    """
    head = head_of(*headers, policy=policy, http_version=http_version)
    forwarding = Forwarding(policy.trusted, policy.pseudonym, policy.stripped)
    return upstream_head(
        b"GET / HTTP/1.1",
        host,
        client_lines(head, send_credentials=forward_authorization, without=without),
        framing(head),
        forwarding.lines(peer, head.forwarding, client_host, http_11=head.http_11),
        render_lines(identity),
        head.request_id or made_id,
    )


def upstream_section(headers: Iterable[Pair], **options: Any) -> list[Pair]:
    """Return the fields of ``upstream_bytes``; values without outer white space."""
    written = upstream_bytes(headers, **options)
    lines = written.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert lines[0] == b"GET / HTTP/1.1"
    return list(fields(b"\n".join(lines[1:])))
