"""Which addresses are this machine's own.

Only the question lives here. It is answered by the kernel, from the interfaces
as they are: nothing is sent, and no name is looked up.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address


def is_own(host: str) -> bool:
    """Tell whether a host of a URL is this machine: loopback, any address, one of an interface, or its own name.

    Args:
        host: a name, or an address without brackets. Of names only ``localhost`` and the machine's own are known.
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return name == socket.gethostname().lower().rstrip(".")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified or _on_interface(address)


def _on_interface(address: IPv4Address | IPv6Address) -> bool:
    """Tell it by what the kernel says to a socket that is bound to the address and never connected."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
