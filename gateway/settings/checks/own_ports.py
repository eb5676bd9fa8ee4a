"""Upstreams that lead back into the gateway itself.

This file has this one check. The danger is the admin port, which asks for no
credential because no client reaches it: as an upstream it would be served to
all of them (CWE-918). The public port as an upstream is a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from os.path import realpath
from urllib.parse import urlsplit

from gateway.settings.checks.own_addresses import is_own, one_spelling
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings
from gateway.settings.values import ip_version, split_address, split_socket_url

#: The addresses for "any", and what a connection to them reaches.
_REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not listened on)

_TEXTS = {
    "listen": "leads to the gateway's own `server.listen`: every request would loop; name the service's own address",
    "admin_listen": "leads to the gateway's own `server.admin_listen`: clients would reach the admin pages;"
    " name the service's own address",
}


def own_port_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return the URLs of upstreams that lead to a port of this gateway."""
    server = settings.server
    own = [("listen", one) for one in server.addresses] if sound(("server", "listen")) else []
    if sound(("server", "admin_listen")):
        own.append(("admin_listen", server.admin_listen))
    for index, upstream in enumerate(settings.upstreams):
        for number, url in enumerate(upstream.urls):
            place = ("upstreams", index, "urls", number)
            if not sound(place):
                continue
            option = next((option for option, address in own if leads_to(url, address)), "")
            if option:
                yield place, _TEXTS[option]


def leads_to(url: str, address: str) -> bool:
    """Tell whether an upstream's checked URL leads to an address that this machine listens on.

    Names are not looked up: one that resolves to this machine, and is not its own, is not seen. Its own counts as
    `localhost`, which many systems make of it.
    """
    if url.startswith("unix:") or address.startswith("unix:"):
        return (
            url.startswith("unix:")
            and address.startswith("unix:")
            and realpath(split_socket_url(url)[0]) == realpath(address.removeprefix("unix:"))
        )
    parts = urlsplit(url)
    host, port = split_address(address)
    if not port or (parts.port or {"http": 80, "https": 443}[parts.scheme]) != port:
        return False
    wanted, listened = one_spelling(parts.hostname or ""), one_spelling(host)
    wanted = _REACHED.get(wanted, wanted)
    if wanted == listened or _same_loopback(wanted, listened):
        return True
    # What is listened on at every address of one family is reached by each of them, and by names.
    same_family = (":" in wanted) == (":" in listened) or not ip_version(wanted)
    return listened in _REACHED and same_family and is_own(wanted)


def _same_loopback(wanted: str, listened: str) -> bool:
    """Tell whether both are loopback by what `localhost` stands for: 127.0.0.1 and ::1."""
    usual = ("localhost", "127.0.0.1", "::1")
    return "localhost" in (wanted, listened) and wanted in usual and listened in usual
