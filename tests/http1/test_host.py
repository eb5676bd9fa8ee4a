"""The host of a request: one spelling, or a refusal."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reasons
from gateway.http1.host import canonical_host, parse_host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        (b"api.example", "api.example"),
        (b"API.Example:443", "api.example"),
        (b"api.example.", "api.example"),
        (b"Api.Example.:8080", "api.example"),
        (b"h:", "h"),
        (b"h:0", "h"),
        (b"h:65535", "h"),
        (b"127.0.0.1:80", "127.0.0.1"),
        (b"my_host-1", "my_host-1"),
        (b"xn--caf-dma.test", "xn--caf-dma.test"),
        (b"[::1]:8080", "[::1]"),
        (b"[2001:DB8:0:0::1]", "[2001:db8::1]"),
        (b"[2001:db8::0:1]:", "[2001:db8::1]"),
    ],
)
@pytest.mark.rule("R243")
def test_spellings_of_a_host_are_one(value: bytes, host: str) -> None:
    """Letter case, port and the final dot make no difference."""
    assert parse_host([value], None, True) == host
    assert parse_host([value], None, False) == host


@pytest.mark.rule("R243")
def test_spellings_of_an_ipv4_mapped_address_are_one() -> None:
    """Which of the two texts is canonical differs between versions of Python."""
    assert canonical_host(b"[::ffff:192.0.2.1]") == canonical_host(b"[::FFFF:C000:201]")


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b" ", b"a b", b" h", b"h ", b"h/../x?@evil", b"h/", b"h?x", b"h#x", b"u@h", b"u:p@h", b"h\\x", b"h,i"),
        *(b"h:99999", b"h:65536", b"h:-1", b"h:+1", b"h:8 0", b"h:80:80", b"h:a", b":80", b"h:123456"),
        *(b".", b"..", b".h", b"a..b", b"h..", b"h%2e", b"%68", b"h!", b"h'", b"*", b"*.h"),
        *(b"\xc3\xa9.test", b"h\x00", b"h\x7f", b"h\t", b"h\r\n"),
        *(b"[", b"[]", b"[::1", b"::1", b"[::1]x"),
        *(b"[g::1]", b"[1.2.3.4]", b"[::1%25eth0]", b"[::1%eth0]", b"[v1.x]", b"[1::2::3]", b"[::1]:99999"),
        *(b"h" * 262, b"h." * 200),
    ],
)
@pytest.mark.rule("R220")
def test_what_is_no_host_is_refused(value: bytes) -> None:
    for http_11 in (True, False):
        with pytest.raises(GatewayError) as caught:
            parse_host([value], None, http_11)
        assert caught.value.reason is Reasons.BAD_HOST


@pytest.mark.rule("R220")
def test_http_11_has_exactly_one_host() -> None:
    """none and several are refused, also when they agree."""
    for values in ([], [b"h", b"h"], [b"h", b"i"], [b"h", b""]):
        with pytest.raises(GatewayError) as caught:
            parse_host(values, None, True)
        assert caught.value.reason is Reasons.BAD_HOST
    with pytest.raises(GatewayError):
        parse_host([b"h", b"h"], None, False)
    assert parse_host([], None, False) == ""


@pytest.mark.rule("R221")
def test_authority_of_the_target_replaces_the_host_field() -> None:
    """But the field must be there and well-formed all the same."""
    assert parse_host([b"other"], b"API.test:80", True) == "api.test"
    assert parse_host([], b"api.test", False) == "api.test"
    for values, authority in (([], b"h"), ([b"a b"], b"h"), ([b"h"], b"a b"), ([b"h"], b"u@h"), ([b"h"], b"h:99999")):
        with pytest.raises(GatewayError) as caught:
            parse_host(values, authority, True)
        assert caught.value.reason is Reasons.BAD_HOST


@given(st.binary(max_size=30) | st.from_regex(rb"\A[a-zA-Z0-9._\[\]:-]{1,20}\Z"))
@pytest.mark.rule("R220")
def test_any_value_gives_a_canonical_host_or_bad_host(value: bytes) -> None:
    """No other exception; what is accepted is already its own canonical form."""
    with suppress(GatewayError):
        host = canonical_host(value)
        assert host == host.lower()
        assert canonical_host(host.encode("ascii")) == host
