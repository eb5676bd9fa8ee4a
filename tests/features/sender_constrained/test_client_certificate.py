"""A client's certificate in the spellings of the proxies that pass it on."""

from __future__ import annotations

import base64
import hashlib
import ssl
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.sender_constrained.client_certificate import MAX_VALUE, forwarded_thumbprint, thumbprint
from tests.support.certificates import authority
from tests.support.tokens.minting import b64


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return authority(folder).sign("client", "client.test").cert.read_text()


@pytest.fixture(scope="module")
def der(pem: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem)


@pytest.fixture(scope="module")
def wanted(der: bytes) -> str:
    return b64(hashlib.sha256(der).digest()).decode()


def spellings(pem: str, der: bytes) -> dict[str, str]:
    plain = base64.b64encode(der).decode()
    digest = hashlib.sha256(der).hexdigest()
    return {
        "RFC 9440": f":{plain}:",
        "nginx $ssl_client_escaped_cert": quote(pem, safe=""),
        "AWS load balancer": quote(pem, safe="+=/"),
        "HAProxy, Caddy, Traefik": plain,
        "without its padding": plain.rstrip("="),
        "Envoy, certificate": f'By=spiffe://a;Hash={"0" * 64};Cert="{quote(pem)}";Subject="CN=\\"x\\",O=y;z";URI=',
        "Envoy, hash": f'By=spiffe://a;Hash={digest};Subject=""',
        "blanks around": f"  {plain}\t",
    }


@pytest.mark.rule("R139")
def test_every_proxys_spelling_is_the_same_certificate(pem: str, der: bytes, wanted: str) -> None:
    """RFC 8705 section 3.1."""
    assert thumbprint(der) == wanted
    for who, value in spellings(pem, der).items():
        assert forwarded_thumbprint(value.encode()) == wanted, who


@pytest.mark.rule("R139")
def test_what_is_not_exactly_one_certificate_is_none(pem: str, der: bytes) -> None:
    """Nothing is guessed about a field with two readings."""
    plain = base64.b64encode(der).decode()
    escaped = quote(pem)
    values = [
        "",
        ":",
        f":{plain}",
        f":{plain}:, :{plain}:",
        f":{plain}:;a=1",
        "::",
        f"{plain}, {plain}",
        f"{plain},{plain}",
        quote(pem + pem),
        pem.replace("\n", " ").replace("CERTIFICATE", "PUBLIC KEY"),
        "(null)",
        "-",
        "=",
        f'Cert="{escaped}",Cert="{escaped}"',
        f'Cert="{escaped}";Cert="{escaped}"',
        f"Hash={'0' * 64};Hash={'1' * 64}",
        f"Hash={'0' * 63}",
        "Subject=x",
        'Cert=";Hash=' + "0" * 64,
        'Cert="broken";Hash=' + "0" * 64,
        "A" * (MAX_VALUE + 4),
    ]
    for value in values:
        assert forwarded_thumbprint(value.encode()) is None, value[:80]


@given(st.binary(max_size=200) | st.text(alphabet=':;,="\\%-ABCabc019+/ ').map(str.encode))
def test_any_bytes_are_read_without_a_fault(value: bytes) -> None:
    assert forwarded_thumbprint(value) is None or len(forwarded_thumbprint(value) or "") == 43


@pytest.mark.rule("R139")
def test_an_escaped_quote_does_not_end_a_value(pem: str, wanted: str) -> None:
    """A subject that tries to bring a certificate of its own."""
    forged = quote(pem)
    value = f'Hash={"0" * 64};Subject="CN=a\\";Cert={forged};X=\\""'
    assert forwarded_thumbprint(value.encode()) not in (None, wanted)
