"""What stands where a request should begin, and cannot become one (R428, R418, C118)."""

from __future__ import annotations

import pytest

from gateway.http1.first_bytes import KINDS, MAX_LOOK_BYTES, not_http
from gateway.http1.message_scanner import MessageScanner

REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r",
    b"\r\n\r\nM-SEARCH_2 http://a/b?c HTTP/1.0\r\nA: b\r\n",
    b"GET /" + b"a" * 3 * MAX_LOOK_BYTES + b" HTTP/1.1\r\nHost: a\r\n",
    b"GET / HTTP/2\r\n",  # refused for its version, once it is whole
)

# fmt: off
OTHERS = (
    ("tls", b"\x16\x03\x01\x02\x00\x01\x00"),
    ("tls", b"\x16"),
    ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n"),
    ("redis", b"*1\r\n$4\r\nPING\r\n"),
    ("proxy_protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
    ("proxy_protocol", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
    ("bare_lf", b"GET / HTTP/1.1\n"),
    ("bare_lf", b"GET / HTTP/1.1\r\nHost: a\n\n"),
    ("bare_lf", b"\n"),
    ("other", b"PING\r\n"),
    ("other", b"EHLO a.test\r\n"),
    ("other", b"GET  / "),
    ("other", b"\0"),
    ("other", b"A" * 33),
    ("other", b"get /"),
    ("other", b"\x05\x01\x00"),
)
# fmt: on


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.rule("R428")
def test_every_beginning_of_a_request_is_waited_for(request_: bytes) -> None:
    """A slow client is no other protocol, wherever its pieces end."""
    for end in [*range(min(len(request_), 64)), len(request_)]:
        assert not_http(request_[:end]) == ""


@pytest.mark.parametrize(("kind", "data"), OTHERS)
@pytest.mark.rule("R418", "R428")
def test_what_cannot_become_a_request_is_known_by_its_kind(kind: str, data: bytes) -> None:
    assert kind in KINDS
    assert not_http(data) == kind


@pytest.mark.parametrize(("kind", "data"), OTHERS)
@pytest.mark.rule("R428")
def test_reading_stops_at_once(kind: str, data: bytes) -> None:
    """On the first request of a connection, and on a later one."""
    for before in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        scanner = MessageScanner(4096)
        _, reason = scanner.feed(before + data)
        assert reason is not None
        if b"\r\n\r\n" not in data:  # else it is a head, and wrong
            assert scanner.not_http == kind


def test_a_look_costs_the_same_however_much_has_come() -> None:
    """CWE-407: a head that comes byte by byte is looked at each time."""
    assert not_http(b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_LOOK_BYTES + b"\n") == ""
