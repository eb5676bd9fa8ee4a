"""Checks of ``[server]`` that need several of its options, or the files that they name."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.settings.problems import Problem, Sound
from gateway.settings.readable import authorities_problem, certificate_problem
from gateway.settings.tables.server import Server
from gateway.settings.values import ip_version, split_address

_WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, not listened on)


def server_problems(server: Server, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with addresses and TLS of the listener."""
    place = ("server",)
    if sound.options(place, "listen"):
        yield from _listen(server)
        if sound.options(place, "admin_listen") and any(_overlap(one, server.admin_listen) for one in server.addresses):
            yield (*place, "admin_listen"), "is the address of `listen`; the admin port is a port of its own"
    if server.admin_hosts and server.admin_listen.startswith("unix:") and sound.options(place, "admin_hosts"):
        yield (
            (*place, "admin_hosts"),
            "has no effect: `admin_listen` is a Unix socket, where the Host header is not checked",
        )
    if sound.options(place, "tls_cert", "tls_key", "tls_client_ca"):
        if server.tls_cert and not server.tls_key:
            yield (*place, "tls_key"), "is required with `tls_cert`"
        elif server.tls_key and not server.tls_cert:
            yield (*place, "tls_cert"), "is required with `tls_key`"
        elif server.tls_cert and (problem := certificate_problem(server.tls_cert, server.tls_key)):
            yield (*place, problem[0]), problem[1]
        if server.tls_client_ca and not server.tls_cert and not server.tls_key:
            yield (*place, "tls_client_ca"), "has no effect without `tls_cert` and `tls_key`"
        elif server.tls_client_ca and (text := authorities_problem(server.tls_client_ca)):
            yield (*place, "tls_client_ca"), text
    optional = server.tls_client_auth != "required"
    if optional and not server.tls_client_ca and sound.options(place, "tls_client_auth", "tls_client_ca"):
        yield (*place, "tls_client_auth"), "has no effect without `tls_client_ca`"


def _listen(server: Server) -> Iterator[Problem]:
    addresses = server.addresses
    for index, one in enumerate(addresses):
        for earlier, other in enumerate(addresses[:index]):
            if _overlap(one, other):
                text = "is also" if one == other else "overlaps"
                yield ("server", "listen", index), f"{text} listen[{earlier}]: each address can be listened on once"
                break
    if server.tls_cert and all(one.startswith("unix:") for one in addresses):
        yield ("server", "tls_cert"), "has no effect: `listen` has no TCP address, and a Unix socket stays plain"


def _overlap(one: str, other: str) -> bool:
    """Tell whether one connection could arrive at both addresses. `[::]` holds no IPv4 address."""
    if one.startswith("unix:") or other.startswith("unix:"):
        return one == other
    (host, port), (other_host, other_port) = split_address(one), split_address(other)
    if port != other_port or not port:
        return False
    families = {ip_version(host), ip_version(other_host)} - {0}
    return host == other_host or (len(families) < 2 and bool(_WILDCARDS & {host, other_host}))
