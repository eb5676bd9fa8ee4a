"""Prepared keys: what an algorithm asks of a key, answered without looking at a JWK again."""

from __future__ import annotations

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.jwt.jose.prepared_key import PreparedKey
from tests.support.minting import SigningKey


@pytest.mark.parametrize(
    ("key", "bits"),
    [
        (RSAKey.import_key(SigningKey.rsa().public_jwk()), 0),
        (ECKey.import_key(SigningKey.ec(crv="P-521").public_jwk()), 521),
        (OKPKey.import_key(SigningKey.ed25519().public_jwk()), 0),
    ],
    ids=["RSA", "EC", "OKP"],
)
def test_an_algorithm_gets_the_public_key_and_the_size_of_its_curve(key: RSAKey | ECKey | OKPKey, bits: int) -> None:
    prepared = PreparedKey(key)
    assert prepared.get_op_key("verify") is prepared.public is key.public_key
    assert prepared.curve_key_size == bits
