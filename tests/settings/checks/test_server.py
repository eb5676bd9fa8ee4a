"""Checks of ``[server]``: addresses that overlap, and TLS options that do not fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import changed, faults_of
from tests.support.certificates import authority

# fmt: off
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a key without a certificate": ("server", {"tls_key": "key.pem"}, "server.tls_cert: is required with `tls_key`"),
    "a certificate without a key": ("server", {"tls_cert": "cert.pem"}, "server.tls_key: is required with `tls_cert`"),
    "client certificates without TLS": (
        "server", {"tls_client_ca": "ca.pem"}, "server.tls_client_ca: has no effect without `tls_cert` and `tls_key`"),
    "the admin port on the public port": (
        "server", {"listen": "127.0.0.1:9090"},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "the admin port under a wildcard": (
        "server", {"listen": "0.0.0.0:9090"},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "the admin port on one of several": (
        "server", {"listen": ["127.0.0.1:1", "127.0.0.1:9090"]},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "an address twice": (
        "server", {"listen": ["127.0.0.1:1", "unix:/a", "127.0.0.1:1"]},
        "server.listen[2]: is also listen[0]: each address can be listened on once"),
    "an address under a wildcard": (
        "server", {"listen": ["0.0.0.0:1", "127.0.0.1:1"]},
        "server.listen[1]: overlaps listen[0]: each address can be listened on once"),
    "a name under a wildcard of either family": (
        "server", {"listen": ["localhost:1", "[::]:1"]},
        "server.listen[1]: overlaps listen[0]: each address can be listened on once"),
    "no address": ("server", {"listen": []}, "server.listen: must not be empty"),
    "a wrong address among several": (
        "server", {"listen": ["127.0.0.1:1", "nowhere"]},
        "server.listen[1]: must be host:port, [v6]:port or unix:/path, with a port up to 65535"),
}
# fmt: on


@pytest.mark.parametrize("case", CONTRADICTIONS)
@pytest.mark.rule("R381", "R383")
def test_a_contradiction_is_a_fault_at_its_key(case: str, tmp_path: Path) -> None:
    """What can never apply or points nowhere stops the start."""
    table, options, fault = CONTRADICTIONS[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]


@pytest.mark.parametrize(
    "listen",
    [
        *("127.0.0.1:8080", "unix:/run/gateway.sock", "127.0.0.1:0", "[::1]:9090", "[::]:9090"),
        ["0.0.0.0:8080", "[::]:8080", "unix:/run/gateway.sock"],
        ["127.0.0.1:1", "127.0.0.1:2", "[::]:1"],
        ["127.0.0.1:0", "127.0.0.1:0"],
    ],
)
def test_different_addresses_are_no_contradiction(listen: str | list[str], tmp_path: Path) -> None:
    """Port 0 is another port each time; a v4 and a v6 address are two."""
    admin = "127.0.0.1:0" if listen == "127.0.0.1:0" else "127.0.0.1:9090"
    assert faults_of(tmp_path, changed("server", listen=listen, admin_listen=admin)) == []


@pytest.mark.rule("C111")
def test_a_certificate_without_a_tcp_address_is_a_fault(tmp_path: Path) -> None:
    """A Unix socket stays plain, and a configuration must not look otherwise."""
    own = authority(tmp_path).sign("own", "localhost")
    config = changed("server", listen="unix:/run/g.sock", tls_cert=str(own.cert), tls_key=str(own.key))
    (fault,) = faults_of(tmp_path, config)
    assert fault.startswith("server.tls_cert: has no effect: `listen` has no TCP address")


def test_one_socket_file_cannot_serve_both(tmp_path: Path) -> None:
    config = changed("server", listen="unix:/run/g.sock", admin_listen="unix:/run/g.sock")
    assert [line.partition(":")[0] for line in faults_of(tmp_path, config)] == ["server.admin_listen"]


def test_certificates_that_nobody_is_asked_for_are_a_fault(tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, changed("server", tls_client_auth="optional"))
    assert fault == "server.tls_client_auth: has no effect without `tls_client_ca`"
