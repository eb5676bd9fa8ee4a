"""One request's head, read strictly; how its bytes may be cut is ``test_message_scanner.py``'s (R200-R218)."""

from __future__ import annotations

import pytest

from gateway.errors import Reasons
from gateway.http1.request_head import MalformedError, parse_head, request_framing


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/3"])
@pytest.mark.rule("R217")
def test_other_versions_have_their_own_reason(version: bytes) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_head(b"GET / " + version + b"\r\nHost: h\r\n\r\n")
    assert refused.value.reason is Reasons.HTTP_VERSION


@pytest.mark.rule("R262", "R264")
def test_head_is_read_as_it_stands() -> None:
    """Names and values byte for byte, order and repetition kept."""
    head = parse_head(b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-a:  1\t\r\nx-A: \xff\r\nEmpty:\r\n\r\n")
    assert (head.method, head.target, head.http_11) == (b"GET", b"/a?b", True)
    assert head.headers == ((b"Host", b"h"), (b"X-a", b"1"), (b"x-A", b"\xff"), (b"Empty", b""))


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"1"), (b"content-length", b"1")],
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"Content-Length", b"+1")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
    ],
)
@pytest.mark.rule("R203", "R204", "R205", "R206")
def test_framing_with_two_readings_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(MalformedError):
        request_framing(tuple(headers), http_11=True)
