"""The files with a client's secret or key: what is read, and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.settings.client_credentials import read_client_key, read_client_secret

RSA, EC = RSAKey.generate_key(2048), ECKey.generate_key("P-256")


def written(folder: Path, data: bytes | str | dict[str, Any]) -> str:
    file = folder / "file"
    text = json.dumps(data) if isinstance(data, dict) else data
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


@pytest.mark.parametrize(
    ("content", "secret"),
    [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), (" a b ", " a b "), ("a:b%c+é\n", "a:b%c+é")],
)
def test_secret_is_the_one_line_of_its_file(content: str, secret: str, tmp_path: Path) -> None:
    assert read_client_secret(written(tmp_path, content)) == secret


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb", "more than one line"),
        (b"a\n\n", "more than one line"),
        (b"a\0", "more than one line"),
        (b"\xff", "not UTF-8 text"),
        (b"x" * 70_000, "more than 65536 bytes"),
    ],
)
def test_file_without_one_secret_is_a_fault(content: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=problem):
        read_client_secret(written(tmp_path, content))


def test_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    for read in (read_client_secret, read_client_key):
        with pytest.raises(ValueError, match="cannot be read"):
            read(str(tmp_path / "none"))


KEYS = [
    pytest.param(RSA, "RS256", id="rsa"),
    pytest.param(EC, "ES256", id="p-256"),
    pytest.param(ECKey.generate_key("P-384"), "ES384", id="p-384"),
    pytest.param(ECKey.generate_key("P-521"), "ES512", id="p-521"),
    pytest.param(OKPKey.generate_key("Ed25519"), "Ed25519", id="ed25519"),
]


@pytest.mark.parametrize(("key", "algorithm"), KEYS)
def test_algorithm_follows_from_the_key(key: Any, algorithm: str, tmp_path: Path) -> None:
    """RFC 7518 section 3.1, RFC 9864: alike for PEM and JWK."""
    found = read_client_key(written(tmp_path, key.as_pem(private=True)))
    assert (found.algorithm, found.key_id, found.key.thumbprint()) == (algorithm, None, key.thumbprint())
    jwk = {**key.as_dict(private=True), "kid": "k1", "use": "sig", "key_ops": ["verify"]}
    found = read_client_key(written(tmp_path, jwk))
    assert (found.algorithm, found.key_id, found.key.thumbprint()) == (algorithm, "k1", key.thumbprint())


@pytest.mark.parametrize("algorithm", ["RS512", "PS256"])
def test_jwk_may_name_another_algorithm_of_its_key(algorithm: str, tmp_path: Path) -> None:
    assert read_client_key(written(tmp_path, {**RSA.as_dict(private=True), "alg": algorithm})).algorithm == algorithm


def rsa_pem(bits: int, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


BAD_KEYS = [
    pytest.param(b"", "holds no private key", id="empty"),
    pytest.param(b"{", "holds no private key", id="no-json"),
    pytest.param(RSA.as_pem(private=False), "holds no private key", id="public-pem"),
    pytest.param(EC.as_dict(private=False), "holds no private key", id="public-jwk"),
    pytest.param(OctKey.generate_key(256).as_dict(private=True), "holds no private key", id="symmetric"),
    pytest.param({**EC.as_dict(private=True), "kid": 5}, "holds no private key", id="kid"),
    pytest.param({**EC.as_dict(private=True), "x": 5}, "holds no private key", id="x"),
    pytest.param({**EC.as_dict(private=True), "alg": "RS256"}, "`alg` is not one of its key", id="alg"),
    pytest.param(ECKey.generate_key("secp256k1").as_pem(private=True), "curve that is not used", id="curve"),
    pytest.param(OKPKey.generate_key("X25519").as_pem(private=True), "holds no private key", id="x25519"),
    pytest.param(rsa_pem(2048, b"x"), "holds no private key", id="encrypted"),
    pytest.param(rsa_pem(1024), "less than 2048 bits", id="short"),
    pytest.param({**RSA.as_dict(private=True), "n": "AQAB"}, "less than 2048 bits", id="short-jwk"),
    pytest.param({**RSA.as_dict(private=True), "n": 5}, "holds no private key", id="n"),
]


@pytest.mark.parametrize(("content", "problem"), BAD_KEYS)
def test_file_without_a_usable_key_is_a_fault(content: Any, problem: str, tmp_path: Path) -> None:
    """No message quotes the file."""
    with pytest.raises(ValueError, match=problem) as caught:
        read_client_key(written(tmp_path, content))
    assert caught.value.__cause__ is None


@pytest.mark.rule("C109")
def test_a_byte_order_mark_is_no_part_of_a_secret_or_key(tmp_path: Path) -> None:
    """A secret with U+FEFF in front would be refused by the issuer, and the reason could not be seen."""
    file = tmp_path / "secret"
    file.write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    assert read_client_secret(str(file)) == "s3cret"
    private = rsa.generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(b"\xef\xbb\xbf" + pem)
    assert read_client_key(str(file)).algorithm == "RS256"
    file.write_bytes("s3cret".encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-16"):
        read_client_secret(str(file))
