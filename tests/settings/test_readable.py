"""Files that options name are looked at before anything depends on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.settings.readable import read_regular, without_mark
from tests.settings.configs import changed, faults_of
from tests.support.certificates import authority


@pytest.mark.rule("R381")
def test_certificates_are_looked_at_before_the_start(tmp_path: Path) -> None:
    """What would fail when the listener starts, or with the first client, is named by `check`."""
    ca = authority(tmp_path / "ca")
    one, other = ca.sign("one", "localhost"), ca.sign("other", "localhost")
    nothing, text = str(tmp_path / "nothing"), tmp_path / "text.pem"
    text.write_text("no certificate")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )

    def fault(cert: object, key: object, **more: object) -> list[str]:
        options = {"tls_cert": str(cert), "tls_key": str(key), **{name: str(value) for name, value in more.items()}}
        return faults_of(tmp_path, changed("server", **options))

    assert fault(one.cert, one.key, tls_client_ca=ca.bundle) == []
    missing = "this file cannot be read: no such file or directory"
    assert fault(nothing, one.key) == [f"server.tls_cert: {missing}"]
    assert fault(one.cert, nothing) == [f"server.tls_key: {missing}"]
    assert fault(one.cert, one.key, tls_client_ca=nothing) == [f"server.tls_client_ca: {missing}"]
    assert fault(one.cert, tmp_path) == ["server.tls_key: this file cannot be read: is a directory"]
    assert fault(one.cert, other.key) == ["server.tls_key: is not the key of the certificate in `tls_cert`"]
    assert fault(text, one.key) == [
        "server.tls_cert: and `tls_key` do not form a PEM certificate chain and its private key"
    ]
    assert fault(one.cert, encrypted) == ["server.tls_key: is encrypted; encrypted keys are not supported: decrypt it"]
    assert fault(one.cert, one.key, tls_client_ca=text) == ["server.tls_client_ca: this file holds no PEM certificates"]
    assert faults_of(tmp_path, changed("issuers", jwks_ca_file=str(text))) == [
        "issuers[0].jwks_ca_file: this file holds no PEM certificates"
    ]
    assert faults_of(tmp_path, changed("issuers", jwks_ca_file=str(ca.bundle))) == []


@pytest.mark.rule("R384")
def test_a_key_pasted_instead_of_its_file_is_not_repeated(tmp_path: Path) -> None:
    secret = "-----BEGIN PRIVATE KEY-----\nMIG-secret"
    config = changed("server", tls_cert=secret, tls_key=secret, tls_client_ca=secret)
    config["issuers"][0]["jwks_ca_file"] = secret * 200
    lines = faults_of(tmp_path, config)
    assert [line.partition(":")[0] for line in lines] == [
        "server.tls_cert",
        "server.tls_client_ca",
        "issuers[0].jwks_ca_file",
    ]
    assert "secret" not in "\n".join(lines)


def test_regular_files_are_read_up_to_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular(str(file), 5) == b"12345"
    with pytest.raises(ValueError, match="has more than 4 bytes"):
        read_regular(str(file), 4)


def test_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), str(tmp_path), str(tmp_path / "none"), "\0"):
        with pytest.raises(ValueError, match=r"^this file cannot be read: ."):
            read_regular(name, 5)


#: Marks of encodings that editors write in front of text, and the encodings.
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.rule("C109")
def test_a_byte_order_mark_of_utf_8_counts_for_nothing() -> None:
    """Windows editors write one in front of text."""
    assert without_mark(b"\xef\xbb\xbf[server]\n") == b"[server]\n"
    assert without_mark(b"[server]\n") == b"[server]\n"
    assert without_mark(b"") == b""


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.rule("C109")
def test_text_in_another_unicode_encoding_is_named(encoding: str) -> None:
    """Not "invalid statement at line 1"."""
    with pytest.raises(ValueError, match="UTF-16 or UTF-32: save it as UTF-8"):
        without_mark("[server]\n".encode(encoding))


@pytest.mark.rule("C109")
def test_a_pem_file_with_a_byte_order_mark_is_named(tmp_path: Path) -> None:
    """OpenSSL passes over the first certificate of such a file without a word, and reads the others."""
    one, other = authority(tmp_path / "one"), authority(tmp_path / "other")
    marked = tmp_path / "marked.pem"
    marked.write_bytes(b"\xef\xbb\xbf" + Path(one.bundle).read_bytes() + Path(other.bundle).read_bytes())
    server = one.sign("server", "localhost")
    options = {"tls_cert": str(server.cert), "tls_key": str(server.key), "tls_client_ca": str(marked)}
    assert faults_of(tmp_path, changed("server", **options)) == [
        "server.tls_client_ca: this file begins with a byte order mark: save it as plain ASCII"
    ]
