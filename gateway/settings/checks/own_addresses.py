"""Which addresses are this machine's own.

Asks the kernel for them, and has the one spelling in which hosts are compared.
The kernel answers from the interfaces as they are: nothing is sent, and no name
is looked up.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

# IPv4 addresses as the resolver of the system takes them: fewer parts, octal and hexadecimal ones (127.1, 0x7f000001).
_OLD_SPELLING = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}").fullmatch


def one_spelling(host: str) -> str:
    """Return the host of a URL in one spelling: an address as it is usually written, a name in lower case.

    ``*.localhost`` and the machine's own name are ``localhost``, which many systems make of them.
    """
    name = host.lower().rstrip(".")
    if name.endswith(".localhost") or name == socket.gethostname().lower().rstrip("."):  # RFC 6761 section 6.3
        return "localhost"
    try:
        if _OLD_SPELLING(name):
            return socket.inet_ntoa(socket.inet_aton(name))
        address = ip_address(name)
    except (OSError, ValueError):
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def is_own(host: str) -> bool:
    """Tell whether a host of a URL is this machine: loopback, any address, one of an interface, or its own name.

    Args:
        host: a name, or an address without brackets. Of names only ``localhost`` and the machine's own are known.
    """
    name = one_spelling(host)
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
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
