"""Which addresses are this machine's own."""

from __future__ import annotations

import contextlib
import socket

import pytest

from gateway.settings.checks.own_addresses import is_own, one_spelling


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "x.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"],
)
@pytest.mark.rule("R436")
def test_loopback_and_any_address_are_own(host: str) -> None:
    assert is_own(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "localhost.example.com", "api.example.com", "", "1.2.3"])
@pytest.mark.rule("R436")
def test_addresses_of_others_and_names_are_not(host: str) -> None:
    """Names are not looked up; 192.0.2.0/24 and 2001:db8::/32 belong to no machine (RFC 5737, RFC 3849)."""
    assert not is_own(host)


@pytest.mark.rule("R436")
def test_the_machines_own_name_is_own() -> None:
    """In a container it is what other services call the gateway."""
    assert is_own(socket.gethostname().upper())


@pytest.mark.rule("R436")
def test_addresses_of_interfaces_are_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the one by which this machine is reached from outside; what is one is what a socket can be bound to."""
    address = "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        address = probe.getsockname()[0]
    assert is_own(address)
    monkeypatch.setattr(socket.socket, "bind", lambda *_: None)
    assert is_own("192.0.2.7")


@pytest.mark.parametrize(
    ("host", "spelling"),
    [
        *((spelling, "127.0.0.1") for spelling in ("127.0.0.1.", "127.1", "2130706433", "0x7F.1", "0177.0.0.1")),
        *((spelling, "localhost") for spelling in ("LOCALHOST.", "a.localhost", socket.gethostname())),
        *(
            ("0", "0.0.0.0"),
            ("::FFFF:7f00:1", "127.0.0.1"),
            ("0:0::1", "::1"),
            ("A.Test", "a.test"),
            ("1.2.3.4.5", "1.2.3.4.5"),
        ),
    ],
)
@pytest.mark.rule("R436")
def test_hosts_are_compared_in_one_spelling(host: str, spelling: str) -> None:
    assert one_spelling(host) == spelling
