"""Addresses in their one text, and which of them are trusted."""

from __future__ import annotations

import pytest

from gateway.http1.trusted_proxies import TrustedProxies, address_text, parse_node


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", b"192.0.2.1"),
        ("::ffff:192.0.2.1", b"192.0.2.1"),
        ("fe80::1%eth0", b"fe80::1"),
        ("2001:DB8::0:1", b"2001:db8::1"),
        ("", b"unknown"),
        ("/run/socket", b"unknown"),
        ("\N{SNOWMAN}", b"unknown"),
    ],
)
@pytest.mark.rule("R256")
def test_socket_addresses_have_one_text(text: str, address: bytes) -> None:
    """An IPv4 client of an IPv6 socket is an IPv4 client."""
    assert address_text(text) == address


@pytest.mark.parametrize(
    "text",
    [b"", b"1.2.3", b"1.2.3.4:", b"1.2.3.4:123456", b"[::1", b"::1]", b"[]", b"[::1]x", b"1.2.3.4:80:80", b"0x1"],
)
@pytest.mark.rule("R257")
def test_what_is_no_address_is_none(text: bytes) -> None:
    assert parse_node(text) is None


@pytest.mark.rule("R256")
def test_networks_decide_about_trust() -> None:
    """IPv4 and IPv6, hosts and networks; mapped addresses count as IPv4; unreadable ones never."""
    trusted = TrustedProxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])
    for address in (b"10.255.0.1", b"192.0.2.1", b"2001:db8::9", b"::ffff:10.0.0.1"):
        assert trusted.believes(address)
        assert trusted.believes(address)
    for address in (b"11.0.0.1", b"192.0.2.2", b"2001:db9::", b"unknown", b"", b"10.0.0"):
        assert not trusted.believes(address)
        assert not trusted.believes(address)
    with pytest.raises(ValueError, match="does not appear to be"):
        TrustedProxies(["proxy.test"])


@pytest.mark.rule("R256")
def test_memory_of_trust_is_bounded() -> None:
    """One peer after the other, and still right."""
    trusted = TrustedProxies(["10.0.0.0/8"])
    for number in range(10_000):
        assert not trusted.believes(b"192.0.%d.%d" % divmod(number, 256))
    assert trusted.believes(b"10.0.0.1")
    assert trusted.remembered <= 4096


@pytest.mark.parametrize("peer", [b"127.0.0.1", b"::ffff:127.0.0.1", b"[::ffff:7f00:1]:80", b"127.255.0.9"])
@pytest.mark.rule("R416", "C108")
def test_networks_of_mapped_addresses_match_ipv4_peers(peer: bytes) -> None:
    assert TrustedProxies(["::ffff:127.0.0.0/104"]).believes(peer)
    assert not TrustedProxies(["::ffff:10.0.0.0/104"]).believes(peer)
