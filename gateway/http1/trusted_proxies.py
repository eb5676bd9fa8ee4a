"""Addresses of clients and proxies, which proxies are believed, and which of their fields.

This file has the reading of addresses and the set of trusted networks. An
address that cannot be read is never trusted. The danger of this file is a field
that a trusted proxy does not write itself: what stands in it is the client's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

#: Which kind of forwarding fields a trusted proxy writes.
ForwardedFields = Literal["x-forwarded", "forwarded", "both"]

#: A block of addresses, of either family.
Network = IPv4Network | IPv6Network

_MAPPED_BITS = 96  # of ::ffff:0:0/96

# The forms that may have a port, which may be an obfuscated one (RFC 7239 section 6.3).
_WITH_PORT = re.compile(r"(?:([0-9.]+)|\[([^\[\]]+)\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?").fullmatch

#: The address of every client of a Unix socket, and its spelling in Forwarded (RFC 7239 section 6.3).
UNIX, UNIX_NODE = b"unix", b"_unix"

#: What has no known address (RFC 7239 section 6.2).
UNKNOWN = b"unknown"

_X_FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"})

#: The forwarding fields that the gateway itself reads and writes.
FORWARDING = _X_FORWARDED | {b"forwarded"}

#: By ``server.forwarded_fields``: those that a trusted proxy writes itself, and is believed in.
_BELIEVED = {"x-forwarded": _X_FORWARDED, "forwarded": frozenset({b"forwarded"}), "both": FORWARDING}

#: Trust decisions remembered per gateway; peers are few, and a full memory starts anew.
_MAX_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a client connection.

    Attributes:
        address: its IP address as text (see ``address_text``), or ``UNIX``.
        secure: the connection is TLS.
        port: the port that it came in on; 0 for a Unix socket.
    """

    address: bytes
    secure: bool
    port: int


def parse_node(text: bytes) -> IPv4Address | IPv6Address | None:
    """Read an address, with or without port and brackets (RFC 7239 section 6); None when the text is not an address.

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
    """Return the canonical text of a socket's address, or ``b"unknown"`` without one (RFC 7239 section 6.2)."""
    address = parse_node(host.encode("latin-1", "replace"))
    return UNKNOWN if address is None else str(address).encode("ascii")


def plain_network(block: Network) -> Network:
    """Return the IPv4 block that a block of IPv4-mapped addresses stands for; any other block as it is."""
    mapped = block.network_address.ipv4_mapped if isinstance(block, IPv6Network) else None
    if mapped is None or block.prefixlen < _MAPPED_BITS:
        return block
    return IPv4Network((int(mapped), block.prefixlen - _MAPPED_BITS))


class TrustedProxies:
    """The networks whose forwarding fields are believed. Empty: no forwarding field is believed.

    Args:
        networks: CIDRs and ``unix``, as ``server.trusted_proxies`` has them.
        fields: which kind of forwarding fields they write, as ``server.forwarded_fields`` has it.

    Attributes:
        fields: the names of the fields in which they are believed, in lower case.

    Raises:
        ValueError: when one of them is no network.
    """

    __slots__ = ("_networks", "_remembered", "_unix", "fields")

    def __init__(self, networks: Iterable[str] = (), fields: ForwardedFields = "x-forwarded") -> None:
        given = list(networks)
        self._networks = tuple(
            plain_network(ip_network(network, strict=False)) for network in given if network != "unix"
        )
        self._unix = "unix" in given
        self._remembered: dict[bytes, bool] = {}
        self.fields: frozenset[bytes] = _BELIEVED[fields]

    @property
    def remembered(self) -> int:
        """Of how many addresses it is remembered whether they are believed."""
        return len(self._remembered)

    def believes(self, address: bytes) -> bool:
        """Whether forwarding fields from this address are believed."""
        if address == UNIX:
            return self._unix
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
