"""Addresses of clients and proxies, and which proxies are believed.

Only the reading of addresses and the set of trusted networks live here. An
address that cannot be read is never trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gateway.settings.values import plain_network

# The forms that may have a port, which may be an obfuscated one (RFC 7239 section 6.3).
_WITH_PORT = re.compile(r"(?:([0-9.]+)|\[([^\[\]]+)\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?").fullmatch

#: Trust decisions remembered per gateway; peers are few, and a full memory starts anew.
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a client connection.

    Attributes:
        address: its IP address as text (see ``address_text``), or ``b"unknown"``
            when it has none, as on a Unix socket.
        secure: the connection is TLS.
        port: the port that it came in on; 0 when there is none.
    """

    address: bytes
    secure: bool
    port: int


def parse_node(text: bytes) -> IPv4Address | IPv6Address | None:
    """Read an address, with or without port and brackets (RFC 7239 section 6); None when there is none.

    An IPv4 address that arrived over an IPv6 socket (``::ffff:192.0.2.1``) is
    the IPv4 address, and a zone (``%eth0``) is left out: it means nothing elsewhere.
    """
    node = text.decode("latin-1")
    parts = _WITH_PORT(node)
    if parts is not None:
        node = parts[1] or parts[2]
    try:
        address = ip_address(node.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def address_text(host: str) -> bytes:
    """Return the canonical text of a socket's address, ``b"unknown"`` when it is none (RFC 7239 section 6.2)."""
    address = parse_node(host.encode("latin-1", "replace"))
    return b"unknown" if address is None else str(address).encode("ascii")


class TrustedProxies:
    """The networks whose forwarding fields are believed. Empty: nobody's.

    Args:
        networks: CIDRs, as ``server.trusted_proxies`` has them.

    Raises:
        ValueError: when one of them is no network.
    """

    __slots__ = ("_networks", "_remembered")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(plain_network(ip_network(network, strict=False)) for network in networks)
        self._remembered: dict[bytes, bool] = {}

    def believes(self, address: bytes) -> bool:
        """Whether forwarding fields from this address are believed."""
        if not self._networks:
            return False
        known = self._remembered.get(address)
        if known is None:
            node = parse_node(address)
            known = node is not None and any(node in network for network in self._networks)
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[address] = known
        return known
