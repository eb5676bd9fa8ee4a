"""The files with which the gateway proves to an authorization server who it is: a client's secret, or its private key.

Reads them; what is sent is ``outbound/client_authentication.py``'s. The danger
is the content in a message: errors say what is wrong, never what is in the
file.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from gateway.settings.readable import read_regular, without_mark

ClientKeyType = RSAKey | ECKey | OKPKey

#: The largest secret and key file.
_MAX_FILE_BYTES = 64 * 1024

#: Least bits of an RSA key (RFC 7518 section 3.3).
_MIN_RSA_BITS = 2048

# What a key can sign with, the one that follows from the key alone first (RFC 7518 section 3.1, RFC 9864).
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("Ed25519", "EdDSA"),
}


class ClientKey(NamedTuple):
    """A client's private key.

    Attributes:
        key: the key.
        algorithm: what it signs with (RFC 7518 section 3.1).
        key_id: its ``kid``; None when the file gives none.
    """

    key: ClientKeyType
    algorithm: str
    key_id: str | None


class _ShortKeyError(Exception):
    pass


def read_client_secret(file: str) -> str:
    """Return the secret in a file, without the line end behind it.

    Raises:
        ValueError: what is wrong with the file.
    """
    data = without_mark(read_regular(file, _MAX_FILE_BYTES))
    try:
        secret = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("this file is not UTF-8 text") from None
    if not secret:
        raise ValueError("this file is empty")
    if "\n" in secret or "\r" in secret or "\0" in secret:
        raise ValueError("this file has more than one line")
    return secret


def read_client_key(file: str) -> ClientKey:
    """Return the private key in a file: PEM, or a JWK.

    Raises:
        ValueError: what is wrong with the file.
    """
    data = without_mark(read_regular(file, _MAX_FILE_BYTES))
    try:
        key, wanted, key_id = _from_jwk(data) if data.lstrip()[:1] == b"{" else (_from_pem(data), None, None)
    except _ShortKeyError:
        raise ValueError(f"this file holds an RSA key of less than {_MIN_RSA_BITS} bits") from None
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm, JoseError):
        raise ValueError("this file holds no private key, as PEM without a password or as a JWK") from None
    possible = _RSA if isinstance(key, RSAKey) else _CURVES.get(key.curve_name, ())
    if not possible:
        raise ValueError("this file holds a key of a curve that is not used here: P-256, P-384, P-521 and Ed25519 are")
    if wanted is not None and wanted not in possible:
        raise ValueError("this file holds a JWK whose `alg` is not one of its key")
    return ClientKey(key, wanted or possible[0], key_id)


def _from_pem(data: bytes) -> ClientKeyType:
    private = load_pem_private_key(data, None)
    if isinstance(private, RSAPrivateKey):
        if private.key_size < _MIN_RSA_BITS:  # the library would only warn
            raise _ShortKeyError
        return RSAKey.import_key(private)
    if isinstance(private, EllipticCurvePrivateKey):
        return ECKey.import_key(private)
    if isinstance(private, Ed25519PrivateKey):
        return OKPKey.import_key(private)
    raise ValueError


def _from_jwk(data: bytes) -> tuple[ClientKeyType, str | None, str | None]:
    members = json.loads(data)
    algorithm, key_id = members.pop("alg", None), members.get("kid")
    if not isinstance(algorithm, str | None) or not isinstance(key_id, str | None):
        raise ValueError
    # What the key is for is for its owner to say; "use" and "key_ops" of a signing key are of no interest here.
    material = {name: value for name, value in members.items() if name not in ("use", "key_ops", "kid", "ext")}
    if material.get("kty") == "RSA" and len(material["n"]) < _MIN_RSA_BITS // 6:
        raise _ShortKeyError
    key = JWKRegistry.import_key(material)
    if not isinstance(key, RSAKey | ECKey | OKPKey) or not key.is_private:
        raise ValueError
    return key, algorithm, key_id
