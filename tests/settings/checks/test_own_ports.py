"""An upstream that is the gateway itself is a fault."""

from __future__ import annotations

import copy
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.checks.own_ports import leads_to
from tests.settings.configs import SMALL, faults_of

LEADS = [
    ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ("http://127.0.0.1:8080/base", "0.0.0.0:8080"),
    ("https://127.5.5.5:8080", "0.0.0.0:8080"),
    ("http://127.1:8080", "127.0.0.1:8080"),
    ("http://2130706433:8080", "127.0.0.1:8080"),
    ("http://0x7f.1:8080", "127.0.0.1:8080"),
    ("http://0177.0.0.1:8080", "127.0.0.1:8080"),
    ("http://127.000.000.001:8080", "127.0.0.1:8080"),
    ("http://0:8080", "127.0.0.1:8080"),
    ("http://127.0.0.1.:8080", "127.0.0.1:8080"),
    ("http://admin.localhost:8080", "127.0.0.1:8080"),
    ("http://admin.localhost:8080", "[::]:8080"),
    ("http://[::1]:8080", "[::]:8080"),
    ("http://localhost:8080", "127.0.0.1:8080"),
    ("http://LOCALHOST:8080", "[::1]:8080"),
    ("http://127.0.0.1:8080", "localhost:8080"),
    ("http://0.0.0.0:8080", "127.0.0.1:8080"),
    ("http://[::]:8080", "[::1]:8080"),
    ("http://[::ffff:127.0.0.1]:8080", "127.0.0.1:8080"),
    ("http://localhost", "0.0.0.0:80"),
    ("https://localhost", "0.0.0.0:443"),
    (f"http://{socket.gethostname()}:8080", "0.0.0.0:8080"),
    (f"http://{socket.gethostname()}:8080", "127.0.0.1:8080"),
    ("http://10.9.8.7:8080", "10.9.8.7:8080"),
    ("unix:/run/gateway.sock", "unix:/run/gateway.sock"),
    ("unix:/run/gateway.sock:/base", "unix:/run/x/../gateway.sock"),
]
ELSEWHERE = [
    ("http://127.0.0.1:8081", "0.0.0.0:8080"),
    ("http://192.0.2.1:8080", "0.0.0.0:8080"),
    ("http://service:8080", "0.0.0.0:8080"),
    ("http://127.0.0.2:8080", "127.0.0.1:8080"),
    ("http://127.0.0.1:8080", "10.9.8.7:8080"),
    ("http://0.0.0.0:8080", "10.9.8.7:8080"),
    ("http://127.0.0.1:8080", "[::]:8080"),  # every IPv6 address and no IPv4 one
    ("http://[::1]:8080", "0.0.0.0:8080"),
    ("http://128.1:8080", "127.0.0.1:8080"),
    ("http://1.2.3.4.5:8080", "127.0.0.1:8080"),
    ("http://localhost", "0.0.0.0:443"),
    ("http://localhost:8080", "0.0.0.0:0"),
    ("unix:/run/service.sock", "unix:/run/gateway.sock"),
    ("unix:/run/gateway.sock", "127.0.0.1:80"),
    ("http://127.0.0.1:80", "unix:/run/gateway.sock"),
]


@pytest.mark.parametrize(("url", "address"), LEADS)
@pytest.mark.rule("R436")
def test_a_url_leads_to_what_it_reaches_on_this_machine(url: str, address: str) -> None:
    """CWE-918."""
    assert leads_to(url, address)


@pytest.mark.parametrize(("url", "address"), ELSEWHERE)
@pytest.mark.rule("R436")
def test_other_services_of_the_machine_are_no_fault(url: str, address: str) -> None:
    """The same port at another address, another port, another machine."""
    assert not leads_to(url, address)


def _config(*urls: str, **server: Any) -> dict[str, Any]:
    config = copy.deepcopy(SMALL)
    config["upstreams"][0]["urls"] = list(urls)
    return {"server": server, **config}


@pytest.mark.rule("R436")
def test_the_url_and_the_port_are_named(tmp_path: Path) -> None:
    """`check` refuses both, also by the defaults of the options."""
    found = faults_of(tmp_path, _config("http://192.0.2.1:9000", "http://127.0.0.1:9090", "http://localhost:8080"))
    assert [line.partition(":")[0] for line in found] == ["upstreams[0].urls[1]", "upstreams[0].urls[2]"]
    assert "leads to the gateway's own `server.admin_listen`: clients would reach the admin pages" in found[0]
    assert "leads to the gateway's own `server.listen`" in found[1]
    socket = _config("unix:/run/admin.sock", admin_listen="unix:/run/admin.sock")
    assert "server.admin_listen" in faults_of(tmp_path, socket)[0]


def test_an_address_with_a_fault_of_its_own_gives_no_second_one(tmp_path: Path) -> None:
    found = faults_of(tmp_path, _config("http://127.0.0.1:9090", admin_listen="nonsense"))
    assert [line.partition(":")[0] for line in found] == ["server.admin_listen"]


@pytest.mark.rule("R436")
def test_names_for_a_unix_socket_have_no_effect(tmp_path: Path) -> None:
    config = _config("http://127.0.0.1:9000", admin_listen="unix:/run/admin.sock", admin_hosts=["admin.internal"])
    assert faults_of(tmp_path, config) == [
        "server.admin_hosts: has no effect: `admin_listen` is a Unix socket, where the Host header is not checked"
    ]
